//! How often a transaction waits for the network.

use std::sync::{Arc, Mutex};

use rowhouse_db::{Lanes, Mode, OwnDatabases, TenantDb, TenantDbConfig};
use rowhouse_devkit::servers::Login;
use rowhouse_types::Placement;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::bench::{Bench, LONG, config, ctx};
use crate::notes::{GET, INSERT_WITH_EVENT, LIST};

/// Who spoke.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// Bytes in both directions, in the order of their passing through.
#[derive(Clone, Default)]
struct Heard {
    sides: Arc<Mutex<Vec<Side>>>,
}

// === impl Heard ===

impl Heard {
    /// How often the client spoke after the server had, or for the first time, since the last look.
    fn round_trips(&self) -> usize {
        let mut sides = std::mem::take(&mut *self.sides.lock().unwrap());
        sides.dedup();
        sides.into_iter().filter(|side| *side == Side::Client).count()
    }

    async fn pass(self, side: Side, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut bytes = vec![0; 65_536];
        while let Ok(count) = from.read(&mut bytes).await {
            self.sides.lock().unwrap().push(side);
            if count == 0 || to.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
    }
}

/// `TenantDb` on a listener of the test's own in front of what `url` leads to.
async fn overheard(bench: &Bench, url: &str, own_databases: OwnDatabases) -> (TenantDb, Heard) {
    let heard = Heard::default();
    let (before, address) = url.rsplit_once('@').unwrap();
    let (address, database) = address.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("{before}@{}/{database}", listener.local_addr().unwrap());
    let (listening, address) = (heard.clone(), address.to_owned());
    // Ends with the test's runtime.
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&address).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(listening.clone().pass(Side::Client, from_client, to_server));
            tokio::spawn(listening.clone().pass(Side::Server, from_server, to_client));
        }
    });
    let config = TenantDbConfig {
        own_databases,
        ..config(url, Lanes::OFF)
    };
    (TenantDb::connect(config, bench.directory.clone()).await.unwrap(), heard)
}

#[tokio::test]
async fn a_transaction_of_one_statement_is_one_round_trip() {
    let bench = Bench::start("round_trips", 1).await;
    let tenant = bench.tenant().await;
    let pooled = bench.databases.data_pooled_url();
    let (db, heard) = overheard(&bench, &pooled, OwnDatabases::default()).await;
    let mut warm = db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    warm.fetch_all(&LIST, &[]).await.unwrap();
    heard.round_trips();

    let id = Uuid::now_v7();
    let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Write).await.unwrap();
    tx.fetch_one(&INSERT_WITH_EVENT, &[&id, &"x", &id]).await.unwrap();
    drop(tx);
    assert_eq!(heard.round_trips(), 1, "a create");
    let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    tx.fetch_one(&GET, &[&id]).await.unwrap();
    drop(tx);
    assert_eq!(heard.round_trips(), 1, "a read");

    // The control, and what longer transactions cost: one each, and COMMIT only where it travels alone.
    let mut tx = db.begin(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    assert_eq!(heard.round_trips(), 0, "nothing is sent before the first statement");
    tx.fetch_one(&GET, &[&id]).await.unwrap();
    tx.commit_with_next();
    tx.fetch_one(&GET, &[&id]).await.unwrap();
    assert_eq!(heard.round_trips(), 2);
    let mut tx = db.begin(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    tx.fetch_one(&GET, &[&id]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(heard.round_trips(), 2);
}

#[tokio::test]
async fn a_statement_is_prepared_without_a_round_trip_of_its_own() {
    let bench = Bench::start("round_kept", 1).await;
    let tenant = bench.tenant_in(Placement::Database).await;
    let keeping = OwnDatabases {
        connections_max: 1,
        keeps_statements: true,
        ..OwnDatabases::default()
    };
    let direct = bench.databases.data_url(Login::App);
    let (db, heard) = overheard(&bench, &direct, keeping).await;
    let mut warm = db.begin_single(&ctx(tenant, LONG), Mode::Read).await.unwrap();
    warm.fetch_all(&LIST, &[]).await.unwrap();
    heard.round_trips();
    for turn in ["first", "second", "third"] {
        let id = Uuid::now_v7();
        let mut tx = db.begin_single(&ctx(tenant, LONG), Mode::Write).await.unwrap();
        tx.fetch_one(&INSERT_WITH_EVENT, &[&id, &turn, &id]).await.unwrap();
        assert_eq!(heard.round_trips(), 1, "the {turn} use");
    }
}
