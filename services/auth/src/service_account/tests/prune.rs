//! Keys that have ended long ago go, but for those that show whose others are.

use std::collections::BTreeSet;

use super::*;
use crate::housekeeping::tidy;

/// Makes a key as if this account had made it; answers its id.
async fn made_by(bench: &Bench, admin: &Ctx, of: ServiceAccountId, by: Option<ServiceAccountId>) -> ApiKeyId {
    let (listed, _) = keys::create(admin, &bench.state, &key_of(of, 30)).await.unwrap();
    if let Some(by) = by {
        let sql = format!(
            "UPDATE auth.api_keys SET created_by = '{}' WHERE id = '{}'",
            by.uuid(),
            listed.id.uuid()
        );
        bench.execute(&sql).await;
    }
    listed.id
}

/// Lets keys have ended so many days ago, by their time or because they were revoked.
async fn end(bench: &Bench, which: &[ApiKeyId], days: u32, revoked: bool) {
    let column = if revoked { "revoked_at" } else { "expires_at" };
    for key in which {
        let sql = format!(
            "UPDATE auth.api_keys SET {column} = now() - interval '{days} days' WHERE id = '{}'",
            key.uuid()
        );
        bench.execute(&sql).await;
    }
}

async fn left(bench: &Bench) -> BTreeSet<ApiKeyId> {
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT id FROM auth.api_keys")
        .fetch_all(&bench.superuser)
        .await
        .unwrap();
    ids.into_iter().map(ApiKeyId::from_uuid).collect()
}

#[tokio::test]
async fn keys_go_ninety_days_after_they_have_ended() {
    let (bench, _, admin) = start("robot_prune").await;
    let (account, good, _) = robot(&bench, &admin, Role::User).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(made_by(&bench, &admin, account.id, None).await);
    }
    for (at, days, revoked) in [(0, 89, true), (1, 91, true), (2, 89, false), (3, 91, false)] {
        end(&bench, &ids[at..=at], days, revoked).await;
    }
    tidy(&bench.state).await.unwrap();
    assert_eq!(left(&bench).await, BTreeSet::from([good.id, ids[0], ids[2]]));
}

#[tokio::test]
async fn a_key_stays_while_others_may_have_been_made_with_it() {
    let (bench, house, admin) = start("robot_prune_chain").await;
    let mut accounts = Vec::new();
    for name in ["First", "Second"] {
        let account = create(&admin, &bench.state, &new(name, Role::User)).await.unwrap();
        accounts.push(account.id);
    }
    let twice = [
        made_by(&bench, &admin, accounts[0], None).await,
        made_by(&bench, &admin, accounts[0], None).await,
    ];
    let own = made_by(&bench, &admin, accounts[0], Some(accounts[0])).await;
    let second = made_by(&bench, &admin, accounts[1], Some(accounts[0])).await;
    end(&bench, &twice, 91, true).await;
    end(&bench, &[own], 91, true).await;
    tidy(&bench.state).await.unwrap();
    // Of the two one is enough to show that the administrator knows the second account's; the account's own shows nothing.
    assert_eq!(left(&bench).await, BTreeSet::from([twice[1], second]));
    let sent = format!(
        "INSERT INTO auth.invitations (id, tenant_id, email, role, nonce, token_hash, invited_by, expires_at)
         VALUES (gen_random_uuid(), '{}', 'x@acme.example', 'user', '', 'x', '{}', now() + interval '1 day')",
        house.tenant.uuid(),
        accounts[0].uuid()
    );
    bench.execute(&sent).await;
    end(&bench, &[second], 91, false).await;
    tidy(&bench.state).await.unwrap();
    assert_eq!(left(&bench).await, BTreeSet::from([twice[1]]), "for the invitation");
    bench.execute("UPDATE auth.invitations SET state = 'revoked'").await;
    tidy(&bench.state).await.unwrap();
    assert!(left(&bench).await.is_empty());
}
