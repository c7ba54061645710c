//! Tenants between proto and domain.

use rowhouse_proto::common::v1 as common;
use rowhouse_proto::tenant::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_proto::well_known::FieldMask;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::{Email, Etag, Placement, TenantId, optional};

use super::{Change, DisplayName, NewTenant, Reason, State, Tenant};
use crate::plan::PlanName;
use crate::server::{Labels, Wish};

/// Reads a request to create a tenant.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn new_tenant(request: proto::CreateTenantRequest) -> Result<NewTenant, Failure> {
    let mut violations = Violations::default();
    let Some(tenant) = request.tenant else {
        return Err(Failure::field("tenant", "must be set"));
    };
    let slug = violations.take("tenant.slug", tenant.slug.parse());
    let display_name = violations.take("tenant.display_name", DisplayName::parse_required(&tenant.display_name));
    let placement = violations.take("tenant.placement", placement(tenant.placement));
    let administrator = violations.take("administrator_email", Email::parse_new(&request.administrator_email));
    let labels = violations.take("server_labels", Labels::parse(request.server_labels));
    let plan = match request.plan.as_str() {
        "" => Some(PlanName::standard()),
        name => violations.take("plan", name.parse()),
    };
    let request = violations.take("request_id", optional(&request.request_id));
    let read = (|| {
        Some(NewTenant {
            slug: slug?,
            display_name: display_name?,
            server: Wish {
                placement: placement?,
                labels: labels?,
            },
            plan: plan?,
            administrator: administrator?,
            request: request?,
        })
    })();
    violations.finish(read)
}

/// Reads a request to change a tenant.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn change(request: proto::UpdateTenantRequest) -> Result<Change, Failure> {
    let mut violations = Violations::default();
    let Some(tenant) = request.tenant else {
        return Err(Failure::field("tenant", "must be set"));
    };
    let id = violations.take("tenant.id", tenant.id.parse());
    check_mask(&mut violations, request.update_mask);
    let display_name = violations.take("tenant.display_name", DisplayName::parse_required(&tenant.display_name));
    let etag = violations.take("tenant.etag", optional(&tenant.etag));
    let read = id.zip(display_name).zip(etag);
    let ((id, display_name), etag) = violations.finish(read)?;
    Ok(Change { id, display_name, etag })
}

/// Reads a tenant's id.
///
/// # Errors
/// A violation of `id`.
pub(crate) fn id(text: &str) -> Result<TenantId, Failure> {
    text.parse().map_err(|fault| Failure::field("id", fault))
}

/// Reads a tenant's id and why an operator does something to it.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn id_and_reason(id: &str, reason: &str) -> Result<(TenantId, Reason), Failure> {
    let mut violations = Violations::default();
    let id = violations.take("id", id.parse());
    let reason = violations.take("reason", Reason::parse_required(reason));
    violations.finish(id.zip(reason))
}

/// Reads which tenant is to be deleted, why, and the etag that it must still have.
///
/// # Errors
/// Every field that is wrong.
pub(crate) fn deletion(request: &proto::DeleteTenantRequest) -> Result<(TenantId, Reason, Option<Etag>), Failure> {
    let mut violations = Violations::default();
    let id = violations.take("id", request.id.parse());
    let reason = violations.take("reason", Reason::parse_required(&request.reason));
    let etag = violations.take("etag", optional(&request.etag));
    let ((id, reason), etag) = violations.finish(id.zip(reason).zip(etag))?;
    Ok((id, reason, etag))
}

/// Writes a tenant.
pub(crate) fn tenant(tenant: &Tenant) -> proto::Tenant {
    proto::Tenant {
        id: tenant.id.to_string(),
        slug: tenant.slug.clone(),
        display_name: tenant.display_name.clone(),
        state: state(tenant.state).into(),
        placement: placement_to_wire(tenant.placement).into(),
        server: tenant.server.to_string(),
        create_time: Some(timestamp(tenant.created_at)),
        update_time: Some(timestamp(tenant.updated_at)),
        etag: tenant.etag.to_string(),
        delete_time: tenant.deletion.map(|deletion| timestamp(deletion.deleted_at)),
        purge_time: tenant.deletion.map(|deletion| timestamp(deletion.purge_at)),
    }
}

/// Writes a placement.
pub(crate) fn placement_to_wire(placement: Placement) -> common::Placement {
    match placement {
        Placement::Schema => common::Placement::Schema,
        Placement::Shared => common::Placement::Shared,
        Placement::Database => common::Placement::Database,
    }
}

/// Reads a placement; none where it is unspecified or unknown.
pub(crate) fn placement_from_wire(number: i32) -> Option<Placement> {
    match common::Placement::try_from(number) {
        Ok(common::Placement::Schema) => Some(Placement::Schema),
        Ok(common::Placement::Shared) => Some(Placement::Shared),
        Ok(common::Placement::Database) => Some(Placement::Database),
        Ok(common::Placement::Unspecified) | Err(_) => None,
    }
}

fn state(state: State) -> proto::TenantState {
    match state {
        State::Provisioning => proto::TenantState::Provisioning,
        State::Active => proto::TenantState::Active,
        State::Suspending => proto::TenantState::Suspending,
        State::Suspended => proto::TenantState::Suspended,
        State::Resuming => proto::TenantState::Resuming,
        State::Restricting => proto::TenantState::Restricting,
        State::ReadOnly => proto::TenantState::ReadOnly,
        State::Deleting => proto::TenantState::Deleting,
        State::Deleted => proto::TenantState::Deleted,
        State::Undeleting => proto::TenantState::Undeleting,
        State::Purging => proto::TenantState::Purging,
        State::Purged => proto::TenantState::Purged,
    }
}

/// The default where none is named.
fn placement(number: i32) -> Result<Placement, &'static str> {
    if number == i32::from(common::Placement::Unspecified) {
        return Ok(Placement::Schema);
    }
    placement_from_wire(number).ok_or("is not a known placement")
}

/// The display name is all that can be changed; an absent or empty mask means what can be changed (AIP-134).
fn check_mask(violations: &mut Violations, mask: Option<FieldMask>) {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    for path in &paths {
        if path != "display_name" {
            violations.add("update_mask", "may name display_name only");
        }
    }
    if paths.len() > 1 {
        violations.add("update_mask", "must name each field once");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> proto::CreateTenantRequest {
        proto::CreateTenantRequest {
            tenant: Some(proto::Tenant {
                slug: "acme".to_owned(),
                display_name: "Acme".to_owned(),
                ..Default::default()
            }),
            administrator_email: "ada@example.com".to_owned(),
            request_id: String::new(),
            server_labels: Default::default(),
            plan: String::new(),
        }
    }

    fn fields(failure: Failure) -> String {
        let status = rowhouse_status_text(failure);
        let mut found: Vec<&str> = [
            "tenant.slug",
            "tenant.display_name",
            "tenant.placement",
            "tenant.etag",
            "tenant.id",
            "administrator_email",
            "request_id",
            "server_labels",
            "plan",
            "update_mask",
        ]
        .into_iter()
        .filter(|field| status.contains(&format!("\"{field}\"")))
        .collect();
        found.sort_unstable();
        found.join(" ")
    }

    fn rowhouse_status_text(failure: Failure) -> String {
        format!("{failure:?}")
    }

    #[test]
    fn what_is_right_is_read() {
        let new = new_tenant(request()).unwrap();
        assert_eq!(
            (new.slug.as_str(), new.server.placement, new.request),
            ("acme", Placement::Schema, None)
        );
        assert_eq!(new.plan, PlanName::standard());
    }

    #[test]
    fn every_wrong_field_is_named() {
        let wrong = proto::CreateTenantRequest {
            tenant: Some(proto::Tenant {
                slug: "Acme!".to_owned(),
                display_name: "a\0b".to_owned(),
                placement: 77,
                ..Default::default()
            }),
            administrator_email: "nobody".to_owned(),
            request_id: "1".to_owned(),
            server_labels: [(String::new(), String::new())].into(),
            plan: "Big Plan".to_owned(),
        };
        assert_eq!(
            fields(new_tenant(wrong).unwrap_err()),
            "administrator_email plan request_id server_labels tenant.display_name tenant.placement tenant.slug"
        );
        assert!(new_tenant(proto::CreateTenantRequest::default()).is_err());
    }

    #[test]
    fn an_administrator_begins_at_one_spelling_of_an_address() {
        let with = |email: &str| {
            let mut wanted = request();
            wanted.administrator_email = email.to_owned();
            new_tenant(wanted)
        };
        assert!(with("ada@b\u{fc}cher.example").is_ok());
        for other in ["ada@xn--bcher-kva.example", "\"ada\"@example.com", "ada@10.0.0.1"] {
            assert_eq!(fields(with(other).unwrap_err()), "administrator_email", "{other}");
        }
    }

    #[test]
    fn a_known_placement_is_read_and_another_is_refused() {
        let with = |placement: i32| {
            let mut wanted = request();
            wanted.tenant.as_mut().unwrap().placement = placement;
            new_tenant(wanted)
        };
        for (sent, read) in [
            (common::Placement::Schema, Placement::Schema),
            (common::Placement::Shared, Placement::Shared),
            (common::Placement::Database, Placement::Database),
        ] {
            assert_eq!(with(sent.into()).unwrap().server.placement, read);
        }
        for unknown in [4, -1, i32::MAX] {
            assert_eq!(fields(with(unknown).unwrap_err()), "tenant.placement");
        }
    }

    #[test]
    fn only_the_display_name_can_be_changed() {
        let with_mask = |paths: &[&str]| proto::UpdateTenantRequest {
            tenant: Some(proto::Tenant {
                id: TenantId::generate().to_string(),
                display_name: "Acme".to_owned(),
                ..Default::default()
            }),
            update_mask: Some(FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
        };
        assert!(change(with_mask(&["display_name"])).is_ok() && change(with_mask(&[])).is_ok());
        for paths in [
            &["id"][..],
            &["*"],
            &["display_name", "slug"],
            &["display_name", "display_name"],
        ] {
            assert_eq!(
                fields(change(with_mask(paths)).unwrap_err()),
                "update_mask",
                "{paths:?}"
            );
        }
    }

    #[test]
    fn a_damaged_etag_is_named() {
        let wrong = proto::UpdateTenantRequest {
            tenant: Some(proto::Tenant {
                id: "tenant_x".to_owned(),
                display_name: "Acme".to_owned(),
                etag: "7".to_owned(),
                ..Default::default()
            }),
            update_mask: None,
        };
        assert_eq!(fields(change(wrong).unwrap_err()), "tenant.etag tenant.id");
    }
}
