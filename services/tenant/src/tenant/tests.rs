//! What operators may do with tenants, on a real database.

mod lifecycle;

use std::collections::BTreeSet;

use rowhouse_context::{Ctx, ServiceName};
use rowhouse_status::{Failure, Reason as Why};
use rowhouse_types::{HomeState, IdempotencyKey, TenantId};
use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};
use uuid::Uuid;

use super::{Change, DisplayName, Reason, State, Tenant, store};
use crate::error::Error;
use crate::operation::Kind;
use crate::operation::tests::{Bench, GRACE, LONG, Mishap, ctx, entry, new_tenant, turn, turn_as};
use crate::{directory, request};

fn why(error: Error) -> Why {
    Failure::from(error).reason()
}

/// Why, and which field of the request is to be marked.
fn why_and_where(error: Error) -> (Why, String) {
    let failure = Failure::from(error);
    let fields: Vec<&str> = failure
        .violations()
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    (failure.reason(), fields.join(" "))
}

async fn create(bench: &Bench, slug: &str) -> Tenant {
    bench.tenants.create(&ctx(LONG), new_tenant(slug)).await.unwrap()
}

#[tokio::test]
async fn the_statements_of_libs_are_prepared_with_the_services_own_login() {
    let bench = Bench::start("log_statements").await;
    let statements = [crate::audit::TABLE.statements(), request::TABLE.statements()].concat();
    for sql in statements {
        let prepared = bench.pool.prepare(AssertSqlSafe(sql.clone()).into_sql_str()).await;
        assert!(prepared.is_ok(), "{sql}: {:?}", prepared.err());
    }
    for sql in ["UPDATE tenant.audit SET actor = ''", "DELETE FROM tenant.seals"] {
        assert!(sqlx::raw_sql(sql).execute(&bench.pool).await.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn a_created_tenant_is_active_and_found() {
    let bench = Bench::start("created").await;
    let tenant = create(&bench, "acme").await;
    assert_eq!(
        (tenant.state, tenant.slug.as_str(), tenant.server.as_str()),
        (State::Active, "acme", "data1")
    );
    assert_eq!(bench.tenants.get(tenant.id).await.unwrap(), tenant);
    let unknown = bench.tenants.get(TenantId::generate()).await.unwrap_err();
    assert_eq!(why(unknown), Why::ResourceNotFound);
}

#[tokio::test]
async fn of_simultaneous_sign_ups_with_one_slug_one_wins() {
    let bench = Bench::start("one_wins").await;
    let calls = (0..8).map(|_| {
        let tenants = bench.tenants.clone();
        tokio::spawn(async move { tenants.create(&ctx(LONG), new_tenant("wanted")).await })
    });
    let mut winners = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(tenant) => {
                assert_eq!(tenant.state, State::Active);
                winners += 1;
            }
            Err(error) => assert_eq!(
                why_and_where(error),
                (Why::ResourceAlreadyExists, "tenant.slug".to_owned())
            ),
        }
    }
    assert_eq!((winners, bench.fakes.effects().built), (1, 1));
    for sql in [
        "SELECT count(*) FROM tenant.tenants",
        "SELECT count(*) FROM tenant.operations",
    ] {
        assert_eq!(bench.count(sql).await, 1, "{sql}");
    }
}

#[tokio::test]
async fn a_repeated_request_answers_the_same_tenant() {
    let bench = Bench::start("repeated").await;
    let ctx = ctx(LONG);
    let mut new = new_tenant("again");
    new.request = Some(IdempotencyKey::generate());
    let calls = (0..6).map(|_| {
        let (tenants, ctx, new) = (bench.tenants.clone(), ctx.clone(), new.clone());
        tokio::spawn(async move { tenants.create(&ctx, new).await })
    });
    let mut ids = BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        let tenant = call.await.unwrap().unwrap();
        assert_eq!(tenant.state, State::Active);
        ids.insert(tenant.id);
    }
    assert_eq!((ids.len(), bench.fakes.effects().invitations.len()), (1, 1));

    new.display_name = DisplayName::parse_required("Another").unwrap();
    let reused = bench.tenants.create(&ctx, new.clone()).await.unwrap_err();
    assert_eq!(why_and_where(reused), (Why::RequestIdReused, "request_id".to_owned()));
    assert_eq!(bench.count("SELECT count(*) FROM tenant.tenants").await, 1);
}

#[tokio::test]
async fn a_request_id_belongs_to_its_caller_and_lasts_a_day() {
    let bench = Bench::start("request_expires").await;
    let caller = ctx(LONG);
    let mut new = new_tenant("first");
    new.request = Some(IdempotencyKey::generate());
    bench.tenants.create(&caller, new.clone()).await.unwrap();
    new.slug = "second".parse().unwrap();
    bench
        .tenants
        .create(&ctx(LONG), new.clone())
        .await
        .expect("another caller's id is another id");

    let rows = "SELECT count(*) FROM tenant.requests";
    assert_eq!(request::TABLE.forget(&bench.pool).await.unwrap(), 0);
    expire_requests(&bench).await;
    new.slug = "third".parse().unwrap();
    bench
        .tenants
        .create(&caller, new.clone())
        .await
        .expect("the id is free again");
    assert_eq!(bench.count(rows).await, 2);
    expire_requests(&bench).await;
    assert_eq!(request::TABLE.forget_part(&bench.pool, 1).await.unwrap(), 1);
    assert_eq!(request::TABLE.forget(&bench.pool).await.unwrap(), 1);
    assert_eq!(bench.count(rows).await, 0);
}

async fn expire_requests(bench: &Bench) {
    sqlx::query("UPDATE tenant.requests SET expires_at = now() - interval '1 second'")
        .execute(&bench.superuser)
        .await
        .unwrap();
}

#[tokio::test]
async fn lists_are_paged_newest_first_and_tokens_belong_to_their_caller() {
    let bench = Bench::start("lists").await;
    let mut created = Vec::new();
    for index in 0..5 {
        created.push(create(&bench, &format!("listed-{index}")).await.id);
    }
    created.reverse();
    let caller = ctx(LONG);
    let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = bench.tenants.list(&caller, false, 2, &token).await.unwrap();
        seen.extend(page.items.iter().map(|tenant| tenant.id));
        token = page.next_page_token;
        pages += 1;
        if token.is_empty() {
            break;
        }
        let stranger = bench.tenants.list(&ctx(LONG), false, 2, &token).await.err().unwrap();
        assert_eq!(
            why_and_where(stranger),
            (Why::PageTokenInvalid, "page_token".to_owned())
        );
    }
    assert_eq!((seen, pages), (created, 3));
    let forged = bench.tenants.list(&caller, false, 2, "forged").await.err().unwrap();
    assert_eq!(why_and_where(forged), (Why::PageTokenInvalid, "page_token".to_owned()));
}

#[tokio::test]
async fn an_update_changes_the_name_and_a_stale_etag_is_refused() {
    let bench = Bench::start("updated").await;
    let tenant = create(&bench, "renamed").await;
    let change = |etag, name: &str| Change {
        id: tenant.id,
        display_name: DisplayName::parse_required(name).unwrap(),
        etag,
    };
    let caller = ctx(LONG);
    let updated = bench
        .tenants
        .update(&caller, change(Some(tenant.etag), "One"))
        .await
        .unwrap();
    assert_eq!(updated.display_name, "One");
    assert_ne!(updated.etag, tenant.etag);
    let stale = bench
        .tenants
        .update(&caller, change(Some(tenant.etag), "Two"))
        .await
        .unwrap_err();
    assert_eq!(why(stale), Why::EtagMismatch);
    bench
        .tenants
        .update(&caller, change(None, "Three"))
        .await
        .expect("no etag, no condition");
    let unknown = Change {
        id: TenantId::generate(),
        ..change(None, "Four")
    };
    assert_eq!(
        why(bench.tenants.update(&caller, unknown).await.unwrap_err()),
        Why::ResourceNotFound
    );
    let audited: Vec<(String, serde_json::Value, serde_json::Value)> = sqlx::query_as(
        "SELECT actor, before, after FROM tenant.audit
            WHERE tenant_id IS NOT NULL AND action = 'tenant.update' ORDER BY at",
    )
    .fetch_all(&bench.superuser)
    .await
    .unwrap();
    let names: Vec<_> = audited
        .iter()
        .map(|(actor, before, after)| {
            assert_eq!(*actor, caller.principal().actor());
            (
                before["display_name"].as_str().unwrap(),
                after["display_name"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(names, [("renamed Ltd", "One"), ("One", "Three")]);
}

#[tokio::test]
async fn simultaneous_updates_with_one_etag_let_one_through() {
    let bench = Bench::start("one_update").await;
    let tenant = create(&bench, "contended").await;
    let calls = (0..6).map(|index| {
        let tenants = bench.tenants.clone();
        let change = Change {
            id: tenant.id,
            display_name: DisplayName::parse_required(&format!("Name {index}")).unwrap(),
            etag: Some(tenant.etag),
        };
        tokio::spawn(async move { tenants.update(&ctx(LONG), change).await.is_ok() })
    });
    let mut through = 0;
    for call in calls.collect::<Vec<_>>() {
        through += u32::from(call.await.unwrap());
    }
    assert_eq!(through, 1);
}

async fn suspend(bench: &Bench, caller: &Ctx, id: TenantId) -> Result<Tenant, Error> {
    let reason = Reason::parse_required("unpaid").unwrap();
    bench.tenants.suspend(caller, id, &reason).await
}

async fn resume(bench: &Bench, caller: &Ctx, id: TenantId) -> Result<Tenant, Error> {
    let reason = Reason::parse_required("paid").unwrap();
    bench.tenants.resume(caller, id, &reason).await
}

#[tokio::test]
async fn suspend_and_resume_are_audited_and_do_nothing_twice() {
    let bench = Bench::start("turned").await;
    let tenant = create(&bench, "turned").await;
    let caller = ctx(LONG);
    assert_eq!(
        resume(&bench, &caller, tenant.id).await.unwrap(),
        tenant,
        "active already"
    );
    let suspended = suspend(&bench, &caller, tenant.id).await.unwrap();
    assert_eq!(suspended.state, State::Suspended);
    assert_eq!(
        suspend(&bench, &caller, tenant.id).await.unwrap(),
        suspended,
        "suspended already"
    );
    assert_eq!(resume(&bench, &caller, tenant.id).await.unwrap().state, State::Active);
    let audited: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT action, actor, reason FROM tenant.audit
         WHERE tenant_id IS NOT NULL AND reason IS NOT NULL AND outcome = 'accepted' AND target = $1 ORDER BY at",
    )
    .bind(tenant.id.to_string())
    .fetch_all(&bench.superuser)
    .await
    .unwrap();
    let actor = caller.principal().actor();
    let expected = [("tenant.suspend", "unpaid"), ("tenant.resume", "paid")]
        .map(|(action, reason)| (action.to_owned(), actor.clone(), reason.to_owned()));
    assert_eq!(audited, expected);
    let calls = bench.fakes.effects().calls.clone();
    assert_eq!((calls["freeze"], calls["thaw"], calls["access"]), (1, 1, 3));
    let unknown = suspend(&bench, &caller, TenantId::generate()).await.unwrap_err();
    assert_eq!(why(unknown), Why::ResourceNotFound);
}

/// Auth orders operations by id; a replica whose clock runs ahead must not make the next one look old.
#[tokio::test]
async fn each_operation_of_a_tenant_is_above_the_one_before_whatever_the_clocks_say() {
    let bench = Bench::start("clocks").await;
    let tenant = create(&bench, "clocks").await;
    let ahead = Uuid::from_u128(0xf000_0000_0000_7000_8000_0000_0000_0000);
    sqlx::query("UPDATE tenant.operations SET operation_id = $2 WHERE tenant_id = $1")
        .bind(tenant.id.uuid())
        .bind(ahead)
        .execute(&bench.superuser)
        .await
        .unwrap();
    suspend(&bench, &ctx(LONG), tenant.id).await.unwrap();
    resume(&bench, &ctx(LONG), tenant.id).await.unwrap();
    let ids: Vec<Uuid> =
        sqlx::query_scalar("SELECT operation_id FROM tenant.operations WHERE tenant_id = $1 ORDER BY created_at")
            .bind(tenant.id.uuid())
            .fetch_all(&bench.superuser)
            .await
            .unwrap();
    assert!(ids.len() == 3 && ids.is_sorted() && ids[0] == ahead, "{ids:?}");
}

#[tokio::test]
async fn the_directory_follows_the_tenants_state() {
    let bench = Bench::start("directory").await;
    let find = |id| directory::store::find(&bench.pool, id, ServiceName::Crm);
    assert_eq!(
        why(find(TenantId::generate()).await.unwrap_err()),
        Why::ResourceNotFound
    );
    let tenant = create(&bench, "found").await;
    let home = find(tenant.id).await.unwrap();
    assert_eq!(
        (home.state, home.generation, home.server),
        (HomeState::Active, 1, tenant.server.clone())
    );
    let elsewhere = directory::store::find(&bench.pool, tenant.id, ServiceName::Worker).await;
    assert_eq!(why(elsewhere.unwrap_err()), Why::TenantNotReady);
    suspend(&bench, &ctx(LONG), tenant.id).await.unwrap();
    assert_eq!(find(tenant.id).await.unwrap().state, HomeState::Frozen);
    resume(&bench, &ctx(LONG), tenant.id).await.unwrap();
    assert_eq!(find(tenant.id).await.unwrap().state, HomeState::Active);
}

/// Puts a tenant into a state without asking the trigger.
async fn force(bench: &Bench, id: TenantId, state: State) {
    let mut transaction = bench.superuser.begin().await.unwrap();
    sqlx::query("SET LOCAL session_replication_role = replica")
        .execute(&mut *transaction)
        .await
        .unwrap();
    sqlx::query(
        "UPDATE tenant.tenants SET state = $2,
             deleted_at = CASE WHEN $2 IN ('deleting', 'deleted', 'undeleting', 'purging', 'purged') THEN now() END,
             plan = CASE WHEN $2 <> 'purged' THEN 'standard' END,
             purge_at = CASE WHEN $2 IN ('deleting', 'deleted', 'undeleting', 'purging', 'purged') THEN now() END
         WHERE tenant_id = $1",
    )
    .bind(id.uuid())
    .bind(state.as_str())
    .execute(&mut *transaction)
    .await
    .unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn the_database_allows_the_transitions_of_the_code_and_no_other() {
    let bench = Bench::start("transitions").await;
    let id = create(&bench, "forced").await.id;
    for from in State::ALL {
        for to in State::ALL.into_iter().filter(|to| *to != from) {
            force(&bench, id, from).await;
            let mut connection = bench.pool.acquire().await.unwrap();
            let changed = store::change_state(&mut connection, id, from, to, GRACE).await;
            assert_eq!(changed.is_ok(), from.may_become(to), "{from} to {to}");
        }
    }
}

#[tokio::test]
async fn a_state_that_does_not_allow_it_is_refused() {
    let bench = Bench::start("state_forbids").await;
    let id = create(&bench, "between").await.id;
    for state in State::ALL {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Provision) {
            if kind.states_before().contains(&state) {
                continue;
            }
            force(&bench, id, state).await;
            // No operation runs here, so a call that joins one answers the tenant as it is.
            match turn(&bench.tenants, id, kind).await {
                Ok(tenant) => {
                    assert!(
                        [kind.state_during(), kind.state_after()].contains(&state),
                        "{kind:?} of {state}"
                    );
                    assert_eq!(tenant.state, state);
                }
                Err(error) => assert_eq!(why(error), Why::StateForbids, "{kind:?} of {state}"),
            }
        }
    }
}

#[tokio::test]
async fn the_service_may_add_to_the_audit_log_and_not_change_it() {
    let bench = Bench::start("audit_rights").await;
    create(&bench, "audited").await;
    for sql in [
        "UPDATE tenant.audit SET actor = 'x'",
        "DELETE FROM tenant.audit",
        "DELETE FROM tenant.tenants",
    ] {
        let refused = sqlx::query(sql).execute(&bench.pool).await.unwrap_err();
        assert_eq!(
            refused.as_database_error().unwrap().code().as_deref(),
            Some("42501"),
            "{sql}"
        );
    }
}
