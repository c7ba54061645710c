//! Which commits are waited for.

use crate::operation::tests::{Bench, LONG, ctx, new_tenant};

/// Every commit that changes a spare from now on, in its order: what it does, and whether the transaction itself
/// has chosen not to wait for it. Tests' servers wait for none.
const REMEMBER_COMMITS: &str = "
    CREATE TABLE public.commits (number bigserial, what text, chosen boolean);
    GRANT ALL ON public.commits, public.commits_number_seq TO PUBLIC;
    CREATE FUNCTION public.remember_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.commits (what, chosen)
        SELECT CASE TG_OP WHEN 'INSERT' THEN 'issued' WHEN 'DELETE' THEN 'taken' ELSE new.state END,
            setting = 'off' AND source = 'session'
        FROM pg_settings WHERE name = 'synchronous_commit';
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER remember AFTER INSERT OR UPDATE OR DELETE ON tenant.spares
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.remember_commit()";

/// An id that was lost, while homes stand for it elsewhere, would leave homes that nobody knows of.
#[tokio::test]
async fn issuing_an_id_and_taking_it_wait_for_their_commits_and_building_does_not() {
    let bench = Bench::start("spare_commits").await;
    sqlx::raw_sql(REMEMBER_COMMITS).execute(&bench.superuser).await.unwrap();
    bench.filler(1).round_once().await;
    bench.tenants.create(&ctx(LONG), new_tenant("acme")).await.unwrap();
    let commits: Vec<(String, bool)> = sqlx::query_as("SELECT what, chosen FROM public.commits ORDER BY number")
        .fetch_all(&bench.superuser)
        .await
        .unwrap();
    let expected = [("issued", false), ("building", true), ("ready", true), ("taken", false)];
    assert_eq!(commits, expected.map(|(what, chosen)| (what.to_owned(), chosen)));
}
