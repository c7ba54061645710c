//! Reports between proto and domain.

use rowhouse_proto::timestamp;
use rowhouse_proto::worker::v1 as proto;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{ReportId, optional};

use super::{Kind, NewReport, Report, State};

/// Reads a request to run a report.
///
/// # Errors
/// Every field that is wrong.
pub(super) fn new_report(request: &proto::RunReportRequest) -> Result<NewReport, Failure> {
    let mut violations = Violations::default();
    let kind = violations.take("kind", kind(request.kind));
    let request = violations.take("request_id", optional(&request.request_id));
    violations
        .finish(kind.zip(request))
        .map(|(kind, request)| NewReport { kind, request })
}

/// Reads a report's id.
///
/// # Errors
/// A violation of `id`.
pub(super) fn id(text: &str) -> Result<ReportId, Failure> {
    text.parse().map_err(|fault| Failure::field("id", fault))
}

/// A report as the caller sees it.
pub(super) fn report(report: &Report) -> proto::Report {
    let kind = match report.kind {
        Kind::Contacts => proto::ReportKind::Contacts,
    };
    let state = match report.state {
        State::Queued => proto::ReportState::Queued,
        State::Running => proto::ReportState::Running,
        State::Succeeded => proto::ReportState::Succeeded,
        State::Failed => proto::ReportState::Failed,
    };
    proto::Report {
        id: report.id.to_string(),
        kind: kind.into(),
        state: state.into(),
        progress_percent: report.progress_percent,
        row_count: report.row_count,
        size_bytes: report.size_bytes,
        failure: report.failure.clone().unwrap_or_default(),
        requester_id: report.requester.to_string(),
        create_time: Some(timestamp(report.created_at)),
        finish_time: report.finished_at.map(timestamp),
    }
}

fn kind(number: i32) -> Result<Kind, &'static str> {
    match proto::ReportKind::try_from(number) {
        Ok(proto::ReportKind::Contacts) => Ok(Kind::Contacts),
        Ok(proto::ReportKind::Unspecified) | Err(_) => Err("must be REPORT_KIND_CONTACTS"),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use rowhouse_proto::well_known::Timestamp;

    use super::*;
    use rowhouse_types::{TenantId, UserId};

    fn request(kind: i32, request_id: &str) -> proto::RunReportRequest {
        proto::RunReportRequest {
            kind,
            request_id: request_id.to_owned(),
        }
    }

    #[test]
    fn kinds_that_are_none_and_request_ids_that_are_none_are_refused() {
        assert!(new_report(&request(1, "")).unwrap().request.is_none());
        assert!(
            new_report(&request(1, "0197a6de-1c8f-7c1e-a4a5-5f0e9d6f3b21"))
                .unwrap()
                .request
                .is_some()
        );
        for kind in [0, 2, -1, i32::MAX] {
            assert!(new_report(&request(kind, "")).is_err(), "{kind}");
        }
        assert!(new_report(&request(1, "1")).is_err());
    }

    #[test]
    fn ids_of_other_kinds_are_refused() {
        assert!(id(&ReportId::generate().to_string()).is_ok());
        for text in ["", "report_", &TenantId::generate().to_string()] {
            assert!(id(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn where_the_file_is_stays_inside() {
        let shown = report(&Report {
            tenant: TenantId::generate(),
            id: ReportId::generate(),
            kind: Kind::Contacts,
            state: State::Succeeded,
            requester: UserId::generate(),
            platform: false,
            reason: Some("the reason".to_owned()),
            progress_percent: 100,
            row_count: 7,
            size_bytes: 700,
            file: Some("the/path".to_owned()),
            failure: None,
            created_at: DateTime::from_timestamp(1, 5).unwrap(),
            finished_at: None,
        });
        assert_eq!((shown.state, shown.row_count, shown.failure.as_str()), (3, 7, ""));
        assert_eq!(shown.create_time, Some(Timestamp { seconds: 1, nanos: 5 }));
        let all = format!("{shown:?}");
        assert!(!all.contains("the/path") && !all.contains("the reason"), "{all}");
    }
}
