//! Service accounts and keys that are created again with the same request id.

use rowhouse_status::{Failure, Reason};
use rowhouse_types::IdempotencyKey;

use super::*;
use crate::service_account::NewKey;
use crate::tests::repeated::{a_day_passes, answers_alike, is_reused};

#[tokio::test]
async fn a_repeated_request_makes_one_account_and_answers_it() {
    let (bench, house, admin) = start("robot_request").await;
    let state = &bench.state;
    let asked = NewAccount {
        request: Some(IdempotencyKey::generate()),
        ..new("Importer", Role::User)
    };
    let by = |ctx: &Ctx, new: &NewAccount| {
        let (ctx, state, new) = (ctx.clone(), state.clone(), new.clone());
        async move { create(&ctx, &state, &new).await }
    };
    let made = answers_alike(&bench, || by(&admin, &asked)).await;
    assert_eq!(bench.count("SELECT count(*) FROM auth.service_accounts").await, 1);
    let noted = "SELECT count(*) FROM auth.audit WHERE action = 'service_account.create'";
    assert_eq!(bench.count(noted).await, 1);

    let renamed = Change {
        name: Some(AccountName::parse_required("Exporter").unwrap()),
        ..change(made.id)
    };
    let renamed = update(&admin, state, &renamed).await.unwrap();
    assert_eq!(by(&admin, &asked).await.unwrap(), renamed, "as it is by then");

    let chief = bench.member(&house, "chief@acme.example", Role::TenantAdmin).await;
    let chief = bench.ctx_of(chief, house.tenant).await;
    is_reused(by(&chief, &asked).await);
    for other in [new("Importers", Role::User), new("Importer", Role::Manager)] {
        let other = NewAccount {
            request: asked.request,
            ..other
        };
        is_reused(by(&admin, &other).await);
    }
    let neighbour = bench.house("globex").await;
    let there = bench.ctx_of(neighbour.admin, neighbour.tenant).await;
    let theirs = by(&there, &asked).await.expect("each tenant has ids of its own");
    assert_ne!(theirs.id, made.id);

    // It is not made anew where it was deleted.
    delete(&admin, state, made.id, None).await.unwrap();
    let gone = by(&admin, &asked).await;
    assert!(
        matches!(
            gone,
            Err(Error::NotFound {
                kind: "service account",
                ..
            })
        ),
        "{gone:?}"
    );
    // The control: without what is remembered it is another call.
    a_day_passes(&bench).await;
    assert_ne!(by(&admin, &asked).await.unwrap().id, made.id);
}

/// Which key an earlier call has made, by a refusal that names it.
fn told(answer: Result<ApiKeyId, Error>) -> ApiKeyId {
    match answer {
        Err(Error::ApiKeyTold { key }) => key,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_repeated_request_makes_one_key_and_names_it() {
    let (bench, house, admin) = start("robot_key_request").await;
    let state = &bench.state;
    let account = create(&admin, state, &new("Importer", Role::User)).await.unwrap();
    let asked = NewKey {
        request: Some(IdempotencyKey::generate()),
        ..key_of(account.id, 30)
    };
    let by = |ctx: &Ctx, new: NewKey| {
        let (ctx, state) = (ctx.clone(), state.clone());
        async move { keys::create(&ctx, &state, &new).await }
    };
    let keys_made = async || bench.count("SELECT count(*) FROM auth.api_keys").await;
    let (one, other) = bench.meet("auth.tenants", by(&admin, asked), by(&admin, asked)).await;
    let (made, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    let (listed, key) = made.unwrap();
    let id_of = |made: Result<(ListedKey, ApiKey), Error>| made.map(|(listed, _)| listed.id);
    assert_eq!(told(id_of(refused)), listed.id, "of two at once");
    exchanges(&bench, &key).await.unwrap();

    let refused = Failure::from(by(&admin, asked).await.unwrap_err());
    assert_eq!(refused.reason(), Reason::ResourceAlreadyExists);
    assert_eq!(refused.violations()[0].field, "request_id");
    let refused = format!("{refused:?}");
    assert!(refused.contains(&listed.id.to_string()) && !refused.contains(key.expose()));
    exchanges(&bench, &key).await.expect("it goes on as it is");
    assert_eq!(keys_made().await, 1);
    let noted = "SELECT count(*) FROM auth.audit WHERE action = 'api_key.create'";
    assert_eq!(bench.count(noted).await, 1);
    let kept = bench.dump().await;
    assert!(!kept.contains(key.expose()), "a key is kept nowhere");

    // Also where there could be no other, and where it has ended.
    for _ in 1..KEYS_MAX {
        keys::create(&admin, state, &key_of(account.id, 1)).await.unwrap();
    }
    assert_eq!(told(id_of(by(&admin, asked).await)), listed.id);
    keys::revoke(&admin, state, listed.id).await.unwrap();
    assert_eq!(told(id_of(by(&admin, asked).await)), listed.id);
    assert_eq!(keys_made().await, i64::from(KEYS_MAX));

    let chief = bench.member(&house, "chief@acme.example", Role::TenantAdmin).await;
    let chief = bench.ctx_of(chief, house.tenant).await;
    is_reused(by(&chief, asked).await);
    let another = create(&admin, state, &new("Exporter", Role::User)).await.unwrap();
    let account = another.id;
    for other in [NewKey { account, ..asked }, NewKey { days: 31, ..asked }] {
        is_reused(by(&admin, other).await);
    }
    // The way out: what was not heard has been revoked, and another is made under an id of its own.
    let anew = NewKey {
        request: Some(IdempotencyKey::generate()),
        ..asked
    };
    let (_, key) = by(&admin, anew).await.unwrap();
    exchanges(&bench, &key).await.unwrap();
    // The control: without what is remembered it asks for another key, of which there are as many as can be.
    a_day_passes(&bench).await;
    let more = by(&admin, asked).await;
    assert!(matches!(more, Err(Error::TooManyApiKeys { .. })), "{more:?}");
}
