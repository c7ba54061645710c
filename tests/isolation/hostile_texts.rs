//! Bad text at every RPC that is not for services alone: each string field, nested, repeated and in maps, holds each of the hostile
//! texts once, beside others that are as usual. It may be taken or refused; it is never a fault of ours, and whoever is refused is
//! told a reason.
//!
//! Generated from the descriptors: an RPC or a field that is added is tried.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, anyhow, ensure};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use rowhouse_devkit::suite::Listener;
use rowhouse_devkit::{cluster, hostile};
use rowhouse_proto::common::v1::Placement;
use rowhouse_proto::policy::{Audience, POLICIES, Policy};
use tokio::task::JoinSet;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::support::raw;
use crate::support::world::{Member, PASSWORD, World};

type Answer = Result<Vec<bytes::Bytes>, Status>;

/// Where a text stands in a message: the fields that lead to it.
type Place = Vec<FieldDescriptor>;

/// Messages within messages that are looked into.
const DEPTH_MAX: usize = 4;

/// Characters of a text that stand in what is said of a fault; some texts have a million.
const SHOWN_MAX: usize = 20;

/// Calls at once.
const AT_ONCE: usize = 8;

/// Reasons with which a call is answered before anybody has looked at its texts.
const UNHEARD: &[&str] = &[
    "CREDENTIALS_MISSING",
    "CREDENTIALS_MALFORMED",
    "TOKEN_INVALID",
    "TOKEN_EXPIRED",
    "SESSION_REVOKED",
    "SECOND_FACTOR_NOT_SHOWN",
    "PERMISSION_MISSING",
    "AUDIENCE_MISMATCH",
    "TENANT_MISMATCH",
    "TENANT_REQUIRED",
    "TENANT_UNEXPECTED",
    "TENANT_SUSPENDED",
    "METHOD_UNKNOWN",
    "MESSAGE_MALFORMED",
    "QUOTA_EXCEEDED",
    "OVERLOADED",
    "TOO_MANY_ATTEMPTS",
    "MESSAGE_TOO_LARGE",
    "REASON_REQUIRED",
    "SESSION_TOO_OLD",
    "METADATA_INVALID",
    "IMPERSONATION_FORBIDS",
];

/// Keeps the password that everybody has, for this connection.
const KEEP: &str = "CREATE TEMPORARY TABLE kept AS SELECT id, password_hash FROM auth.identities";

/// Nobody has guessed, and everybody has the password that was kept: of hostile texts some are wrong as the current password, which
/// is counted, and some will do as a new one.
const AS_KEPT: &str = "DELETE FROM auth.attempts;
    UPDATE auth.identities AS identity SET password_hash = kept.password_hash FROM kept
    WHERE kept.id = identity.id AND kept.password_hash <> identity.password_hash";

/// What stands in a field while another has the hostile text: what many requests need to get any further.
///
/// `password`: the caller's.
fn usual<'a>(field: &str, password: &'a str) -> Option<&'a str> {
    Some(match field {
        "display_name" | "tenant_display_name" => "A name",
        "email" | "new_email" | "administrator_email" => "ada@hostile.example",
        "reason" => "ticket 7",
        "role" => "user",
        "slug" => "hostile",
        "name" => "hostile",
        "permission" | "permissions" => "contacts:read",
        "password" | "current_password" | "new_password" => password,
        _ => return None,
    })
}

/// All places for a text in a message.
fn places(message: &MessageDescriptor, depth: usize) -> Vec<Place> {
    let mut found = Vec::new();
    for field in message.fields() {
        match field.kind() {
            Kind::String => found.push(vec![field]),
            Kind::Message(entry) if field.is_map() => {
                if matches!(entry.map_entry_value_field().kind(), Kind::String) {
                    found.push(vec![field]);
                }
            }
            Kind::Message(inner) if depth < DEPTH_MAX => {
                let within = places(&inner, depth + 1).into_iter();
                found.extend(within.map(|rest| [vec![field.clone()], rest].concat()));
            }
            _ => {}
        }
    }
    found
}

fn name(place: &Place) -> String {
    place.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".")
}

/// Puts a text where it belongs; messages on the way there are made.
fn put(message: &mut DynamicMessage, place: &[FieldDescriptor], text: &str) {
    let Some((field, rest)) = place.split_first() else {
        return;
    };
    let owned = text.to_owned();
    match (field.kind(), message.get_field_mut(field)) {
        (_, Value::Map(entries)) => {
            *entries = HashMap::from([(MapKey::String(owned.clone()), Value::String(owned))]);
        }
        (Kind::String, Value::List(texts)) => *texts = vec![Value::String(owned)],
        (Kind::String, value) => *value = Value::String(owned),
        (_, Value::Message(inner)) => put(inner, rest, text),
        (Kind::Message(kind), Value::List(items)) => {
            let mut first = DynamicMessage::new(kind);
            if let Some(Value::Message(known)) = items.first() {
                first = known.clone();
            }
            put(&mut first, rest, text);
            *items = vec![Value::Message(first)];
        }
        (kind, value) => panic!("{kind:?} holds {value:?}"),
    }
}

/// What is wrong with an answer.
fn fault(answer: &Answer) -> Option<String> {
    let status = answer.as_ref().err()?;
    let reason = reason(status);
    let is_ours = matches!(
        status.code(),
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable | Code::DeadlineExceeded
    );
    let is_unheard = UNHEARD.contains(&reason.as_str());
    (is_ours || is_unheard || reason.is_empty())
        .then(|| format!("{:?} {reason:?} {:.200}", status.code(), status.message()))
}

/// Empty where there is none.
fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// Whether a password is compared with the account's.
fn shows_password(places: &[Place]) -> bool {
    let is_password = |place: &Place| matches!(name(place).as_str(), "password" | "current_password");
    places.iter().any(is_password)
}

/// Who may call it.
fn metadata(member: &Member, operator: &str, policy: &Policy) -> MetadataMap {
    let token = match policy.audience {
        Audience::Tenant | Audience::OneSelf => Some(member.tokens.access_token.as_str()),
        Audience::Platform => Some(operator),
        _ => None,
    };
    let mut metadata = MetadataMap::new();
    if let Some(token) = token {
        metadata.insert("authorization", format!("Bearer {token}").parse().expect("metadata"));
    }
    metadata
}

#[tokio::test]
async fn no_text_in_any_field_of_any_rpc_is_a_fault_of_ours() -> Result<()> {
    let world = World::start("hostile_texts").await?;
    let (_, member) = world.tenant_in(Placement::Schema, "acme").await?;
    let operator = world.operator_tokens().await?.access_token;
    let control = cluster::connect(&world.suite.databases().control_superuser_url()).await?;
    control.batch_execute(KEEP).await?;
    let texts = hostile::texts();
    let (mut calls, mut faults, mut seen) = (JoinSet::new(), Vec::new(), BTreeMap::<String, usize>::new());
    let mut judge = |(at, answer): (String, Answer)| {
        faults.extend(fault(&answer).map(|fault| format!("{at}: {fault}")));
        let kind = answer.err().map_or_else(|| "OK".to_owned(), |status| reason(&status));
        *seen.entry(kind).or_default() += 1;
    };
    for policy in POLICIES.iter().filter(|policy| policy.audience != Audience::Internal) {
        let input = raw::method(policy.path).input();
        let channel = raw::channel(&world.suite, policy.path, Listener::Public);
        let metadata = metadata(&member, &operator, policy);
        let places = places(&input, 0);
        let password = match policy.audience {
            Audience::Platform => world.operator_password.as_str(),
            _ => PASSWORD,
        };
        let mut usual_message = DynamicMessage::new(input.clone());
        for place in &places {
            if let Some(text) = place.last().and_then(|field| usual(field.name(), password)) {
                put(&mut usual_message, place, text);
            }
        }
        let shows_password = shows_password(&places);
        let at_once = if shows_password { 1 } else { AT_ONCE };
        for (place, text) in places
            .iter()
            .flat_map(|place| texts.iter().map(move |text| (place, text)))
        {
            let mut message = usual_message.clone();
            put(&mut message, place, text);
            let message = prost::Message::encode_to_vec(&message);
            let start: String = text.chars().take(SHOWN_MAX).collect();
            let at = format!("{} {} {start:?}", policy.path, name(place));
            let (channel, metadata, path) = (channel.clone(), metadata.clone(), policy.path);
            while calls.len() >= at_once {
                let answered = calls.join_next().await;
                judge(answered.ok_or_else(|| anyhow!("no call runs"))??);
            }
            if shows_password {
                control.batch_execute(AS_KEPT).await?;
            }
            calls.spawn(async move { (at, raw::call(&channel, path, metadata, &message).await) });
        }
    }
    while let Some(answered) = calls.join_next().await {
        judge(answered?);
    }
    ensure!(
        faults.is_empty(),
        "{} faults, of {seen:?}:\n{}",
        faults.len(),
        faults.join("\n")
    );
    // The texts were looked at, and not all that is asked was refused for something else.
    let of = |kind: &str| seen.get(kind).copied().unwrap_or_default();
    let all: usize = seen.values().sum();
    ensure!(2 * of("FIELD_INVALID") > all && of("OK") > 0, "{seen:?}");
    Ok(())
}

/// The controls: what would be noticed.
#[test]
fn a_fault_and_a_refusal_without_a_reason_are_noticed() {
    let with = |code, reason: &str| {
        let details = ErrorDetails::with_error_info(reason, "rowhouse", HashMap::new());
        fault(&Err(Status::with_error_details(code, "", details)))
    };
    assert_eq!(with(Code::InvalidArgument, "FIELD_INVALID"), None);
    assert_eq!(fault(&Ok(Vec::new())), None);
    assert!(with(Code::Internal, "INTERNAL").is_some() && with(Code::Unknown, "FIELD_INVALID").is_some());
    assert!(with(Code::Unavailable, "DEPENDENCY_UNAVAILABLE").is_some());
    assert!(with(Code::DeadlineExceeded, "DEADLINE_EXCEEDED").is_some());
    assert!(with(Code::Unauthenticated, "SESSION_REVOKED").is_some());
    assert!(with(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS").is_some());
    assert!(fault(&Err(Status::invalid_argument("no details"))).is_some());
}

#[test]
fn texts_are_put_into_every_kind_of_field() {
    let fields = |path: &str| -> Vec<String> { places(&raw::method(path).input(), 0).iter().map(name).collect() };
    for (path, field) in [
        ("/rowhouse.crm.v1.ContactService/UpdateContact", "contact.display_name"),
        ("/rowhouse.crm.v1.ContactService/UpdateContact", "update_mask.paths"),
        ("/rowhouse.auth.v1.AuthzService/BatchCheck", "permissions"),
        ("/rowhouse.auth.v1.AuthzService/BatchCheck", "checks.owner_id"),
        ("/rowhouse.tenant.v1.ServerService/RegisterServer", "server.labels"),
    ] {
        assert!(
            fields(path).iter().any(|known| known == field),
            "{path}: {:?}",
            fields(path)
        );
        let input = raw::method(path).input();
        let place = places(&input, 0)
            .into_iter()
            .find(|place| name(place) == field)
            .unwrap();
        let mut message = DynamicMessage::new(input.clone());
        put(&mut message, &place, "hostile");
        put(&mut message, &place, "hostile once more");
        let sent = prost::Message::encode_to_vec(&message);
        let sent = String::from_utf8_lossy(&sent).into_owned();
        assert!(sent.contains("hostile once more"), "{path} {field}: {sent:?}");
    }
}
