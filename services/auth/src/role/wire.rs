//! Roles as messages.

use rowhouse_auth_kit::{Grant, Grants, Role};
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::timestamp;
use rowhouse_status::{Failure, Violations};
use rowhouse_types::Etag;

use super::{Change, Known, Listed, NewRole, PERMISSIONS_MAX, RoleName, RoleTitle, TenantRole};
use crate::catalog;
use crate::wire::{optional, wanted};

pub(super) fn new_role(request: &proto::CreateRoleRequest) -> Result<NewRole, Failure> {
    let role = request.role.as_ref();
    let role = role.ok_or_else(|| Failure::field("role", "must be set"))?;
    let mut violations = Violations::default();
    let name = violations.take("role.name", role.name.parse());
    let title = violations.take("role.display_name", RoleTitle::parse_required(&role.display_name));
    let grants = grants(&role.permissions, &mut violations);
    let request_id = violations.take("request_id", optional(&request.request_id));
    let read = name.zip(title).zip(grants).zip(request_id);
    violations.finish(read.map(|(((name, title), grants), request)| NewRole {
        name,
        title,
        grants,
        request,
    }))
}

/// What a role is to give. Each permission must be one of the catalogue, or stand for some of it.
fn grants(texts: &[String], violations: &mut Violations) -> Option<Grants> {
    if texts.is_empty() || texts.len() > PERMISSIONS_MAX {
        violations.add(
            "role.permissions",
            format!("must be 1 to {PERMISSIONS_MAX} permissions"),
        );
        return None;
    }
    let mut read = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let field = format!("role.permissions[{at}]");
        match text.parse::<Grant>() {
            Ok(grant) if catalog::gives_something(&grant) => read.push(grant),
            Ok(_) => violations.add(&field, "must be a permission of tenants that the catalogue lists, with @own or @team only where it says scoped"),
            Err(fault) => violations.add(&field, fault.to_string()),
        }
    }
    (read.len() == texts.len()).then(|| Grants::from_iter(read))
}

/// The change that a mask and its values ask for. Without a mask, the fields that are set count (AIP-134).
pub(super) fn change(request: &proto::UpdateRoleRequest) -> Result<Change, Failure> {
    let role = request.role.as_ref();
    let role = role.ok_or_else(|| Failure::field("role", "must be set"))?;
    let mut violations = Violations::default();
    let name = violations.take("role.name", role.name.parse());
    let etag = violations.take("role.etag", optional(&role.etag));
    let fields = [
        ("display_name", !role.display_name.is_empty()),
        ("permissions", !role.permissions.is_empty()),
    ];
    let [wants_title, wants_grants] = wanted(request.update_mask.as_ref(), fields, &mut violations);
    let title =
        wants_title.then(|| violations.take("role.display_name", RoleTitle::parse_required(&role.display_name)));
    let grants = wants_grants.then(|| grants(&role.permissions, &mut violations));
    let only_look = request.validate_only;
    violations.finish(name.zip(etag).map(|(name, etag)| Change {
        name,
        title: title.flatten(),
        grants: grants.flatten(),
        etag,
        only_look,
    }))
}

pub(super) fn tenant_role(request: &proto::GetRoleRequest) -> Result<TenantRole, Failure> {
    let name = request.name.parse();
    name.map_err(|fault| Failure::field("name", fault))
}

/// Which role to remove, and the etag where one is given.
pub(super) fn removal(request: &proto::DeleteRoleRequest) -> Result<(RoleName, Option<Etag>), Failure> {
    let mut violations = Violations::default();
    let name = violations.take("name", request.name.parse());
    let etag = violations.take("etag", optional(&request.etag));
    violations.finish(name.zip(etag))
}

pub(super) fn role(listed: Listed) -> proto::Role {
    let count = |holders| i32::try_from(holders).unwrap_or(i32::MAX);
    let member_count = count(listed.holders.members);
    let service_account_count = count(listed.holders.service_accounts);
    match listed.role {
        Known::BuiltIn(role) => proto::Role {
            name: role.to_string(),
            display_name: title(role).to_owned(),
            permissions: role.grants().to_strings(),
            built_in: true,
            member_count,
            service_account_count,
            ..proto::Role::default()
        },
        Known::Own(role) => proto::Role {
            name: role.name.as_str().to_owned(),
            display_name: role.title,
            permissions: role.grants.to_strings(),
            built_in: false,
            member_count,
            service_account_count,
            create_time: Some(timestamp(role.created)),
            update_time: Some(timestamp(role.updated)),
            etag: role.etag.to_string(),
        },
    }
}

fn title(role: Role) -> &'static str {
    match role {
        Role::SuperAdmin => "Super administrator",
        Role::TenantAdmin => "Administrator",
        Role::Manager => "Manager",
        Role::User => "User",
    }
}

#[cfg(test)]
mod tests {
    use rowhouse_proto::well_known::FieldMask;

    use super::*;

    fn message(name: &str, display_name: &str, permissions: &[&str]) -> proto::Role {
        proto::Role {
            name: name.to_owned(),
            display_name: display_name.to_owned(),
            permissions: permissions.iter().map(|text| (*text).to_owned()).collect(),
            ..proto::Role::default()
        }
    }

    fn faults(failure: &Failure) -> Vec<&str> {
        failure
            .violations()
            .iter()
            .map(|violation| violation.field.as_str())
            .collect()
    }

    #[test]
    fn every_fault_of_a_new_role_is_named_at_once() {
        let new = |role, request_id: &str| {
            let request_id = request_id.to_owned();
            new_role(&proto::CreateRoleRequest { role, request_id })
        };
        assert_eq!(faults(&new(None, "").unwrap_err()), ["role"]);
        let wrong = message(
            "user",
            "",
            &[
                "contacts:read@own",
                "contacts:fly",
                "tenants:create",
                "read",
                "CONTACTS:*",
                "members:read@own",
                "contacts:read@house",
            ],
        );
        assert_eq!(
            faults(&new(Some(wrong), "twice").unwrap_err()),
            [
                "role.name",
                "role.display_name",
                "role.permissions[1]",
                "role.permissions[2]",
                "role.permissions[3]",
                "role.permissions[4]",
                "role.permissions[5]",
                "role.permissions[6]",
                "request_id"
            ]
        );
        let many = vec!["contacts:read"; PERMISSIONS_MAX + 1];
        for permissions in [[].as_slice(), &many] {
            let refused = new(Some(message("sales_lead", "Sales lead", permissions)), "").unwrap_err();
            assert_eq!(faults(&refused), ["role.permissions"]);
        }
        let good = message(
            "sales_lead",
            "Sales lead",
            &["reports:*", "contacts:read", "contacts:read"],
        );
        let good = new(Some(good), "").unwrap();
        assert_eq!(
            good.grants.to_strings(),
            ["contacts:read", "reports:*"],
            "in order and each once"
        );
    }

    #[test]
    fn only_the_fields_in_the_mask_change() {
        let update = |paths: &[&str], role| {
            change(&proto::UpdateRoleRequest {
                role: Some(role),
                update_mask: Some(FieldMask {
                    paths: paths.iter().map(|path| (*path).to_owned()).collect(),
                }),
                validate_only: false,
            })
        };
        let role = message("sales_lead", "", &["contacts:read"]);
        let changed = update(&["permissions"], role.clone()).unwrap();
        assert!(changed.title.is_none() && changed.grants.is_some());
        assert!(update(&[], role.clone()).unwrap().grants.is_some());
        assert!(
            update(&["display_name"], role.clone()).is_err(),
            "an empty name is none"
        );
        for paths in [
            ["name"].as_slice(),
            &["*"],
            &["permissions", "permissions"],
            &["permissions", "etag"],
        ] {
            assert!(update(paths, role.clone()).is_err(), "{paths:?}");
        }
        assert!(update(&[], message("sales_lead", "", &[])).is_err());
        assert!(
            update(&["permissions"], message("user", "", &["contacts:read"])).is_err(),
            "nobody changes that one"
        );
    }
}
