//! The purge goes a part at a time, whatever the tenant has many of, and in the order in which everybody locks rows.

use super::*;

/// Of each of these the tenant has more than goes at once; they are the kinds of the record, too.
const MANY: [&str; 6] = [
    "api_keys",
    "service_accounts",
    "team_members",
    "teams",
    "roles",
    "memberships",
];

/// A suspended tenant with five of each and one member more, the administrator. Each team stands beneath the one before.
async fn many(name: &str) -> (Bench, House) {
    let bench = Bench::start(name).await;
    let house = bench.house("acme").await;
    let tenant = house.tenant.uuid();
    let rows = format!(
        "INSERT INTO auth.roles (tenant_id, name, display_name, permissions)
            SELECT '{tenant}', 'role_' || n, 'A role', '{{contacts:read}}' FROM generate_series(1, 5) AS n;
        INSERT INTO auth.identities (id, email, display_name, password_hash)
            SELECT gen_random_uuid(), n || '@parts.example', 'Somebody', '' FROM generate_series(1, 5) AS n;
        INSERT INTO auth.memberships (tenant_id, identity_id, role)
            SELECT '{tenant}', id, 'role_1' FROM auth.identities WHERE email LIKE '%@parts.example';
        INSERT INTO auth.teams (tenant_id, id, display_name)
            SELECT '{tenant}', gen_random_uuid(), n FROM generate_series(1, 5) AS n;
        UPDATE auth.teams AS team SET parent_id = above.id FROM auth.teams AS above
            WHERE above.display_name::int = team.display_name::int - 1;
        INSERT INTO auth.team_members (tenant_id, team_id, identity_id, manages)
            SELECT '{tenant}', id, '{}', true FROM auth.teams;
        INSERT INTO auth.service_accounts (tenant_id, id, display_name, role)
            SELECT '{tenant}', gen_random_uuid(), n, 'role_2' FROM generate_series(1, 5) AS n;
        INSERT INTO auth.api_keys (tenant_id, service_account_id, id, prefix, key_hash, expires_at, created_by)
            SELECT '{tenant}', id, gen_random_uuid(), 'rhk_', sha256(id::text::bytea), now(), id
            FROM auth.service_accounts",
        house.admin.uuid()
    );
    bench.execute(&rows).await;
    bench.set_access(house.tenant, Access::Suspended).await;
    (bench, house)
}

/// How many there are of each.
async fn left(bench: &Bench) -> Vec<i64> {
    let mut left = Vec::new();
    for table in MANY {
        left.push(bench.count(&format!("SELECT count(*) FROM auth.{table}")).await);
    }
    left
}

fn counts(purged: &Purged) -> Vec<i64> {
    MANY.iter().map(|kind| count(purged, kind)).collect()
}

#[tokio::test]
async fn whatever_there_are_many_of_goes_a_part_at_a_time_and_is_counted() {
    let (bench, house) = many("purge_parts").await;
    let operation = OperationId::generate();
    let had = left(&bench).await;
    assert_eq!(had, [5, 5, 5, 5, 5, 6]);
    let mut before = had.clone();
    // As many calls as there are rows are more than enough.
    for _ in 0..had.iter().sum::<i64>() {
        let purged = purge_some(&service_ctx(), &bench.state, house.tenant, operation, 2).await;
        let purged = purged.unwrap();
        let after = left(&bench).await;
        let gone = before.iter().sum::<i64>() - after.iter().sum::<i64>();
        assert!(gone <= 2, "{before:?} before, {after:?} after");
        if purged.done {
            assert_eq!(counts(&purged), had);
            assert_eq!(after.iter().sum::<i64>(), 0);
            return;
        }
        before = after;
    }
    panic!("it does not end: {before:?} are left");
}

#[tokio::test]
async fn members_go_in_a_call_that_holds_nothing_else_and_roles_after_them() {
    let (bench, house) = many("purge_apart").await;
    let operation = OperationId::generate();
    for expected in [[0, 0, 0, 0, 5, 6], [0, 0, 0, 0, 5, 0], [0, 0, 0, 0, 0, 0]] {
        let purged = purge_some(&service_ctx(), &bench.state, house.tenant, operation, 1_000).await;
        purged.unwrap();
        assert_eq!(left(&bench).await, expected);
    }
}

#[tokio::test]
async fn who_is_at_their_account_is_not_waited_for_and_goes_last() {
    let (bench, house) = many("purge_busy").await;
    let mut theirs = bench.superuser.begin().await.unwrap();
    sqlx::query("SELECT id FROM auth.identities WHERE id = $1 FOR NO KEY UPDATE")
        .bind(house.admin.uuid())
        .execute(&mut *theirs)
        .await
        .unwrap();
    let (operation, ctx) = (OperationId::generate(), service_ctx());
    for _ in 0..5 {
        tokio::select! {
            () = bench.until_somebody_waits() => panic!("it waits for who is at their account"),
            purged = purge_some(&ctx, &bench.state, house.tenant, operation, 1_000) => {
                assert!(!purged.unwrap().done);
            }
        }
    }
    assert_eq!(left(&bench).await, [0, 0, 0, 0, 5, 1]);
    theirs.rollback().await.unwrap();
    let (purged, _) = purge_all(&bench, house.tenant, 1_000).await;
    assert_eq!(count(&purged, "memberships"), 6);
}

#[tokio::test]
async fn a_call_that_is_killed_has_removed_nothing_and_the_next_goes_on() {
    let (bench, house) = many("purge_killed").await;
    let had = left(&bench).await;
    let operation = OperationId::generate();
    let begun = purge_some(&service_ctx(), &bench.state, house.tenant, operation, 4).await;
    begun.unwrap();
    let before = left(&bench).await;
    let mut holding = bench.superuser.begin().await.unwrap();
    sqlx::raw_sql("SELECT id FROM auth.service_accounts FOR UPDATE")
        .execute(&mut *holding)
        .await
        .unwrap();
    let (state, tenant) = (bench.state.clone(), house.tenant);
    let mut killed = tokio::spawn(async move { purge_some(&service_ctx(), &state, tenant, operation, 1_000).await });
    bench.until_it_waits(&mut killed).await;
    bench
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .await;
    assert!(killed.await.unwrap().is_err());
    holding.rollback().await.unwrap();
    assert_eq!(left(&bench).await, before);
    let (purged, _) = purge_all(&bench, house.tenant, 1_000).await;
    assert_eq!(counts(&purged), had);
}
