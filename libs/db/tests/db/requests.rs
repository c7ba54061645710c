//! Calls that may be repeated, in a service's own schema.

use rowhouse_config::Secret;
use rowhouse_db::ControlDb;
use rowhouse_db::requests::{Claimed, Once, RequestTable};
use rowhouse_devkit::cluster::Kind;
use rowhouse_devkit::fixture::Databases;
use rowhouse_types::IdempotencyKey;
use sqlx::PgPool;
use tokio::time::timeout;
use uuid::Uuid;

use crate::bench::{LONG, until};

const TABLE: RequestTable = RequestTable::new("tried", "caller");

struct Bench {
    pool: PgPool,
    _databases: Databases,
}

impl Bench {
    async fn start(name: &str) -> Self {
        let databases = Databases::empty_only(Kind::Control, name).await.unwrap();
        let url = Secret::new(databases.control_superuser_url());
        let bench = Self {
            pool: ControlDb::connect(&url, 4).await.unwrap().pool().clone(),
            _databases: databases,
        };
        bench
            .execute(
                "CREATE SCHEMA tried;
                 CREATE TABLE tried.requests (
                     caller text NOT NULL, method text NOT NULL, request_id uuid NOT NULL, fingerprint bytea NOT NULL,
                     resource_id uuid NOT NULL, expires_at timestamptz NOT NULL,
                     CONSTRAINT requests_pkey PRIMARY KEY (caller, method, request_id))",
            )
            .await;
        bench
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.pool).await.unwrap();
    }

    /// A call that makes `resource`.
    async fn claim(&self, caller: &str, once: &Once, resource: Uuid) -> Claimed {
        let mut tx = self.pool.begin().await.unwrap();
        let claimed = TABLE.claim(&mut tx, caller, once, resource).await.unwrap();
        tx.commit().await.unwrap();
        claimed
    }

    async fn find(&self, caller: &str, once: &Once) -> Option<Claimed> {
        let mut connection = self.pool.acquire().await.unwrap();
        TABLE.find(&mut connection, caller, once).await.unwrap()
    }

    async fn is_over(&self) {
        self.execute("UPDATE tried.requests SET expires_at = now() - interval '1 second'")
            .await;
    }

    async fn forget(&self) -> u64 {
        let forgotten = timeout(LONG, TABLE.forget(&self.pool)).await;
        forgotten.expect("it waits for nobody").unwrap()
    }
}

#[tokio::test]
async fn a_key_stands_for_one_call_of_its_caller_until_it_is_over() {
    let bench = Bench::start("requests").await;
    let key = IdempotencyKey::generate();
    let once = Once::new("Create", key, &"Ada");
    let [first, second] = [(); 2].map(|()| Uuid::new_v4());
    assert_eq!(bench.find("ann", &once).await, None);
    assert_eq!(bench.claim("ann", &once, first).await, Claimed::First);
    assert_eq!(bench.claim("ann", &once, second).await, Claimed::Repeated(first));
    assert_eq!(bench.find("ann", &once).await, Some(Claimed::Repeated(first)));

    let other = Once::new("Create", key, &"Grace");
    assert_eq!(bench.claim("ann", &other, second).await, Claimed::Reused);
    assert_eq!(bench.find("ann", &other).await, Some(Claimed::Reused));
    assert_eq!(bench.claim("bob", &other, second).await, Claimed::First);
    let elsewhere = Once::new("Start", key, &"Ada");
    assert_eq!(bench.claim("ann", &elsewhere, second).await, Claimed::First);

    bench.is_over().await;
    assert_eq!(bench.find("ann", &once).await, None);
    // It is taken over whole: what comes next repeats the second.
    assert_eq!(bench.claim("ann", &other, second).await, Claimed::First);
    assert_eq!(bench.claim("ann", &other, first).await, Claimed::Repeated(second));
    assert_eq!(bench.claim("ann", &once, first).await, Claimed::Reused);
}

#[tokio::test]
async fn the_second_of_two_calls_waits_for_the_first_and_is_told_what_it_made() {
    let bench = Bench::start("requests_at_once").await;
    let once = Once::new("Create", IdempotencyKey::generate(), &"Ada");
    let [first, second] = [(); 2].map(|()| Uuid::new_v4());
    let mut tx = bench.pool.begin().await.unwrap();
    assert_eq!(TABLE.claim(&mut tx, "ann", &once, first).await.unwrap(), Claimed::First);
    let waits = || async {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN
                 (SELECT pid FROM pg_stat_activity WHERE datname = current_database())",
        )
        .fetch_one(&bench.pool)
        .await
        .unwrap();
        waiting > 0
    };
    let commit = async {
        until(waits).await;
        tx.commit().await.unwrap();
    };
    let (told, ()) = tokio::join!(bench.claim("ann", &once, second), commit);
    assert_eq!(told, Claimed::Repeated(first));
}

#[tokio::test]
async fn what_is_over_goes_part_by_part_and_nothing_else() {
    let bench = Bench::start("requests_forgotten").await;
    bench
        .execute(
            "INSERT INTO tried.requests
             SELECT 'ann', 'Create', gen_random_uuid(), '', gen_random_uuid(),
                 now() + CASE WHEN n <= 2 THEN interval '1 hour' ELSE interval '-1 hour' END
             FROM generate_series(1, 2503) AS n",
        )
        .await;
    assert_eq!(TABLE.forget_part(&bench.pool, 1).await.unwrap(), 1);
    assert_eq!(bench.forget().await, 2_500);
    assert_eq!(bench.forget().await, 0);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM tried.requests")
        .fetch_one(&bench.pool)
        .await
        .unwrap();
    assert_eq!(left, 2);
}

/// Who waited for the call would find the row that it has seen, and remove what the call has just written: the next one with this
/// key would do everything again.
#[tokio::test]
async fn what_a_call_takes_over_is_not_forgotten() {
    let bench = Bench::start("requests_taken_over").await;
    let once = Once::new("Create", IdempotencyKey::generate(), &"Ada");
    let [first, second, third] = [(); 3].map(|()| Uuid::new_v4());
    bench.claim("ann", &once, first).await;
    bench.is_over().await;
    let mut tx = bench.pool.begin().await.unwrap();
    assert_eq!(
        TABLE.claim(&mut tx, "ann", &once, second).await.unwrap(),
        Claimed::First
    );
    assert_eq!(bench.forget().await, 0);
    tx.commit().await.unwrap();
    assert_eq!(bench.forget().await, 0);
    assert_eq!(bench.claim("ann", &once, third).await, Claimed::Repeated(second));
}
