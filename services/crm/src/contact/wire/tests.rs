//! What requests may hold and how faults in them are named.

use rowhouse_status::wire::code;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use rowhouse_proto::well_known::Timestamp;

use super::*;

/// The fields that a refusal names, in order.
fn fields<T>(read: Result<T, Failure>) -> Vec<String> {
    let Err(failure) = read else {
        panic!("was accepted");
    };
    assert_eq!(code(failure.reason()), Code::InvalidArgument);
    let details = Status::from(failure).get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    violations.iter().map(|violation| violation.field.clone()).collect()
}

fn ada() -> proto::Contact {
    proto::Contact {
        display_name: " Ada Lovelace ".to_owned(),
        email: "ada@example.com".to_owned(),
        ..Default::default()
    }
}

fn create(contact: proto::Contact) -> proto::CreateContactRequest {
    proto::CreateContactRequest {
        contact: Some(contact),
        request_id: String::new(),
    }
}

fn update(contact: proto::Contact, paths: &[&str]) -> proto::UpdateContactRequest {
    proto::UpdateContactRequest {
        contact: Some(proto::Contact {
            id: ContactId::generate().to_string(),
            ..contact
        }),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
    }
}

#[test]
fn a_contact_is_read_and_trimmed() {
    let new = new_contact(&create(ada())).unwrap();
    assert_eq!(new.details.display_name.as_str(), "Ada Lovelace");
    assert_eq!(new.details.email.as_str(), "ada@example.com");
    assert_eq!((new.details.phone.as_str(), new.request_id), ("", None));
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let huge = "x".repeat(1 << 20);
    for bad in ["a\0b", "a\nb", "a\u{202e}b", "\u{1b}[31m", huge.as_str()] {
        let contact = proto::Contact {
            display_name: bad.to_owned(),
            email: bad.to_owned(),
            phone: bad.to_owned(),
            company: bad.to_owned(),
            job_title: bad.to_owned(),
            ..Default::default()
        };
        let mut request = create(contact);
        request.request_id = bad.to_owned();
        let expected = [
            "request_id",
            "contact.display_name",
            "contact.email",
            "contact.phone",
            "contact.company",
            "contact.job_title",
        ];
        assert_eq!(fields(new_contact(&request)), expected);
    }
    assert_eq!(
        fields(new_contact(&create(proto::Contact::default()))),
        ["contact.display_name"]
    );
    assert_eq!(
        fields(new_contact(&proto::CreateContactRequest::default())),
        ["contact"]
    );
}

#[test]
fn an_address_that_poses_as_another_is_refused() {
    for email in [
        "ada@example.com\u{202e}moc",
        "a\u{2066}da@example.com",
        "Ada <ada@example.com>",
        "ada",
    ] {
        let contact = proto::Contact {
            email: email.to_owned(),
            ..ada()
        };
        assert_eq!(fields(new_contact(&create(contact))), ["contact.email"], "{email:?}");
    }
}

#[test]
fn what_the_service_sets_is_ignored_on_create() {
    let contact = proto::Contact {
        id: "garbage".to_owned(),
        owner_id: "garbage".to_owned(),
        etag: "garbage".to_owned(),
        create_time: Some(Timestamp {
            seconds: i64::MAX,
            nanos: -1,
        }),
        ..ada()
    };
    assert!(new_contact(&create(contact)).is_ok());
}

#[test]
fn a_request_id_has_one_spelling() {
    let mut request = create(ada());
    request.request_id = "0197a6de-1c8f-7c1e-a4a5-5f0e9d6f3b21".to_owned();
    assert!(new_contact(&request).unwrap().request_id.is_some());
    for text in [
        "0197A6DE-1C8F-7C1E-A4A5-5F0E9D6F3B21",
        "0197a6de1c8f7c1ea4a55f0e9d6f3b21",
        "00000000-0000-0000-0000-000000000000",
        "x",
    ] {
        request.request_id = text.to_owned();
        assert_eq!(fields(new_contact(&request)), ["request_id"], "{text}");
    }
}

#[test]
fn a_mask_decides_what_changes() {
    let (_, patch) = change(&update(ada(), &["phone", "email"])).unwrap();
    assert_eq!(patch.display_name, None);
    assert_eq!(patch.phone.unwrap().as_str(), "");
    assert_eq!(patch.email.unwrap().as_str(), "ada@example.com");
    let (_, patch) = change(&update(ada(), &[])).unwrap();
    assert_eq!(patch.display_name.unwrap().as_str(), "Ada Lovelace");
    assert_eq!((patch.phone, patch.company), (None, None));
}

#[test]
fn fields_outside_the_mask_are_not_looked_at() {
    let contact = proto::Contact {
        phone: "a\0b".to_owned(),
        ..ada()
    };
    assert!(change(&update(contact.clone(), &["email"])).is_ok());
    assert_eq!(fields(change(&update(contact, &["phone"]))), ["contact.phone"]);
}

#[test]
fn the_owner_changes_only_where_the_mask_says_so() {
    let owner = rowhouse_types::UserId::generate();
    let contact = proto::Contact {
        owner_id: owner.to_string(),
        ..ada()
    };
    assert_eq!(change(&update(contact.clone(), &[])).unwrap().1.owner, None);
    assert_eq!(change(&update(contact, &["owner_id"])).unwrap().1.owner, Some(owner));
    assert_eq!(fields(change(&update(ada(), &["owner_id"]))), ["contact.owner_id"]);
}

#[test]
fn masks_that_name_other_things_are_refused_by_name() {
    for paths in [
        &["id"][..],
        &["tenant_id"],
        &["*"],
        &["email", "email"],
        &["contact.email"],
    ] {
        assert_eq!(fields(change(&update(ada(), paths))), ["update_mask"], "{paths:?}");
    }
    assert_eq!(fields(change(&update(proto::Contact::default(), &[]))), ["update_mask"]);
    assert_eq!(
        fields(change(&update(proto::Contact::default(), &["display_name"]))),
        ["contact.display_name"]
    );
}

#[test]
fn wrong_ids_and_etags_are_named() {
    let mut request = update(ada(), &["email"]);
    request.contact.as_mut().unwrap().id = rowhouse_types::UserId::generate().to_string();
    request.contact.as_mut().unwrap().etag = "7".to_owned();
    assert_eq!(fields(change(&request)), ["contact.id", "contact.etag"]);
    assert_eq!(fields(change(&proto::UpdateContactRequest::default())), ["contact"]);
    assert_eq!(fields(id_and_etag("a\0", "\u{202e}")), ["id", "etag"]);
    assert_eq!(fields(id("")), ["id"]);
}

#[test]
fn every_wrong_part_of_a_hand_over_is_named() {
    let [from, to] = [(); 2].map(|()| UserId::generate().to_string());
    let good = proto::ReassignContactsRequest {
        from_owner_id: from.clone(),
        to_owner_id: to,
        filter: "email = x".to_owned(),
        ..Default::default()
    };
    assert!(reassignment(good.clone()).is_ok());
    let bad = proto::ReassignContactsRequest {
        from_owner_id: ContactId::generate().to_string(),
        to_owner_id: String::new(),
        filter: "phone = 1".to_owned(),
        request_id: "x".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        fields(reassignment(bad)),
        ["from_owner_id", "to_owner_id", "filter", "request_id"]
    );
    let to_themselves = proto::ReassignContactsRequest {
        to_owner_id: from,
        ..good
    };
    assert_eq!(fields(reassignment(to_themselves)), ["to_owner_id"]);
}

#[test]
fn every_wrong_part_of_a_list_is_named() {
    let request = proto::ListContactsRequest {
        page_size: -1,
        filter: "phone = 1".to_owned(),
        order_by: "phone".to_owned(),
        ..Default::default()
    };
    assert_eq!(fields(list_query(request)), ["page_size", "filter", "order_by"]);
    for page_size in [0, 1, 1_000, 1_000_000_000] {
        let request = proto::ListContactsRequest {
            page_size,
            ..Default::default()
        };
        assert!((1..=1_000).contains(&list_query(request).unwrap().size));
    }
    assert_eq!(
        fields(list_query(proto::ListContactsRequest {
            page_size: i32::MIN,
            ..Default::default()
        })),
        ["page_size"]
    );
}
