//! What the log keeps of keys that are presented and are good no more.

use serde_json::Value;

use super::*;
use crate::tests::bench::why;

const EXCHANGE: &str = "rowhouse.auth.v1.ServiceAccountService/ExchangeApiKey";
const OFFICE: &str = "192.0.2.1";

/// Presents a key that is refused.
async fn refused(bench: &Bench, key: &ApiKey) {
    let call = ctx(Principal::Anonymous, None).with_origin(None, Some(OFFICE.to_owned()));
    let answer = keys::exchange(&call, &bench.state, key).await.map(drop);
    assert!(matches!(answer, Err(Error::ApiKeyInvalid)), "{answer:?}");
}

#[tokio::test]
async fn a_key_that_is_good_no_more_is_told_to_the_log_of_its_tenant_and_an_invented_one_to_none() {
    let (bench, house, admin) = start("robot_failed").await;
    let state = &bench.state;
    let (account, revoked, revoked_key) = robot(&bench, &admin, Role::User).await;
    let (expired, expired_key) = keys::create(&admin, state, &key_of(account.id, 1)).await.unwrap();
    let (disabled, disabled_key) = keys::create(&admin, state, &key_of(account.id, 1)).await.unwrap();
    for key in [&revoked_key, &expired_key, &disabled_key] {
        exchanges(&bench, key).await.unwrap();
    }
    keys::revoke(&admin, state, revoked.id).await.unwrap();
    let expire = format!(
        "UPDATE auth.api_keys SET expires_at = now() - interval '1 second' WHERE id = '{}'",
        expired.id.uuid()
    );
    bench.execute(&expire).await;
    for key in [&revoked_key, &revoked_key, &expired_key] {
        refused(&bench, key).await;
    }
    let off = Change {
        state: Some(AccountState::Disabled),
        ..change(account.id)
    };
    update(&admin, state, &off).await.unwrap();
    refused(&bench, &disabled_key).await;
    // Nobody can say whose it would be.
    refused(&bench, &ApiKey::generate().unwrap()).await;
    // What was removed with its account is as if it had never been.
    let gone = create(&admin, state, &new("Gone", Role::User)).await.unwrap();
    let (_, gone_key) = keys::create(&admin, state, &key_of(gone.id, 1)).await.unwrap();
    delete(&admin, state, gone.id, None).await.unwrap();
    refused(&bench, &gone_key).await;

    let of = |key: ApiKeyId, why: Value| {
        let (tenant, from) = (house.tenant.uuid(), OFFICE.to_owned());
        (Some(tenant), key.to_string(), Some(from), why)
    };
    // In the order of their ids, which is the one in which they were made.
    let wanted = [
        of(revoked.id, why("LOGIN_FAILED", 2)),
        of(expired.id, why("LOGIN_FAILED", 1)),
        of(disabled.id, why("LOGIN_FAILED", 1)),
    ];
    assert_eq!(bench.told(EXCHANGE).await, wanted);
    let kept = bench.dump().await;
    for key in [&revoked_key, &expired_key, &disabled_key, &gone_key] {
        assert!(!kept.contains(key.expose()), "a key is kept nowhere");
    }
}
