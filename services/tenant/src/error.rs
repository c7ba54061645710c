//! What can go wrong in this service, as facts, and what the caller hears of it.

use rowhouse_context::ServiceName;
use rowhouse_db::control::is_away;
use rowhouse_status::{Failure, Reason, Violations};
use rowhouse_types::{MigrationRunId, OperationId, ServerName, TenantId};

use crate::migration;
use crate::plan::PlanName;
use crate::tenant::State;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such tenant.
    #[error("there is no tenant {id}")]
    TenantUnknown {
        /// As asked for.
        id: TenantId,
    },
    /// Another tenant has the slug.
    #[error("the slug {slug} is taken")]
    SlugTaken {
        /// As asked for.
        slug: String,
    },
    /// The request id was used for something else.
    #[error("the request id was used with other content")]
    RequestReused,
    /// The tenant was changed since.
    #[error("tenant {id} has changed since the etag was issued")]
    EtagMismatch {
        /// The tenant.
        id: TenantId,
    },
    /// The tenant's state does not allow it.
    #[error("a tenant that is {state} cannot be {wanted}")]
    StateForbids {
        /// The tenant.
        id: TenantId,
        /// Its state.
        state: State,
        /// What was asked for, as a participle.
        wanted: &'static str,
    },
    /// The slug is not the tenant's.
    #[error("the slug is another than the tenant's")]
    SlugMismatch,
    /// The tenant was not purged.
    #[error("tenant {id} was not purged")]
    PurgeUnknown {
        /// The tenant.
        id: TenantId,
    },
    /// The tenant has no home yet.
    #[error("tenant {id} has no home yet")]
    NotReady {
        /// The tenant.
        id: TenantId,
    },
    /// The operation goes on, but the caller stops waiting.
    #[error("operation {operation} goes on after the deadline")]
    StillRunning {
        /// The operation.
        operation: OperationId,
    },
    /// There is no such data server.
    #[error("there is no data server {name}")]
    ServerUnknown {
        /// As asked for.
        name: ServerName,
    },
    /// A server of this name is registered, with other content.
    #[error("data server {name} is registered already")]
    ServerExists {
        /// As asked for.
        name: ServerName,
    },
    /// The server was changed since.
    #[error("data server {name} has changed since the etag was issued")]
    ServerEtagMismatch {
        /// The server.
        name: ServerName,
    },
    /// No active server takes the placement and has the labels.
    #[error("no data server fits")]
    NoServerFits,
    /// Those that fit are full.
    #[error("the data servers that fit are full")]
    ServersFull,
    /// There is no such run of migrations.
    #[error("there is no migration {id}")]
    MigrationUnknown {
        /// As asked for.
        id: MigrationRunId,
    },
    /// The participant has another run that has not ended.
    #[error("a migration of {participant} is running")]
    MigrationRunning {
        /// Whose homes it migrates.
        participant: ServiceName,
    },
    /// The participant's code has no such version.
    #[error("there is no version {version} to migrate to, the newest is {newest}")]
    MigrationVersionUnknown {
        /// As asked for.
        version: i32,
        /// The newest that there is.
        newest: i32,
    },
    /// Tenants of a run's waves have no home.
    #[error("{} canaries have no home", .places.len())]
    CanariesUnknown {
        /// The wave of each, and its place there.
        places: Vec<(usize, usize)>,
    },
    /// The run's state does not allow it.
    #[error("a migration that is {state} cannot become {wanted}")]
    MigrationStateForbids {
        /// The run.
        id: MigrationRunId,
        /// Its state.
        state: migration::State,
        /// What was asked for.
        wanted: migration::State,
    },
    /// The deadline of a stream has come before the end of the run.
    #[error("the deadline came before the end of migration {id}")]
    WatchOver {
        /// The run.
        id: MigrationRunId,
    },
    /// The service holds no tenants' data.
    #[error("{participant} holds no tenants' data")]
    ParticipantUnknown {
        /// As asked for.
        participant: ServiceName,
    },
    /// There is no such plan.
    #[error("there is no plan {name}")]
    PlanUnknown {
        /// As asked for.
        name: PlanName,
    },
    /// A tenant was to have a plan that does not exist.
    #[error("there is no such plan to assign")]
    PlanNotAssignable,
    /// A plan of this name exists, with other content.
    #[error("plan {name} exists already")]
    PlanExists {
        /// As asked for.
        name: PlanName,
    },
    /// The plan was changed since.
    #[error("plan {name} has changed since the etag was issued")]
    PlanEtagMismatch {
        /// The plan.
        name: PlanName,
    },
    /// Tenants have the plan.
    #[error("tenants have plan {name}")]
    PlanInUse {
        /// The plan.
        name: PlanName,
    },
    /// A participant refused or did not answer.
    #[error("a participant: {}; {}", .0, .0.cause().unwrap_or_default())]
    Participant(Box<Failure>),
    /// The page token is not one of ours, or was issued for another list or caller.
    #[error("the page token is not valid here")]
    PageToken,
    /// The database failed or did not answer.
    #[error("the control database failed")]
    Database(#[from] sqlx::Error),
    /// A row holds what this code cannot read.
    #[error("the database holds what this code cannot read: {what}")]
    Unreadable {
        /// Which value.
        what: String,
    },
}

/// What a statement or an action answers.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

// === impl Error ===

impl Error {
    /// A stored value that cannot be read.
    pub(crate) fn unreadable(fault: impl std::fmt::Display) -> Self {
        Self::Unreadable {
            what: fault.to_string(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Participant(Box::new(failure))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::TenantUnknown { id } => Self::not_found("tenant", id),
            Error::SlugTaken { slug } => Self::new(Reason::ResourceAlreadyExists, "a tenant with this slug exists")
                .in_field("tenant.slug", "must be one that no other tenant has")
                .about("tenant", slug),
            Error::RequestReused => Self::request_id_reused(),
            Error::EtagMismatch { id } => Self::new(
                Reason::EtagMismatch,
                "the tenant has changed since; read it again and repeat the change",
            )
            .about("tenant", id),
            Error::StateForbids { id, state, wanted } => Self::new(
                Reason::StateForbids,
                format!("a tenant that is {state} cannot be {wanted}"),
            )
            .with("state", state)
            .about("tenant", id),
            Error::SlugMismatch => Self::field("slug", "must be the slug of the tenant"),
            Error::PurgeUnknown { id } => Self::not_found("purge", id),
            Error::NotReady { id } => {
                Self::new(Reason::TenantNotReady, "the tenant is still being provisioned").about("tenant", id)
            }
            Error::StillRunning { operation } => Self::new(
                Reason::DeadlineExceeded,
                "the deadline came before the end; the operation goes on",
            )
            .with("operation", operation),
            Error::ServerUnknown { name } => Self::not_found("server", name),
            Error::ServerExists { name } => Self::new(
                Reason::ResourceAlreadyExists,
                "a data server of this name is registered with other content",
            )
            .in_field("server.name", "must be one that no other server has")
            .about("server", name),
            Error::ServerEtagMismatch { name } => Self::new(
                Reason::EtagMismatch,
                "the server has changed since; read it again and repeat the change",
            )
            .about("server", name),
            Error::NoServerFits => Self::new(
                Reason::NoServerFits,
                "no active data server takes the placement and has the labels asked for",
            ),
            Error::ServersFull => Self::new(Reason::ServersFull, "the data servers that fit are full"),
            Error::ParticipantUnknown { .. } => {
                Self::field("participant", "must be a service that holds tenants' data")
            }
            Error::MigrationUnknown { id } => Self::not_found("migration", id),
            Error::MigrationRunning { participant } => Self::new(
                Reason::MigrationRunning,
                "another migration of the participant has not ended; wait for it, or cancel it",
            )
            .with("participant", participant),
            Error::MigrationVersionUnknown { version, newest } => Self::new(
                Reason::MigrationVersionUnknown,
                format!("there is no version {version}; the newest is {newest}"),
            )
            .with("newest", newest)
            .in_field("target_version", "must be a version that the participant's code has"),
            Error::CanariesUnknown { places } => {
                let mut violations = Violations::default();
                for (wave, at) in places {
                    let field = format!("waves[{wave}].tenant_ids[{at}]");
                    violations.add(&field, "must be a tenant that has a home at the participant");
                }
                violations.finish(None::<Self>).unwrap_or_else(|failure| failure)
            }
            Error::MigrationStateForbids { id, state, wanted } => Self::new(
                Reason::StateForbids,
                format!("a migration that is {state} cannot become {wanted}"),
            )
            .with("state", state)
            .about("migration", id),
            Error::WatchOver { id } => Self::new(
                Reason::DeadlineExceeded,
                "the deadline came before the end; the migration goes on, watch it again",
            )
            .about("migration", id),
            Error::PlanUnknown { name } => Self::not_found("plan", name),
            Error::PlanNotAssignable => Self::field("plan", "must be the name of a plan"),
            Error::PlanExists { name } => Self::new(
                Reason::ResourceAlreadyExists,
                "a plan of this name exists with other content",
            )
            .in_field("plan.name", "must be one that no other plan has")
            .about("plan", name),
            Error::PlanEtagMismatch { name } => Self::new(
                Reason::EtagMismatch,
                "the plan has changed since; read it again and repeat the change",
            )
            .about("plan", name),
            Error::PlanInUse { name } => Self::new(
                Reason::StateForbids,
                "tenants have the plan; give them another one first",
            )
            .about("plan", name),
            Error::Participant(failure) => *failure,
            Error::PageToken => Self::page_token_invalid(),
            Error::Database(error) if is_away(&error) => Self::unavailable("database", error),
            Error::Database(error) => Self::internal(error),
            Error::Unreadable { .. } => Self::internal(error),
        }
    }
}
