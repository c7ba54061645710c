//! Kept statements through PgBouncer, which has them at whichever back end a transaction meets: from 1.21 on, if it is told to.

use rowhouse_devkit::pooler::{Particulars, Pooler};
use rowhouse_devkit::servers::LanePools;

use super::*;

/// PgBouncer's last word on it, in a file that comes after its other settings.
const KEEPS_NONE: &str = "max_prepared_statements = 0\n";

async fn serve(bench: &Bench, pooler: &Pooler) -> TenantDb {
    let config = TenantDbConfig {
        own_databases: OwnDatabases {
            connections_max: 1,
            keeps_statements: true,
            ..OwnDatabases::default()
        },
        ..config(pooler.url().to_owned(), Lanes::OFF)
    };
    TenantDb::connect(config, bench.directory.clone()).await.unwrap()
}

async fn read(db: &TenantDb, tenant: TenantId) -> Result<usize, Error> {
    let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Read).await?;
    Ok(tx.fetch_all(&LIST, &[]).await?.len())
}

/// What a client has prepared on one back end is said by its name to another, while somebody else has the first.
///
/// The control is a PgBouncer that keeps none, as every one before 1.21: the other back end does not know the name. Where the one
/// on this machine is older there is only the control.
#[tokio::test]
async fn a_pooler_that_keeps_statements_has_them_at_every_back_end() {
    let bench = Bench::start("kept_pooled", 1).await;
    let tenant = bench.tenant_in(DATABASE).await;
    let none = [KEEPS_NONE.to_owned()];
    let lanes = LanePools { count: 0, pool_size: 0 };
    let as_it_is = Pooler::start(&bench.databases, lanes, 2).await.unwrap();
    let (keeping, other) = if as_it_is.keeps_statements() {
        let particulars = Particulars {
            included: &none,
            ..Particulars::default()
        };
        let other = Pooler::start_with(&bench.databases, lanes, 2, &particulars)
            .await
            .unwrap();
        (Some(as_it_is), other)
    } else {
        (None, as_it_is)
    };
    for (pooler, knows) in keeping.iter().map(|pooler| (pooler, true)).chain([(&other, false)]) {
        let (one, two) = (serve(&bench, pooler).await, serve(&bench, pooler).await);
        for _ in 0..2 {
            assert_eq!(read(&one, tenant).await, Ok(0));
        }
        assert_eq!(kept(&one, tenant, LIST.sql()).await, runs(1));
        // The one back end that there is by now.
        let held = two.begin(&ctx(tenant, LONG), Mode::Read).await;
        let mut held = held.unwrap();
        held.fetch_all(&LIST, &[]).await.unwrap();
        let elsewhere = read(&one, tenant).await;
        if knows {
            assert_eq!(elsewhere, Ok(0));
            assert_eq!(kept(&one, tenant, LIST.sql()).await, runs(1), "on the second back end");
        } else {
            let unknown = matches!(&elsewhere, Err(Error::Fault(why)) if why.contains("26000"));
            assert!(unknown, "{elsewhere:?}");
            assert_eq!(read(&one, tenant).await, Ok(0), "nothing is kept any more");
        }
        held.commit().await.unwrap();
        one.shutdown().await;
        two.shutdown().await;
    }
}

/// Two processes use one back end by turns. Each says its own names, and they are not the other's.
#[tokio::test]
async fn processes_that_share_a_back_end_do_not_mix_their_statements_up() {
    let bench = Bench::start("kept_shared_one", 1).await;
    let tenant = bench.tenant_in(DATABASE).await;
    let pooler = Pooler::start(&bench.databases, LanePools { count: 0, pool_size: 0 }, 1)
        .await
        .unwrap();
    if !pooler.keeps_statements() {
        // Before 1.21 they would be: nobody is to keep any through it, and the devkit says so.
        eprintln!("skipped: the PgBouncer on this machine is older than 1.21 and would mix them up");
        return;
    }
    let (one, two) = (serve(&bench, &pooler).await, serve(&bench, &pooler).await);
    for turn in 0..3 {
        for (db, name) in [(&one, "one"), (&two, "two")] {
            let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Write).await.unwrap();
            let body = format!("{turn}, {name}");
            let note = tx.fetch_one(&INSERT, &[&Uuid::now_v7(), &body]).await.unwrap();
            assert_eq!(note.body, body);
            assert_eq!(read(db, tenant).await, Ok(2 * turn + usize::from(name == "two") + 1));
        }
    }
    // Each has said it twice by its name, and it is one and the same there.
    assert_eq!(kept(&one, tenant, LIST.sql()).await, runs(4));
    one.shutdown().await;
    two.shutdown().await;
}
