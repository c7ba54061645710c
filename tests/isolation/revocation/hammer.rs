//! Callers that keep calling all services while their rights are taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_proto::auth::v1::ListMembersRequest;
use rowhouse_proto::crm::v1::{DeleteContactRequest, GetContactRequest, ListContactsRequest, StreamContactsRequest};
use rowhouse_proto::tenant::v1::ListTenantsRequest;
use rowhouse_proto::worker::v1::GetReportRequest;
use rowhouse_types::{ContactId, ReportId};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Why a caller is refused whose rights are gone and who is somebody still, both FAILED_PRECONDITION.
const PRECONDITIONS: [&str; 2] = ["TENANT_SUSPENDED", "SECOND_FACTOR_NOT_SHOWN"];

/// Why a service is refused that is not known at an internal listener, UNAUTHENTICATED like a user whose rights are gone.
const NOT_THE_WORKER: &str = "SERVICE_IDENTITY_INVALID";

/// What an answer says of the caller's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    LetIn,
    Refused,
    /// Nothing: who was asked could not tell, or had no time or no room. A service that answers everybody so lets nobody in, and
    /// proves nothing.
    Unsaid(Code),
}

/// What a caller keeps trying; the member's role allows all of it before the revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    ListContacts,
    DeleteContact,
    GetReport,
    ListMembers,
    /// A colleague's contact, which the member reaches through a team.
    GetColleagues(ContactId),
    /// What the tenant service tells operators alone.
    ListTenants,
    /// What the worker asks crm where services do, with a token for a job of the member's.
    StreamContacts,
}

impl Attempt {
    /// What a `manager` may do.
    pub(super) const ALL: &[Self] = &[
        Self::ListContacts,
        Self::DeleteContact,
        Self::GetReport,
        Self::ListMembers,
    ];
    /// What crm answers.
    pub(super) const AT_CRM: &[Self] = &[Self::ListContacts, Self::DeleteContact];
    /// What is done for a job that a `manager` has asked for, and not for one of a `user`.
    pub(super) const FOR_A_JOB: &[Self] = &[Self::StreamContacts];
    /// What a `user` may not do and a `manager` may.
    pub(super) const BEYOND_USER: &[Self] = &[Self::DeleteContact, Self::GetReport, Self::ListMembers];

    async fn run(self, caller: &Caller) -> Result<(), Status> {
        match self {
            Self::ListContacts => caller
                .contacts()
                .list_contacts(ListContactsRequest::default())
                .await
                .map(drop),
            Self::DeleteContact => {
                let request = DeleteContactRequest {
                    id: ContactId::generate().to_string(),
                    etag: String::new(),
                };
                caller.contacts().delete_contact(request).await.map(drop)
            }
            Self::GetReport => caller
                .reports()
                .get_report(GetReportRequest {
                    id: ReportId::generate().to_string(),
                })
                .await
                .map(drop),
            Self::ListMembers => caller
                .members()
                .list_members(ListMembersRequest::default())
                .await
                .map(drop),
            Self::GetColleagues(id) => caller
                .contacts()
                .get_contact(GetContactRequest { id: id.to_string() })
                .await
                .map(drop),
            Self::ListTenants => caller
                .tenants()
                .list_tenants(ListTenantsRequest::default())
                .await
                .map(drop),
            Self::StreamContacts => {
                let request = StreamContactsRequest::default();
                let mut pages = caller.exports().stream_contacts(request).await?.into_inner();
                // To the end, as the worker does: a stream that is dropped leaves crm a statement to cancel.
                while pages.message().await?.is_some() {}
                Ok(())
            }
        }
    }

    /// Tries once: what the answer says.
    ///
    /// # Errors
    /// An answer that nobody gives by design.
    pub(super) async fn verdict(self, caller: &Caller) -> Result<Verdict> {
        let Err(status) = self.run(caller).await else {
            return Ok(Verdict::LetIn);
        };
        let details = status.get_error_details();
        let reason = details.error_info().map_or("", |info| info.reason.as_str());
        Ok(match (status.code(), self) {
            // The id is random: who hears that there is no such thing was let in.
            (Code::NotFound, Self::DeleteContact | Self::GetReport) => Verdict::LetIn,
            // It says nothing of the member.
            (Code::Unauthenticated, _) if reason == NOT_THE_WORKER => bail!("{self:?}: {status:?}"),
            // What is out of reach is answered as if it were not there.
            (Code::NotFound, Self::GetColleagues(_)) | (Code::Unauthenticated | Code::PermissionDenied, _) => {
                Verdict::Refused
            }
            (Code::FailedPrecondition, _) if PRECONDITIONS.contains(&reason) => Verdict::Refused,
            (code @ (Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted), _) => Verdict::Unsaid(code),
            _ => bail!("{self:?}: {status:?}"),
        })
    }

    /// Tries once: whether it was let in.
    ///
    /// # Errors
    /// As [`Attempt::verdict`].
    pub(super) async fn is_let_in(self, caller: &Caller) -> Result<bool> {
        Ok(self.verdict(caller).await? == Verdict::LetIn)
    }

    /// Tries until the answer says whether it was let in.
    ///
    /// # Errors
    /// Where none has said so within `bound`.
    pub(super) async fn is_let_in_finally(self, caller: &Caller, bound: Duration) -> Result<bool> {
        let until = Instant::now() + bound;
        loop {
            match self.verdict(caller).await? {
                Verdict::LetIn => return Ok(true),
                Verdict::Refused => return Ok(false),
                Verdict::Unsaid(_) if Instant::now() < until => tokio::task::yield_now().await,
                Verdict::Unsaid(code) => bail!("{self:?} is neither let in nor refused: {code:?} for {bound:?}"),
            }
        }
    }
}

/// Callers that never stop trying until told.
pub(super) struct Hammer {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<Vec<(Attempt, Instant)>>>,
}

impl Hammer {
    /// Starts hammering, after each attempt was let in once, so that every service has cached the rights.
    pub(super) async fn start(caller: &Caller, attempts: &[Attempt]) -> Result<Self> {
        for attempt in attempts {
            let verdict = attempt.verdict(caller).await?;
            ensure!(
                verdict == Verdict::LetIn,
                "before the revocation {attempt:?} is allowed: {verdict:?}"
            );
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for attempt in attempts.iter().copied() {
            let (caller, stop) = (caller.clone(), stop.clone());
            tasks.spawn(async move {
                let mut begun = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    if attempt.is_let_in(&caller).await? {
                        begun.push((attempt, began));
                    }
                }
                anyhow::Ok(begun)
            });
        }
        Ok(Self { stop, tasks })
    }

    /// Tries each attempt until it is let in or refused for want of rights, stops, and answers those that were let in although
    /// they began after `acknowledged`.
    ///
    /// # Errors
    /// Where an attempt was neither within `bound`, and what [`Attempt::verdict`] has told a hammer first, which ends with that.
    pub(super) async fn finish(
        mut self,
        caller: &Caller,
        attempts: &[Attempt],
        acknowledged: Instant,
        bound: Duration,
    ) -> Result<Vec<Attempt>> {
        let mut late = Vec::new();
        for attempt in attempts {
            if attempt.is_let_in_finally(caller, bound).await? {
                late.push(*attempt);
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        while let Some(begun) = self.tasks.join_next().await {
            let begun = begun.expect("a hammer does not panic")?;
            late.extend(
                begun
                    .into_iter()
                    .filter(|(_, began)| *began > acknowledged)
                    .map(|(attempt, _)| attempt),
            );
        }
        Ok(late)
    }
}
