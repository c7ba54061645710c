//! Read-only, deleted and undeleted tenants.

use chrono::TimeDelta;

use super::*;

async fn home_state(bench: &Bench, id: TenantId) -> HomeState {
    let home = directory::store::find(&bench.pool, id, ServiceName::Crm).await;
    home.unwrap().state
}

#[tokio::test]
async fn a_tenant_becomes_read_only_and_is_resumed_or_suspended() {
    let bench = Bench::start("read_only").await;
    let id = create(&bench, "museum").await.id;
    let restricted = turn(&bench.tenants, id, Kind::Restrict).await.unwrap();
    assert_eq!((restricted.state, restricted.deletion), (State::ReadOnly, None));
    assert_eq!(
        turn(&bench.tenants, id, Kind::Restrict).await.unwrap(),
        restricted,
        "read-only already"
    );
    assert_eq!(home_state(&bench, id).await, HomeState::ReadOnly);
    let resumed = turn(&bench.tenants, id, Kind::Resume).await.unwrap();
    assert_eq!(resumed.state, State::Active);
    assert_eq!(home_state(&bench, id).await, HomeState::Active);
    turn(&bench.tenants, id, Kind::Restrict).await.unwrap();
    let suspended = turn(&bench.tenants, id, Kind::Suspend).await.unwrap();
    assert_eq!(suspended.state, State::Suspended);
    assert_eq!(home_state(&bench, id).await, HomeState::Frozen);
}

#[tokio::test]
async fn the_directory_says_read_only_from_the_moment_it_is_accepted() {
    let bench = Bench::start("read_only_stuck").await;
    let id = create(&bench, "stuck").await.id;
    bench.fakes.plan("restrict", Mishap::Fails);
    let reason = Reason::parse_required("moving out").unwrap();
    let short = std::time::Duration::from_millis(800);
    let error = bench.tenants.set_read_only(&ctx(short), id, &reason).await.unwrap_err();
    assert_eq!(
        why(error),
        Why::DeadlineExceeded,
        "it goes on, and nobody is told that it is done"
    );
    assert_eq!(bench.tenants.get(id).await.unwrap().state, State::Restricting);
    assert_eq!(home_state(&bench, id).await, HomeState::ReadOnly);
    bench.fakes.heal();
    assert_eq!(
        turn(&bench.tenants, id, Kind::Restrict).await.unwrap().state,
        State::ReadOnly
    );
}

#[tokio::test]
async fn a_deleted_tenant_is_kept_for_the_grace_period_and_can_be_undeleted() {
    let bench = Bench::start("deleted").await;
    let tenant = create(&bench, "gone").await;
    for before in [None, Some(Kind::Restrict), Some(Kind::Suspend)] {
        if let Some(kind) = before {
            turn(&bench.tenants, tenant.id, kind).await.unwrap();
        }
        let deleted = turn(&bench.tenants, tenant.id, Kind::Delete).await.unwrap();
        let deletion = deleted.deletion.expect("it has its times");
        assert_eq!(deleted.state, State::Deleted);
        assert_eq!(
            deletion.purge_at - deletion.deleted_at,
            TimeDelta::from_std(GRACE).unwrap()
        );
        assert_eq!(home_state(&bench, tenant.id).await, HomeState::Frozen);
        assert_eq!(bench.tenants.get(tenant.id).await.unwrap(), deleted);
        assert_eq!(
            turn(&bench.tenants, tenant.id, Kind::Delete).await.unwrap(),
            deleted,
            "deleting again does not lengthen the grace"
        );
        // Nothing but undeleting leads out.
        for kind in [Kind::Resume, Kind::Suspend, Kind::Restrict] {
            let refused = turn(&bench.tenants, tenant.id, kind).await.unwrap_err();
            assert_eq!(why(refused), Why::StateForbids, "{kind:?}");
        }
        let back = turn(&bench.tenants, tenant.id, Kind::Undelete).await.unwrap();
        assert_eq!((back.state, back.deletion), (State::Active, None));
        assert_eq!(home_state(&bench, tenant.id).await, HomeState::Active);
        assert_eq!(bench.tenants.get(tenant.id).await.unwrap(), back);
    }
    for (kind, times) in [("tenant.deleted.v1", 3), ("tenant.undeleted.v1", 3)] {
        let emitted: i64 = sqlx::query_scalar("SELECT count(*) FROM tenant.outbox WHERE kind = $1")
            .bind(kind)
            .fetch_one(&bench.superuser)
            .await
            .unwrap();
        assert_eq!(emitted, times, "{kind}");
    }
}

#[tokio::test]
async fn deleting_with_a_stale_etag_changes_nothing() {
    let bench = Bench::start("delete_etag").await;
    let tenant = create(&bench, "etag").await;
    let reason = Reason::parse_required("closed their account").unwrap();
    let change = Change {
        id: tenant.id,
        display_name: DisplayName::parse_required("Renamed").unwrap(),
        etag: None,
    };
    let renamed = bench.tenants.update(&ctx(LONG), change).await.unwrap();
    let delete = |etag| {
        let (tenants, reason) = (bench.tenants.clone(), reason.clone());
        async move { tenants.delete(&ctx(LONG), tenant.id, &reason, Some(etag)).await }
    };
    assert_eq!(why(delete(tenant.etag).await.unwrap_err()), Why::EtagMismatch);
    assert_eq!(bench.tenants.get(tenant.id).await.unwrap(), renamed);
    assert_eq!(delete(renamed.etag).await.unwrap().state, State::Deleted);
}

#[tokio::test]
async fn a_deleted_tenant_keeps_its_slug_and_is_listed_only_where_asked_for() {
    let bench = Bench::start("deleted_listed").await;
    let (kept, gone) = (create(&bench, "kept").await.id, create(&bench, "gone").await.id);
    turn(&bench.tenants, gone, Kind::Delete).await.unwrap();
    let caller = ctx(LONG);
    for (deleted, expected) in [(false, vec![kept]), (true, vec![gone, kept])] {
        let page = bench.tenants.list(&caller, deleted, 10, "").await.unwrap();
        let ids: Vec<TenantId> = page.items.iter().map(|tenant| tenant.id).collect();
        assert_eq!(ids, expected, "{deleted}");
    }
    // A token of the one list is none of the other.
    let first = bench.tenants.list(&caller, true, 1, "").await.unwrap();
    let crossed = bench.tenants.list(&caller, false, 1, &first.next_page_token).await;
    assert_eq!(why(crossed.err().unwrap()), Why::PageTokenInvalid);
    let taken = bench.tenants.create(&ctx(LONG), new_tenant("gone")).await.unwrap_err();
    assert_eq!(why(taken), Why::ResourceAlreadyExists);
}

/// Two operators by turns, so that nobody's name stands for the other's. Each uses a request id again, for the same operation too.
#[tokio::test]
async fn every_operation_is_audited_when_accepted_and_when_done_with_who_and_why() {
    let bench = Bench::start("lifecycle_audit").await;
    let operators = [ctx(LONG), ctx(LONG)];
    let created = bench.tenants.create(&operators[0], new_tenant("audited")).await;
    let id = created.unwrap().id;
    let outcomes = ["accepted", "done"];
    let mut expected = outcomes
        .map(|outcome| entry(&operators[0], "tenant.create", outcome, None))
        .to_vec();
    let turns = [
        (Kind::Restrict, "tenant.set_read_only", "moving out"),
        (Kind::Resume, "tenant.resume", "stays"),
        (Kind::Suspend, "tenant.suspend", "unpaid"),
        (Kind::Resume, "tenant.resume", "paid"),
        (Kind::Delete, "tenant.delete", "moved out"),
        (Kind::Undelete, "tenant.undelete", "came back"),
        (Kind::Delete, "tenant.delete", "gone for good"),
        (Kind::Purge, "tenant.purge", "asked to be forgotten"),
    ];
    for ((kind, action, why), operator) in turns.into_iter().zip(operators.iter().cycle()) {
        turn_as(&bench.tenants, operator, id, (kind, why)).await.unwrap();
        expected.extend(outcomes.map(|outcome| entry(operator, action, outcome, Some(why))));
    }
    assert_eq!(bench.audited(Some(id), id).await, expected, "the tenant's log");
    assert_eq!(bench.audited(None, id).await, expected, "the platform's");
}
