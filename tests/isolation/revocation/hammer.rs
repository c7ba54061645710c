//! Callers that keep calling all services while their rights are taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_proto::auth::v1::ListMembersRequest;
use rowhouse_proto::crm::v1::{DeleteContactRequest, GetContactRequest, ListContactsRequest};
use rowhouse_proto::tenant::v1::ListTenantsRequest;
use rowhouse_proto::worker::v1::GetReportRequest;
use rowhouse_types::{ContactId, ReportId};
use tokio::task::JoinSet;
use tonic::{Code, Status};

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
        }
    }

    /// Tries once: whether it was let in.
    pub(super) async fn is_let_in(self, caller: &Caller) -> bool {
        self.let_in(&self.run(caller).await)
    }

    /// Whether the call was let in. Where the id is random, NOT_FOUND means that it was.
    fn let_in(self, answer: &Result<(), Status>) -> bool {
        let random = matches!(self, Self::DeleteContact | Self::GetReport);
        answer.is_ok() || random && answer.as_ref().is_err_and(|status| status.code() == Code::NotFound)
    }
}

/// Callers that never stop trying until told.
pub(super) struct Hammer {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<(Attempt, Instant)>>,
}

impl Hammer {
    /// Starts hammering, after each attempt was let in once, so that every service has cached the rights.
    pub(super) async fn start(caller: &Caller, attempts: &[Attempt]) -> Result<Self> {
        for attempt in attempts {
            let answer = attempt.run(caller).await;
            ensure!(
                attempt.let_in(&answer),
                "before the revocation {attempt:?} is allowed: {answer:?}"
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
                    if attempt.is_let_in(&caller).await {
                        begun.push((attempt, began));
                    }
                }
                begun
            });
        }
        Ok(Self { stop, tasks })
    }

    /// Tries each attempt once more, stops, and answers those that were let in although they began after `acknowledged`.
    pub(super) async fn finish(mut self, caller: &Caller, attempts: &[Attempt], acknowledged: Instant) -> Vec<Attempt> {
        let mut late = Vec::new();
        for attempt in attempts {
            if attempt.is_let_in(caller).await {
                late.push(*attempt);
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        while let Some(begun) = self.tasks.join_next().await {
            let begun = begun.expect("a hammer does not panic");
            late.extend(
                begun
                    .into_iter()
                    .filter(|(_, began)| *began > acknowledged)
                    .map(|(attempt, _)| attempt),
            );
        }
        late
    }
}
