//! Callers with one session who never stop trying, and what became of their calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::caller::Caller;
use rowhouse_proto::auth::v1::CheckRequest;
use rowhouse_proto::crm::v1::ListContactsRequest;
use rowhouse_proto::tenant::v1::ListTenantsRequest;
use rowhouse_proto::worker::v1::GetReportRequest;
use rowhouse_types::ReportId;
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// Callers at once on each service.
const CALLERS_PER_SERVICE: usize = 2;
/// How long they go on after the acknowledgement: rights that somebody still honoured from memory would show at once.
const AFTER: Duration = Duration::from_millis(500);

/// Who is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Auth,
    Crm,
    Worker,
    Tenant,
}

/// What became of the calls of one service while one session ended.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) service: Service,
    pub(super) let_in: usize,
    pub(super) refused: usize,
    pub(super) failed: usize,
    pub(super) late: usize,
    /// Of the last call that was let in, in milliseconds after the acknowledgement.
    pub(super) last_begun_ms: Option<f64>,
    /// Of the last answer to a call that was let in.
    pub(super) last_ended_ms: Option<f64>,
}

/// A call that has ended.
struct Call {
    begun: Instant,
    ended: Instant,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    LetIn,
    Refused,
    Failed,
}

/// The callers.
pub(super) struct Hammer {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<(Service, Vec<Call>)>,
    services: &'static [Service],
}

// === impl Service ===

impl Service {
    pub(super) const ALL: [Self; 4] = [Self::Auth, Self::Crm, Self::Worker, Self::Tenant];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Crm => "crm",
            Self::Worker => "worker",
            Self::Tenant => "tenant",
        }
    }

    /// Whether its calls act in a tenant, which an operator must name.
    fn is_in_tenant(self) -> bool {
        matches!(self, Self::Crm | Self::Worker)
    }

    /// A call that reads little.
    pub(super) async fn call(self, caller: &Caller) -> Result<(), Status> {
        match self {
            Self::Auth => {
                let question = CheckRequest {
                    permission: "contacts:read".to_owned(),
                    owner_id: String::new(),
                };
                caller.authz().check(question).await.map(drop)
            }
            Self::Crm => {
                let page = ListContactsRequest {
                    page_size: 1,
                    ..ListContactsRequest::default()
                };
                caller.contacts().list_contacts(page).await.map(drop)
            }
            Self::Worker => {
                let id = ReportId::generate().to_string();
                match caller.reports().get_report(GetReportRequest { id }).await {
                    // There is no such report; whoever is told that was let in.
                    Err(status) if status.code() == Code::NotFound => Ok(()),
                    answer => answer.map(drop),
                }
            }
            Self::Tenant => {
                let page = ListTenantsRequest {
                    page_size: 1,
                    ..ListTenantsRequest::default()
                };
                caller.tenants().list_tenants(page).await.map(drop)
            }
        }
    }
}

// === impl Outcome ===

impl Outcome {
    fn of(answer: &Result<(), Status>) -> Self {
        match answer {
            Ok(()) => Self::LetIn,
            Err(status) if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) => Self::Refused,
            Err(_) => Self::Failed,
        }
    }
}

// === impl Hammer ===

impl Hammer {
    /// Starts callers on each of the services once each has let the session in, so that all have its rights in memory.
    ///
    /// `callers`: the session over several connections. `tenant_id`: where the session is an operator's, the tenant to act in.
    pub(super) async fn start(
        callers: &[Caller],
        services: &'static [Service],
        tenant_id: Option<&str>,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let mut connections = callers.iter().cycle();
        for service in services.iter().copied() {
            for _ in 0..CALLERS_PER_SERVICE {
                let caller = connections.next().context("a caller")?;
                let caller = match tenant_id.filter(|_| service.is_in_tenant()) {
                    Some(tenant_id) => caller.in_tenant(tenant_id, "a bench")?,
                    None => caller.clone(),
                };
                let first = service.call(&caller).await;
                first.with_context(|| format!("{} before the revocation", service.name()))?;
                let stop = Arc::clone(&stop);
                tasks.spawn(async move { (service, calls(service, &caller, &stop).await) });
            }
        }
        Ok(Self { stop, tasks, services })
    }

    /// Lets the callers go on for a while, stops them, and counts.
    pub(super) async fn finish(mut self, acknowledged: Instant) -> Result<Vec<Tally>> {
        tokio::time::sleep(AFTER).await;
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(done) = self.tasks.join_next().await {
            all.push(done?);
        }
        let tallies = self.services.iter().map(|service| {
            let of_service = all.iter().filter(|(called, _)| called == service);
            tally(*service, of_service.flat_map(|(_, calls)| calls), acknowledged)
        });
        let tallies: Vec<Tally> = tallies.collect();
        // The control: callers who had stopped by themselves would never be late.
        for tally in &tallies {
            let name = tally.service.name();
            ensure!(tally.let_in > 0, "nobody was let in to {name} before the revocation");
            ensure!(
                tally.refused > 0 || tally.late > 0,
                "nobody called {name} after the revocation"
            );
        }
        Ok(tallies)
    }
}

async fn calls(service: Service, caller: &Caller, stop: &AtomicBool) -> Vec<Call> {
    let mut calls = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = service.call(caller).await;
        calls.push(Call {
            begun,
            ended: Instant::now(),
            outcome: Outcome::of(&answer),
        });
    }
    calls
}

fn tally<'a>(service: Service, calls: impl Iterator<Item = &'a Call>, acknowledged: Instant) -> Tally {
    let mut tally = Tally {
        service,
        let_in: 0,
        refused: 0,
        failed: 0,
        late: 0,
        last_begun_ms: None,
        last_ended_ms: None,
    };
    for call in calls {
        match call.outcome {
            Outcome::Refused => tally.refused += 1,
            Outcome::Failed => tally.failed += 1,
            Outcome::LetIn => {
                tally.let_in += 1;
                tally.late += usize::from(call.begun > acknowledged);
                later(&mut tally.last_begun_ms, after_ms(call.begun, acknowledged));
                later(&mut tally.last_ended_ms, after_ms(call.ended, acknowledged));
            }
        }
    }
    tally
}

fn later(last: &mut Option<f64>, ms: f64) {
    *last = Some(last.map_or(ms, |last| last.max(ms)));
}

/// By how much a moment lies after another, in milliseconds; negative where it lies before.
fn after_ms(moment: Instant, other: Instant) -> f64 {
    let after = moment.saturating_duration_since(other);
    let before = other.saturating_duration_since(moment);
    (after.as_secs_f64() - before.as_secs_f64()) * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_began_after_the_acknowledgement_and_was_let_in_is_late() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let call = |begun, ended, outcome| Call {
            begun: at(begun),
            ended: at(ended),
            outcome,
        };
        let before = [
            call(0, 10, Outcome::LetIn),
            call(15, 25, Outcome::LetIn),
            call(26, 30, Outcome::Refused),
            call(30, 40, Outcome::Failed),
        ];
        let good = tally(Service::Crm, before.iter(), at(20));
        assert_eq!((good.let_in, good.refused, good.failed, good.late), (2, 1, 1, 0));
        assert_eq!((good.last_begun_ms, good.last_ended_ms), (Some(-5.0), Some(5.0)));
        let late = [call(21, 22, Outcome::LetIn)];
        let bad = tally(Service::Crm, before.iter().chain(&late), at(20));
        assert_eq!((bad.late, bad.last_begun_ms), (1, Some(1.0)));
    }
}
