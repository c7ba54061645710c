//! What the tests of this service stand on: a fresh schema, and auth and crm that answer what a test wants.

mod peers;

use std::path::Path;
use std::time::Duration;

use rowhouse_auth_kit::ServiceSigner;
use rowhouse_cache::Cache;
use rowhouse_client::{LimitsClient, Peer};
use rowhouse_config::Secret;
use rowhouse_context::{Ctx, Principal, Reach, RequestId, ServiceName};
use rowhouse_db::ControlDb;
use rowhouse_devkit::cluster::Kind;
use rowhouse_devkit::fixture::Databases;
use rowhouse_devkit::servers::Login;
use rowhouse_mq::{Delivery, Ledger, Wake};
use rowhouse_types::{Limits, SessionId, TenantId, UserId};
use serde_json::Value;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::time::Instant;
use uuid::Uuid;

use crate::email::{Mailer, PostOffice, Templates};
use crate::files::{Files, Place};
use crate::job::Tools;
use crate::peer::{Auth, Crm};
use crate::purge::Records;
use crate::report::actions::Reports;

pub(crate) use peers::{Cut, Peers, Script};

/// A service with its own database and folder.
pub(crate) struct World {
    pub(crate) pool: PgPool,
    pub(crate) folder: TempDir,
    _databases: Databases,
}

// === impl World ===

impl World {
    /// A freshly migrated schema, reached with the service's own login.
    pub(crate) async fn new(name: &str) -> Self {
        let databases = Databases::create_only(Kind::Control, name).await.unwrap();
        let own = Secret::new(databases.control_url(Login::ControlWorker));
        let control = ControlDb::connect(&own, 12).await.unwrap();
        Self {
            pool: control.pool().clone(),
            folder: TempDir::new().unwrap(),
            _databases: databases,
        }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::new(self.pool.clone(), "worker")
    }

    pub(crate) fn files(&self) -> Files {
        Files::open(&Place::Folder(self.folder.path().join("files"))).unwrap()
    }

    pub(crate) fn reports(&self) -> Reports {
        self.reports_within(Limits::default())
    }

    /// The actions, where every tenant's plan has these limits.
    pub(crate) fn reports_within(&self, limits: Limits) -> Reports {
        Reports::new(self.pool.clone(), self.files(), Wake::new(), fixed(limits))
    }

    pub(crate) fn records(&self) -> Records {
        Records::new(self.pool.clone(), self.files())
    }

    pub(crate) fn post(&self, smtp_url: &str) -> PostOffice {
        let mailer = Mailer::new(
            &Secret::new(smtp_url.to_owned()),
            "Rowhouse <no-reply@rowhouse.example>",
        )
        .unwrap();
        PostOffice::new(self.pool.clone(), self.ledger(), mailer, Templates::new().unwrap())
    }

    /// Everything that jobs need. `peers`: answer as auth and crm.
    pub(crate) fn tools(&self, peers: &Peers, smtp_url: &str) -> Tools {
        // The fakes look at no identity.
        let identity = ServiceSigner::new(ServiceName::Worker, &[7; 32]).unwrap().into();
        let peer = |name| Peer::connect(name, peers.url(), &identity).unwrap();
        Tools {
            pool: self.pool.clone(),
            ledger: self.ledger(),
            auth: Auth::new(&peer(ServiceName::Auth)),
            crm: Crm::new(&peer(ServiceName::Crm)),
            files: self.files(),
            post: self.post(smtp_url),
            limits: fixed(Limits::default()),
            wake: Wake::new(),
            app_url: "https://app.rowhouse.example".to_owned(),
        }
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }
}

/// A call of a member who reaches everybody's records.
pub(crate) fn member(tenant: TenantId) -> Ctx {
    let principal = Principal::Member {
        user: UserId::generate(),
        session: SessionId::generate(),
        tenant,
    };
    Ctx::new(
        RequestId::generate(),
        principal,
        Some(tenant),
        Instant::now() + Duration::from_secs(30),
    )
    .with_reach(Reach::All)
}

/// A message as a consumer would get it for the first time.
pub(crate) fn delivery(kind: &str, tenant: TenantId, payload: Value) -> Delivery {
    Delivery {
        id: Uuid::now_v7(),
        kind: kind.to_owned(),
        tenant: Some(tenant),
        request_id: RequestId::generate(),
        traceparent: None,
        payload,
        attempt: 1,
    }
}

/// Files below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Every tenant's limits. They ask nobody, Redis neither.
pub(crate) fn fixed(limits: Limits) -> LimitsClient {
    let nowhere = Cache::connect(&Secret::new("redis://127.0.0.1:1".to_owned()), "none").unwrap();
    LimitsClient::fixed(limits, nowhere)
}
