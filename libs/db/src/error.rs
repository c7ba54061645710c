//! What can go wrong on the way to a tenant's data.
//!
//! Nothing here holds SQL, values or another tenant's names: an error names the statement and the SQLSTATE
//! (PostgreSQL, appendix A), and the constraint where there is one.

use rowhouse_types::{ServerName, TenantId};
use tokio_postgres::error::SqlState;

/// Why a tenant's transaction did not succeed. Nothing of it was committed, except where [`Error::Unavailable`] says
/// that the answer to the COMMIT was lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such tenant.
    #[error("the tenant is unknown")]
    TenantUnknown,
    /// The tenant's home is frozen.
    #[error("the tenant is suspended")]
    TenantSuspended,
    /// The tenant's home may be read and not written.
    #[error("the tenant is read-only")]
    TenantReadOnly,
    /// The tenant has no home yet, or no longer.
    #[error("the tenant has no home")]
    TenantNotReady,
    /// The home has moved, or has a version that this code does not serve, and a fresh look-up did not help.
    #[error("the directory does not know the tenant's home as it is")]
    Stale,
    /// The tenant has as many transactions under way as everybody may, this process has as many connections to tenants' own
    /// databases, a lock was not to be had in time, or two transactions stood in each other's way. Trying again may help.
    #[error("the tenant's data is busy")]
    Busy,
    /// The tenant has as many transactions under way as its plan allows. Trying again may help.
    #[error("the tenant's plan allows {most} concurrent transactions")]
    TransactionsExceeded {
        /// The tenant.
        tenant: TenantId,
        /// How many it allows.
        most: u16,
    },
    /// A statement took longer than the tenant's plan allows. The server says the same where an operator ended it.
    #[error("a statement took longer than the tenant's plan allows")]
    StatementExceeded {
        /// The tenant.
        tenant: TenantId,
    },
    /// No connection became free in time.
    #[error("no connection became free in time")]
    PoolTimeout,
    /// The context's deadline came first.
    #[error("the deadline has passed")]
    DeadlineExceeded,
    /// No URL is configured for the data server that has the tenant's home: the directory knows it before this process does.
    #[error("no URL is configured for data server {name}")]
    ServerUnknown {
        /// The server, by its registered name.
        name: ServerName,
    },
    /// The server or the directory does not answer, or the connection was lost, possibly while the COMMIT was on its way.
    #[error("the server does not answer: {0}")]
    Unavailable(String),
    /// `fetch_one` found no row.
    #[error("no such row")]
    RowMissing,
    /// A constraint of the tenant's tables refused the change.
    #[error("constraint {name} refused the change ({sqlstate})")]
    Constraint {
        /// The constraint's name.
        name: String,
        /// Class 23: `23505` unique, `23503` foreign key, `23514` check, `23502` not null.
        sqlstate: String,
    },
    /// A mistake of ours: a statement that does not fit the schema, a right that is missing.
    #[error("{0}")]
    Fault(String),
}

/// A constraint's name ends so where it is the wall between houses, and not a rule of the tenant's data.
pub(crate) const HOUSE_WALL: &str = "_house";

/// `rowhouse.enter`: there is no home of this participant for the tenant here.
pub(crate) const HOME_ABSENT: &str = "RH001";
/// `rowhouse.enter`: the home has another generation.
pub(crate) const GENERATION_STALE: &str = "RH002";
/// `rowhouse.enter`: the home's version is outside the range that the caller serves.
pub(crate) const VERSION_UNSERVED: &str = "RH003";
/// `rowhouse.enter`: the home's state forbids this.
pub(crate) const STATE_FORBIDS: &str = "RH004";
/// `rowhouse.enter_lane`: other transactions have all slots of the tenant.
pub(crate) const SLOTS_TAKEN: &str = "RH006";
/// `rowhouse.enter`: the home's state forbids writing.
pub(crate) const STATE_FORBIDS_WRITING: &str = "RH007";

/// Whether it is the server that fails, and not what it was asked: another try may help. PostgreSQL, appendix A: 08 the connection
/// (08P01 is how PgBouncer says that it has no server), 53 insufficient resources, 57 an operator's hand (shut down, cancelled),
/// 58 the system beneath.
///
/// `sqlstate`: five characters.
pub(crate) fn is_servers(sqlstate: &str) -> bool {
    matches!(sqlstate.get(..2), Some("08" | "53" | "57" | "58"))
}

// === impl Error ===

impl Error {
    /// Reads the driver's error. `what` names the statement.
    pub(crate) fn from_driver(what: &str, error: &tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            return Self::without_code(what, error);
        };
        let code = db.code();
        let state = code.code();
        match state {
            HOME_ABSENT => Self::TenantNotReady,
            GENERATION_STALE | VERSION_UNSERVED => Self::Stale,
            STATE_FORBIDS => Self::TenantSuspended,
            STATE_FORBIDS_WRITING => Self::TenantReadOnly,
            _ if *code == SqlState::QUERY_CANCELED => Self::DeadlineExceeded,
            SLOTS_TAKEN | "55P03" | "40001" | "40P01" => Self::Busy,
            _ if state.starts_with("23") => match db.constraint() {
                Some(name) if !name.ends_with(HOUSE_WALL) => Self::Constraint {
                    name: name.to_owned(),
                    sqlstate: state.to_owned(),
                },
                Some(name) => Self::Fault(format!("{what}: the wall {name} refused a row ({state})")),
                // NOT NULL has a column and no constraint.
                None => Self::Constraint {
                    name: db.column().unwrap_or_default().to_owned(),
                    sqlstate: state.to_owned(),
                },
            },
            _ if is_servers(state) => Self::Unavailable(format!("{what}: SQLSTATE {state}")),
            _ => Self::Fault(format!("{what}: SQLSTATE {state}")),
        }
    }

    fn without_code(what: &str, error: &tokio_postgres::Error) -> Self {
        if error.is_closed() || error.to_string().starts_with("error communicating") {
            Self::Unavailable(format!("{what}: the connection was lost"))
        } else {
            // Conversions: the driver's text names types and positions, never values.
            Self::Fault(format!("{what}: {error}"))
        }
    }
}
