//! Connections: who owns their tasks, when they may be used again, what they keep, and TLS.

pub(crate) mod back_end;
pub(crate) mod kept;
mod tls;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bb8::ManageConnection;
use metrics::Gauge;
use rowhouse_config::Secret;
use rowhouse_types::TenantId;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Error;
use crate::tenant::homes::Homes;
use crate::tenant::login::OwnLogin;
use crate::tenant::own_place::{OwnPlace, OwnShare};
use back_end::BackEnd;
use kept::{KEPT_MAX, Kept};

/// A server on the same network answers at once; a lost packet costs one to three seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the last attempt to connect failed; none after a success.
pub(crate) type LastFault = Arc<Mutex<Option<String>>>;

/// How to reach one data server; the manager of its pool.
pub(crate) struct Target {
    server: String,
    /// What its connections count as in the metrics.
    lane: String,
    /// Distinct homes after which a connection is retired.
    homes_max: Option<usize>,
    /// The same for a back end behind the pooler, which counts them itself.
    back_end_homes_max: Option<usize>,
    /// Only a tenant's own database has it.
    own: Option<OwnDatabase>,
    config: Config,
    tls: Option<MakeRustlsConnect>,
    tasks: TaskTracker,
    /// Ends the tasks of all connections.
    stop: CancellationToken,
    last_fault: LastFault,
}

/// What the connections to a tenant's own database have and no others.
pub(crate) struct OwnDatabase {
    /// In place of the URL's.
    pub(crate) login: OwnLogin,
    /// Of the connections to all such databases of the server.
    pub(crate) share: OwnShare,
    /// Whether the statements of the program stay prepared: nowhere else does a back end serve one home.
    pub(crate) keeps_statements: bool,
}

/// One connection. Its task, which moves the bytes, ends with it.
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// It is not known to be idle, so nobody may use it after its present holder.
    pub(crate) dirty: bool,
    /// What it has served, where that is bounded.
    homes: Option<Homes>,
    /// What it has met behind the pooler.
    pub(crate) back_end: BackEnd,
    /// Behind the client, with which it ends: then nothing is said about the statements that go.
    pub(crate) kept: Kept,
    /// Connections of its lane.
    count: Gauge,
    /// Among the connections to tenants' own databases.
    place: Option<OwnPlace>,
    stop: CancellationToken,
}

// === impl Target ===

impl Target {
    /// A server by its URL: `postgres://user:password@host:port/database`, with `sslmode=require` (or `verify-full`,
    /// which is the same here: certificates are always verified) for TLS, and `sslrootcert=FILE` for a private authority.
    ///
    /// # Errors
    /// [`Error::Fault`] when the URL cannot be read; it never holds the URL.
    pub(crate) fn new(server: &str, url: &Secret, tasks: TaskTracker, stop: CancellationToken) -> Result<Self, Error> {
        let unreadable = |_| Error::Fault(format!("the URL of data server {server} cannot be read"));
        let (url, wish) = tls::split(url.expose());
        let mut config: Config = url.parse().map_err(unreadable)?;
        config.connect_timeout(CONNECT_TIMEOUT).application_name("rowhouse");
        let tls =
            tls::connector(&wish).map_err(|fault| Error::Fault(format!("TLS of data server {server}: {fault}")))?;
        config.ssl_mode(if tls.is_some() {
            tokio_postgres::config::SslMode::Require
        } else {
            tokio_postgres::config::SslMode::Disable
        });
        Ok(Self {
            server: server.to_owned(),
            lane: String::new(),
            homes_max: None,
            back_end_homes_max: None,
            own: None,
            config,
            tls,
            tasks,
            stop,
            last_fault: Arc::default(),
        })
    }

    /// A tenant's own database of the same server, by the login that it has. No file is read again: the authority is the one
    /// that was trusted when the process started.
    pub(crate) fn for_own_database(&self, own: OwnDatabase) -> Self {
        let mut config = self.config.clone();
        config.dbname(&own.login.name);
        Self {
            server: self.server.clone(),
            lane: String::new(),
            homes_max: None,
            back_end_homes_max: None,
            own: Some(own),
            config,
            tls: self.tls.clone(),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
            last_fault: Arc::default(),
        }
    }

    /// Names the lane that its connections belong to.
    pub(crate) fn in_lane(mut self, lane: &str) -> Self {
        lane.clone_into(&mut self.lane);
        self
    }

    /// Connects to the alias that `PgBouncer` has for the lane.
    ///
    /// # Errors
    /// [`Error::Fault`] where the URL names no database.
    pub(crate) fn by_alias(mut self, lane: &str) -> Result<Self, Error> {
        let Some(database) = self.config.get_dbname() else {
            return Err(Error::Fault(format!(
                "the URL of data server {} names no database",
                self.server
            )));
        };
        let alias = format!("{database}_{lane}");
        self.config.dbname(&alias);
        Ok(self)
    }

    /// Retires a connection that has served so many homes.
    pub(crate) fn retiring_after(mut self, homes: usize) -> Self {
        self.homes_max = Some(homes);
        self
    }

    /// Ends a back end behind the pooler that has met so many homes, and the connection with it.
    pub(crate) fn ending_back_ends_after(mut self, homes: usize) -> Self {
        self.back_end_homes_max = Some(homes);
        self
    }

    /// Where to read why the last attempt to connect failed, once the pool owns the target.
    pub(crate) fn last_fault(&self) -> LastFault {
        Arc::clone(&self.last_fault)
    }

    fn note(&self, fault: Option<String>) {
        *self.last_fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Opens a connection that no pool owns.
    pub(crate) async fn open(&self) -> Result<Connection, Error> {
        let refused = |error: tokio_postgres::Error| {
            self.note(Some(cause(&error)));
            Error::from_driver("connect", &error)
        };
        let mut place = match &self.own {
            Some(own) => Some(own.share.take().await?),
            None => None,
        };
        let config = self.config().await?;
        let stop = self.stop.child_token();
        let client = if let Some(tls) = &self.tls {
            let (client, connection) = config.connect(tls.clone()).await.map_err(refused)?;
            self.keep(connection, &stop);
            client
        } else {
            let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
            self.keep(connection, &stop);
            client
        };
        let (server, lane) = (self.server.clone(), self.lane.clone());
        let count = metrics::gauge!("rowhouse_db_lane_connections", "server" => server, "lane" => lane);
        count.increment(1.0);
        if let Some(place) = &mut place {
            place.connected();
        }
        Ok(Connection {
            client,
            dirty: false,
            homes: self.homes_max.map(Homes::new),
            back_end: BackEnd::counting(self.back_end_homes_max),
            kept: Kept::new(self.kept_max()),
            count,
            place,
            stop,
        })
    }

    /// Statements that a connection keeps.
    fn kept_max(&self) -> usize {
        let keeps = self.own.as_ref().is_some_and(|own| own.keeps_statements);
        if keeps { KEPT_MAX } else { 0 }
    }

    /// With the login of now.
    async fn config(&self) -> Result<Cow<'_, Config>, Error> {
        let Some(OwnDatabase { login, .. }) = &self.own else {
            return Ok(Cow::Borrowed(&self.config));
        };
        let asked = login.password().await;
        if let Err(error) = &asked {
            self.note(Some(error.to_string()));
        }
        let Some(password) = asked? else {
            return Ok(Cow::Borrowed(&self.config));
        };
        let mut own = self.config.clone();
        own.user(&login.name).password(password.expose());
        Ok(Cow::Owned(own))
    }

    /// Runs a connection's task until its client is dropped, the connection breaks, or it is stopped.
    fn keep<F>(&self, connection: F, stop: &CancellationToken)
    where
        F: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
    {
        let (stop, server) = (stop.clone(), self.server.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = connection => {
                    if let Err(error) = ended {
                        // Whoever used it gets an error of its own; this one says why it broke.
                        tracing::debug!(server, %error, "a database connection broke");
                    }
                }
            }
        });
    }
}

impl ManageConnection for Target {
    type Connection = Connection;
    type Error = Error;

    async fn connect(&self) -> Result<Connection, Error> {
        let opened = self.open().await?;
        self.note(None);
        Ok(opened)
    }

    /// Asked before a connection is given out. It may have ended while nobody used it; that costs no round trip to know.
    async fn is_valid(&self, connection: &mut Connection) -> Result<(), Error> {
        if connection.client.is_closed() {
            return Err(Error::Unavailable("the connection ended while it was idle".to_owned()));
        }
        Ok(())
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        if connection.dirty || connection.client.is_closed() {
            return true;
        }
        let retires = connection.back_end.is_over() || connection.homes.as_ref().is_some_and(Homes::are_full);
        if retires {
            metrics::counter!("rowhouse_db_retired_connections_total").increment(1);
        }
        retires
    }
}

/// What may be logged about a failed attempt to connect.
fn cause(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("SQLSTATE {}", db.code().code()),
        // The driver says that a handshake failed, and only its source that it was the certificate.
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

// === impl Connection ===

impl Connection {
    /// The back end is about to remember the tenant's home.
    pub(crate) fn enters(&mut self, tenant: TenantId) {
        if let Some(homes) = &mut self.homes {
            homes.note(tenant);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.count.decrement(1.0);
        if self.dirty {
            // The task would wait for the answers that are still due, for ever where the server hangs.
            self.stop.cancel();
        }
        if let Some(place) = self.place.as_mut().filter(|_| self.dirty) {
            place.cut();
        }
    }
}
