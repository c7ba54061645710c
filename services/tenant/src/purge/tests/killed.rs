//! T24 of purges: one that is cut short anywhere ends, and its record says once what went.

use rowhouse_devkit::torture::Torture;

use super::{deleted, everything};
use crate::error::Error;
use crate::operation::tests::{Bench, Mishap, turn};
use crate::operation::{Kind, runner};
use crate::tenant::State;

#[tokio::test]
async fn a_purge_killed_at_any_step_is_resumed_and_recorded_once() {
    let mut torture = Torture::begin("T24", "purges");
    while torture.round().is_some() {
        purges_killed(&mut torture).await;
    }
}

async fn purges_killed(torture: &mut Torture) {
    let bench = Bench::start("purge_killed").await;
    let points = ["drop", "erase"].into_iter();
    let points = points.flat_map(|method| [(method, Mishap::HangsBefore), (method, Mishap::HangsAfter)]);
    for (index, (method, mishap)) in points.enumerate() {
        let slug = format!("killed-{index}");
        let tenant = deleted(&bench, &slug).await;
        bench.fakes.plan(method, mishap);
        let process = bench.process().await;
        let _call = process.turn(tenant.id, Kind::Purge);
        bench.fakes.hanging().await;
        process.kill();
        bench.fakes.heal();
        assert_eq!(bench.tenants.get(tenant.id).await.unwrap().state, State::Purging);
        let refused = turn(&bench.tenants, tenant.id, Kind::Undelete).await;
        assert!(matches!(refused, Err(Error::StateForbids { .. })), "no way back");

        bench.let_time_pass().await;
        runner::round(&bench.pool, &bench.sagas).await.unwrap();
        assert_eq!(bench.settled(&slug).await.state, State::Purged);
        let record = bench.tenants.get_purge(tenant.id).await.unwrap();
        assert_eq!(record.removed, everything(), "{method} {mishap:?}");
        torture.trials(1);
    }
}

/// The control: what was removed is recorded together with the step. Where the step is not, it is repeated, and recorded twice.
#[tokio::test]
async fn without_the_step_beside_it_what_was_removed_is_recorded_twice() {
    let bench = Bench::start("purge_unstepped").await;
    let tenant = deleted(&bench, "twice").await;
    // Once, the record of what was erased comes without the step.
    sqlx::raw_sql(
        "CREATE SEQUENCE tenant.erased;
         CREATE FUNCTION tenant.unstep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
         BEGIN
             IF OLD.step = 'erase' AND NEW.step = 'forget' AND nextval('tenant.erased') = 1 THEN
                 NEW.step := OLD.step;
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER unstep BEFORE UPDATE OF step ON tenant.operations FOR EACH ROW EXECUTE FUNCTION tenant.unstep()",
    )
    .execute(&bench.superuser)
    .await
    .unwrap();
    let process = bench.process().await;
    let _call = process.turn(tenant.id, Kind::Purge);
    let recorded = "SELECT count(*) FROM tenant.purges WHERE removed::text LIKE '%memberships%'";
    while bench.count(recorded).await == 0 {
        tokio::task::yield_now().await;
    }
    process.kill();
    bench.let_time_pass().await;
    runner::round(&bench.pool, &bench.sagas).await.unwrap();
    assert_eq!(bench.settled("twice").await.state, State::Purged);
    let record = bench.tenants.get_purge(tenant.id).await.unwrap();
    let erased = record.removed.iter().filter(|removal| removal.kind == "memberships");
    assert_eq!(erased.map(|removal| removal.count).collect::<Vec<_>>(), [3, 3]);
}
