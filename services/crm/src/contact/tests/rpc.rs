//! The service as callers see it: statuses and their details. What stands before it (tokens, rights, deadlines) is
//! tested in libs/middleware and by the journeys.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use rowhouse_devkit::hostile;
use rowhouse_proto::crm::v1 as proto;
use rowhouse_proto::crm::v1::contact_service_server::ContactService as _;
use rowhouse_proto::crm::v1::export_service_server::ExportService as _;
use rowhouse_proto::well_known::FieldMask;
use rowhouse_types::{ContactId, TenantId, UserId};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::bench::Bench;
use crate::contact::rpc::ContactRpc;
use crate::export::rpc::ExportRpc;

/// The service, called by one member of a tenant.
struct Caller {
    rpc: ContactRpc,
    ctx: rowhouse_context::Ctx,
}

impl Caller {
    fn new(bench: &Bench, tenant: TenantId) -> Self {
        Self {
            rpc: ContactRpc::new(bench.contacts.clone()),
            ctx: bench.ctx(tenant),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(self.ctx.clone());
        request
    }

    async fn create(&self, contact: proto::Contact, request_id: &str) -> Result<proto::Contact, Status> {
        let request = proto::CreateContactRequest {
            contact: Some(contact),
            request_id: request_id.to_owned(),
        };
        Ok(self.rpc.create_contact(self.request(request)).await?.into_inner())
    }

    async fn update(&self, contact: proto::Contact, paths: &[&str]) -> Result<proto::Contact, Status> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let request = proto::UpdateContactRequest {
            contact: Some(contact),
            update_mask: Some(FieldMask { paths }),
        };
        Ok(self.rpc.update_contact(self.request(request)).await?.into_inner())
    }

    async fn get(&self, id: &str) -> Result<proto::Contact, Status> {
        let request = proto::GetContactRequest { id: id.to_owned() };
        Ok(self.rpc.get_contact(self.request(request)).await?.into_inner())
    }

    async fn delete(&self, id: &str, etag: &str) -> Result<proto::Contact, Status> {
        let (id, etag) = (id.to_owned(), etag.to_owned());
        let request = proto::DeleteContactRequest { id, etag };
        Ok(self.rpc.delete_contact(self.request(request)).await?.into_inner())
    }

    async fn undelete(&self, id: &str, etag: &str) -> Result<proto::Contact, Status> {
        let (id, etag) = (id.to_owned(), etag.to_owned());
        let request = proto::UndeleteContactRequest { id, etag };
        Ok(self.rpc.undelete_contact(self.request(request)).await?.into_inner())
    }

    async fn reassign(
        &self,
        request: proto::ReassignContactsRequest,
    ) -> Result<proto::ReassignContactsResponse, Status> {
        Ok(self.rpc.reassign_contacts(self.request(request)).await?.into_inner())
    }

    async fn list(&self, request: proto::ListContactsRequest) -> Result<proto::ListContactsResponse, Status> {
        Ok(self.rpc.list_contacts(self.request(request)).await?.into_inner())
    }
}

fn ada() -> proto::Contact {
    proto::Contact {
        display_name: "Ada".to_owned(),
        email: "ada@example.com".to_owned(),
        ..Default::default()
    }
}

fn reason<T>(outcome: Result<T, Status>) -> (Code, String) {
    let (code, reason, _) = reason_and_field(outcome);
    (code, reason)
}

/// With the first field that is to blame; empty where none is.
fn reason_and_field<T>(outcome: Result<T, Status>) -> (Code, String, String) {
    let Err(status) = outcome else {
        panic!("was accepted");
    };
    let details = status.get_error_details();
    let violation = details
        .bad_request()
        .and_then(|request| request.field_violations.first());
    let field = violation.map(|violation| violation.field.clone());
    let info = details.error_info().unwrap();
    (status.code(), info.reason.clone(), field.unwrap_or_default())
}

#[tokio::test]
async fn a_contact_goes_through_its_life() {
    let bench = Bench::start("crm_rpc_life").await;
    let caller = Caller::new(&bench, bench.one);
    let created = caller.create(ada(), "").await.unwrap();
    assert_eq!(created.etag, "r1");
    assert_eq!(caller.get(&created.id).await.unwrap(), created);
    let renamed = proto::Contact {
        display_name: "Grace".to_owned(),
        ..created.clone()
    };
    let updated = caller.update(renamed.clone(), &["display_name"]).await.unwrap();
    assert_eq!((updated.display_name.as_str(), updated.etag.as_str()), ("Grace", "r2"));
    let stale = (Code::Aborted, "ETAG_MISMATCH".to_owned());
    assert_eq!(reason(caller.update(renamed, &["display_name"]).await), stale);
    let deleted = caller.delete(&created.id, &updated.etag).await.unwrap();
    assert!(deleted.delete_time.is_some());
    assert_eq!(reason(caller.get(&created.id).await).0, Code::NotFound);
    assert_eq!(caller.undelete(&created.id, "").await.unwrap().delete_time, None);
    assert_eq!(reason(caller.undelete(&created.id, "").await).0, Code::AlreadyExists);
    let listed = caller.list(proto::ListContactsRequest::default()).await.unwrap();
    assert_eq!(listed.contacts.len(), 1);
}

#[tokio::test]
async fn no_text_in_any_field_is_a_fault_of_ours_and_nothing_is_half_written() {
    let bench = Bench::start("crm_rpc_hostile").await;
    let caller = Caller::new(&bench, bench.one);
    let known = caller.create(ada(), "").await.unwrap();
    let mut written = 1;
    for text in hostile::texts() {
        let contacts = [
            proto::Contact {
                display_name: text.clone(),
                ..ada()
            },
            proto::Contact {
                email: text.clone(),
                ..ada()
            },
            proto::Contact {
                phone: text.clone(),
                ..ada()
            },
            proto::Contact {
                company: text.clone(),
                ..ada()
            },
            proto::Contact {
                job_title: text.clone(),
                ..ada()
            },
        ];
        let mut outcomes = Vec::new();
        for contact in contacts {
            let outcome = caller.create(contact, "").await;
            written += i64::from(outcome.is_ok());
            outcomes.push(outcome.map(drop));
        }
        outcomes.push(caller.create(ada(), &text).await.map(drop));
        outcomes.push(caller.get(&text).await.map(drop));
        outcomes.push(caller.delete(&text, "").await.map(drop));
        outcomes.push(caller.delete(&known.id, &text).await.map(drop));
        outcomes.push(caller.undelete(&text, &text).await.map(drop));
        outcomes.push(caller.update(known.clone(), &[&text]).await.map(drop));
        for field in ["filter", "order_by", "page_token"] {
            let mut request = proto::ListContactsRequest::default();
            match field {
                "filter" => request.filter.clone_from(&text),
                "order_by" => request.order_by.clone_from(&text),
                _ => request.page_token.clone_from(&text),
            }
            outcomes.push(caller.list(request).await.map(drop));
        }
        for field in ["from_owner_id", "to_owner_id", "filter", "request_id"] {
            let mut request = proto::ReassignContactsRequest {
                from_owner_id: known.owner_id.clone(),
                to_owner_id: UserId::generate().to_string(),
                // A filter of these that is read lets contacts through, which are not to be given away here.
                validate_only: true,
                ..Default::default()
            };
            match field {
                "from_owner_id" => request.from_owner_id.clone_from(&text),
                "to_owner_id" => request.to_owner_id.clone_from(&text),
                "filter" => request.filter.clone_from(&text),
                _ => request.request_id.clone_from(&text),
            }
            outcomes.push(caller.reassign(request).await.map(drop));
        }
        let short: String = text.chars().take(20).collect();
        for outcome in outcomes.into_iter().filter(Result::is_err) {
            let (code, info, field) = reason_and_field(outcome);
            assert_eq!(code, Code::InvalidArgument, "{short:?}: {info}");
            assert!(!field.is_empty(), "{short:?}: {info}");
            assert!(
                ["FIELD_INVALID", "PAGE_TOKEN_INVALID"].contains(&info.as_str()),
                "{info}"
            );
        }
    }
    assert_eq!(bench.count(bench.one, "contacts").await, written);
    assert_eq!(bench.count(bench.one, "audit_entries").await, written);
    assert_eq!(caller.get(&known.id).await.unwrap(), known);
}

#[tokio::test]
async fn a_refusal_is_no_longer_than_it_needs_to_be() {
    let bench = Bench::start("crm_rpc_short").await;
    let caller = Caller::new(&bench, bench.one);
    for text in hostile::texts() {
        let Err(status) = caller.get(&text).await else {
            panic!("was accepted");
        };
        // gRPC's statuses travel in headers, of which many servers take 8 KiB.
        assert!(status.message().len() + status.details().len() < 1_024);
    }
}

#[tokio::test]
async fn a_foreign_id_and_a_random_one_get_the_same_bytes() {
    let bench = Bench::start("crm_rpc_foreign").await;
    let (ours, theirs) = (Caller::new(&bench, bench.one), Caller::new(&bench, bench.two));
    let foreign = theirs.create(ada(), "").await.unwrap().id;
    let random = ContactId::generate().to_string();
    let mut seen = BTreeSet::new();
    for id in [foreign, random] {
        let named = proto::Contact {
            id: id.clone(),
            ..ada()
        };
        let outcomes = [
            ours.get(&id).await,
            ours.delete(&id, "").await,
            ours.undelete(&id, "").await,
            ours.update(named, &["email"]).await,
        ];
        for outcome in outcomes {
            let status = outcome.unwrap_err();
            let details = String::from_utf8_lossy(status.details()).replace(&id, "ID");
            seen.insert((format!("{:?}", status.code()), status.message().to_owned(), details));
        }
    }
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

#[tokio::test]
async fn contacts_are_given_to_another_and_whoever_may_not_get_them_is_named() {
    let bench = Bench::start("crm_rpc_reassign").await;
    let caller = Caller::new(&bench, bench.one);
    let made = caller.create(ada(), "").await.unwrap();
    let asked = |to: UserId| proto::ReassignContactsRequest {
        from_owner_id: made.owner_id.clone(),
        to_owner_id: to.to_string(),
        ..Default::default()
    };
    let left = UserId::from_uuid(uuid::Uuid::nil());
    let refused = (
        Code::InvalidArgument,
        "FIELD_INVALID".to_owned(),
        "to_owner_id".to_owned(),
    );
    assert_eq!(reason_and_field(caller.reassign(asked(left)).await), refused);
    let heir = UserId::generate();
    let done = caller.reassign(asked(heir)).await.unwrap();
    assert_eq!((done.reassigned_count, done.remaining_count), (1, 0));
    let given = caller.get(&made.id).await.unwrap();
    assert_eq!((given.owner_id, given.etag), (heir.to_string(), "r2".to_owned()));
}

#[tokio::test]
async fn the_stream_holds_all_contacts_with_their_total() {
    let bench = Bench::start("crm_rpc_stream").await;
    bench.plant(bench.one, 3).await;
    let caller = Caller::new(&bench, bench.one);
    let rpc = ExportRpc::new(bench.contacts.clone());
    let request = caller.request(proto::StreamContactsRequest::default());
    let pages = rpc.stream_contacts(request).await.unwrap().into_inner();
    let pages: Vec<_> = pages.map(Result::unwrap).collect().await;
    assert_eq!(pages.len(), 1);
    assert_eq!((pages[0].contacts.len(), pages[0].total), (3, 3));
}

#[tokio::test]
async fn a_stream_cannot_go_on_behind_what_is_no_id_of_a_contact() {
    let bench = Bench::start("crm_rpc_after").await;
    let caller = Caller::new(&bench, bench.one);
    let rpc = ExportRpc::new(bench.contacts.clone());
    let other_kind = TenantId::generate().to_string();
    for after_id in hostile::texts().into_iter().chain([other_kind, "contact_".to_owned()]) {
        let short: String = after_id.chars().take(20).collect();
        let request = caller.request(proto::StreamContactsRequest { after_id });
        let refused = reason_and_field(rpc.stream_contacts(request).await);
        let expected = (Code::InvalidArgument, "FIELD_INVALID".to_owned(), "after_id".to_owned());
        assert_eq!(refused, expected, "{short:?}");
    }
}
