//! Plans between proto and domain.

use std::ops::RangeInclusive;

use rowhouse_proto::common::v1 as common;
use rowhouse_proto::tenant::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_proto::well_known::FieldMask;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{Etag, Limits, TenantId};

use super::{Change, DisplayName, NewPlan, Plan, PlanName, TenantPlan};
use crate::tenant::Reason;

/// What an operator may change.
const CHANGEABLE: [&str; 2] = ["display_name", "limits"];

/// A tenant that shall have a plan.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) tenant: TenantId,
    pub(crate) plan: PlanName,
    pub(crate) overrides: Limits,
    pub(crate) reason: Reason,
}

/// Reads a request to create a plan.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn new_plan(request: proto::CreatePlanRequest) -> Result<NewPlan, Failure> {
    let Some(plan) = request.plan else {
        return Err(Failure::field("plan", "must be set"));
    };
    let mut violations = Violations::default();
    let name = violations.take("plan.name", plan.name.parse());
    let display_name = violations.take("plan.display_name", DisplayName::parse_required(&plan.display_name));
    let limits = read_limits(&mut violations, "plan.limits", plan.limits);
    let read = name.zip(display_name).map(|(name, display_name)| NewPlan {
        name,
        display_name,
        limits,
    });
    violations.finish(read)
}

/// Reads a request to change a plan.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn change(request: proto::UpdatePlanRequest) -> Result<Change, Failure> {
    let Some(plan) = request.plan else {
        return Err(Failure::field("plan", "must be set"));
    };
    let mut violations = Violations::default();
    let paths = paths(&mut violations, request.update_mask);
    let named = |path: &str| paths.iter().any(|named| named == path);
    let name = violations.take("plan.name", plan.name.parse());
    let display_name = named("display_name")
        .then(|| violations.take("plan.display_name", DisplayName::parse_required(&plan.display_name)));
    let limits = named("limits").then(|| read_limits(&mut violations, "plan.limits", plan.limits));
    let etag = etag(&mut violations, "plan.etag", &plan.etag);
    let read = name.map(|name| Change {
        name,
        display_name: display_name.flatten(),
        limits,
        etag,
    });
    violations.finish(read)
}

/// Reads a plan's name.
///
/// # Errors
/// A violation of `field`.
pub(crate) fn name(field: &'static str, text: &str) -> Result<PlanName, Failure> {
    text.parse().map_err(|fault: &str| Failure::field(field, fault))
}

/// Reads a request to delete a plan.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn name_and_etag(request: &proto::DeletePlanRequest) -> Result<(PlanName, Option<Etag>), Failure> {
    let mut violations = Violations::default();
    let name = violations.take("name", request.name.parse());
    let etag = etag(&mut violations, "etag", &request.etag);
    violations.finish(name.map(|name| (name, etag)))
}

/// Reads a request to give a tenant a plan.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn assignment(request: proto::SetTenantPlanRequest) -> Result<Assignment, Failure> {
    let mut violations = Violations::default();
    let tenant = violations.take("tenant_id", request.tenant_id.parse());
    let plan = violations.take("plan", request.plan.parse());
    let overrides = read_limits(&mut violations, "overrides", request.overrides);
    let reason = violations.take("reason", Reason::parse_required(&request.reason));
    let read = tenant.zip(plan).zip(reason).map(|((tenant, plan), reason)| Assignment {
        tenant,
        plan,
        overrides,
        reason,
    });
    violations.finish(read)
}

/// Writes a plan.
pub(crate) fn plan(plan: &Plan) -> proto::Plan {
    proto::Plan {
        name: plan.name.to_string(),
        display_name: plan.display_name.clone(),
        limits: Some(limits(plan.limits)),
        create_time: Some(timestamp(plan.created_at)),
        update_time: Some(timestamp(plan.updated_at)),
        etag: plan.etag.to_string(),
    }
}

/// Writes a tenant's plan.
pub(crate) fn tenant_plan(plan: &TenantPlan) -> proto::TenantPlan {
    proto::TenantPlan {
        tenant_id: plan.tenant.to_string(),
        plan: plan.plan.to_string(),
        overrides: Some(limits(plan.overrides)),
        limits: Some(limits(plan.limits)),
    }
}

/// Writes limits.
pub(crate) fn limits(limits: Limits) -> common::Limits {
    // Every bound fits: what is read below is.
    let number = |bound: Option<u32>| bound.map(|value| i32::try_from(value).unwrap_or(i32::MAX));
    common::Limits {
        requests_per_second: number(limits.requests_per_second),
        statement_timeout_ms: number(limits.statement_timeout_ms),
        contacts: number(limits.contacts),
        jobs_in_flight: number(limits.jobs_in_flight),
        seats: number(limits.seats),
        concurrent_transactions: number(limits.concurrent_transactions),
        mails_per_day: number(limits.mails_per_day),
    }
}

/// Reads limits; none where the message is absent.
fn read_limits(violations: &mut Violations, field: &str, limits: Option<common::Limits>) -> Limits {
    let limits = limits.unwrap_or_default();
    let mut read = |name: &str, value: Option<i32>, range: RangeInclusive<i32>| {
        let value = value?;
        if range.contains(&value) {
            return u32::try_from(value).ok();
        }
        let (least, most) = range.into_inner();
        violations.add(
            format_args!("{field}.{name}"),
            format!("must be {least} to {most}, or absent"),
        );
        None
    };
    Limits {
        requests_per_second: read("requests_per_second", limits.requests_per_second, 1..=1_000_000),
        statement_timeout_ms: read("statement_timeout_ms", limits.statement_timeout_ms, 10..=600_000),
        contacts: read("contacts", limits.contacts, 1..=100_000_000),
        jobs_in_flight: read("jobs_in_flight", limits.jobs_in_flight, 1..=10_000),
        seats: read("seats", limits.seats, 1..=1_000_000),
        concurrent_transactions: read("concurrent_transactions", limits.concurrent_transactions, 1..=64),
        mails_per_day: read("mails_per_day", limits.mails_per_day, 1..=1_000_000),
    }
}

fn etag(violations: &mut Violations, field: &str, text: &str) -> Option<Etag> {
    if text.is_empty() {
        return None;
    }
    violations.take(field, text.parse())
}

/// The paths that a mask names, all where it is absent or empty (AIP-134).
fn paths(violations: &mut Violations, mask: Option<FieldMask>) -> Vec<String> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        return CHANGEABLE.map(str::to_owned).to_vec();
    }
    for (index, path) in paths.iter().enumerate() {
        if !CHANGEABLE.contains(&path.as_str()) {
            violations.add("update_mask", "may name display_name and limits only");
        } else if paths.iter().take(index).any(|earlier| earlier == path) {
            violations.add("update_mask", "must name each field once");
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(failure: &Failure) -> Vec<&str> {
        failure.violations().iter().map(|one| one.field.as_str()).collect()
    }

    #[test]
    fn a_bound_that_is_absent_does_not_hold_and_0_is_none() {
        let with = |limits: common::Limits| {
            new_plan(proto::CreatePlanRequest {
                plan: Some(proto::Plan {
                    name: "small".to_owned(),
                    display_name: "Small".to_owned(),
                    limits: Some(limits),
                    ..Default::default()
                }),
            })
        };
        let read = with(common::Limits {
            seats: Some(3),
            ..Default::default()
        });
        let expected = Limits {
            seats: Some(3),
            ..Limits::default()
        };
        assert_eq!(read.unwrap().limits, expected);
        let wrong = common::Limits {
            requests_per_second: Some(0),
            statement_timeout_ms: Some(9),
            contacts: Some(-1),
            jobs_in_flight: Some(10_001),
            seats: Some(i32::MAX),
            concurrent_transactions: Some(65),
            mails_per_day: Some(0),
        };
        assert_eq!(
            fields(&with(wrong).unwrap_err()),
            [
                "plan.limits.requests_per_second",
                "plan.limits.statement_timeout_ms",
                "plan.limits.contacts",
                "plan.limits.jobs_in_flight",
                "plan.limits.seats",
                "plan.limits.concurrent_transactions",
                "plan.limits.mails_per_day"
            ]
        );
    }

    #[test]
    fn every_wrong_field_of_an_assignment_is_named() {
        let wrong = proto::SetTenantPlanRequest {
            tenant_id: "tenant_x".to_owned(),
            plan: "Big Plan".to_owned(),
            overrides: Some(common::Limits {
                seats: Some(0),
                ..Default::default()
            }),
            reason: String::new(),
        };
        assert_eq!(
            fields(&assignment(wrong).unwrap_err()),
            ["tenant_id", "plan", "overrides.seats", "reason"]
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let all = Limits {
            requests_per_second: Some(1_000_000),
            statement_timeout_ms: Some(600_000),
            contacts: Some(100_000_000),
            jobs_in_flight: Some(10_000),
            seats: Some(1_000_000),
            concurrent_transactions: Some(64),
            mails_per_day: Some(1_000_000),
        };
        let mut violations = Violations::default();
        assert_eq!(read_limits(&mut violations, "limits", Some(limits(all))), all);
        assert!(violations.finish(Some(())).is_ok());
    }
}
