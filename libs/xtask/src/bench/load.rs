//! Callers who do one thing as often as they can.

use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey;
use rowhouse_proto::crm::v1::{Contact, CreateContactRequest, GetContactRequest, ListContactsRequest};
use tokio::task::JoinSet;

use super::unique;

/// How long each call took, and all of them together.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Sorted.
    calls: Vec<Duration>,
    count: usize,
    all: Duration,
}

/// Who calls, each in a tenant of their own.
#[derive(Clone)]
pub(super) struct Members(Arc<[Member]>);

/// Who calls in one tenant.
pub(super) struct Member {
    pub(super) caller: Caller,
    /// What there is to read.
    pub(super) contacts: Vec<String>,
}

// === impl Members ===

impl Members {
    pub(super) fn new(members: Vec<Member>) -> Self {
        Self(members.into())
    }

    pub(super) fn iter(&self) -> slice::Iter<'_, Member> {
        self.0.iter()
    }

    /// The next with each number, so that every caller goes through all tenants.
    fn member(&self, number: usize) -> Result<&Member> {
        self.0.get(number % self.0.len().max(1)).context("a member")
    }
}

// === impl Member ===

impl Member {
    /// Another of its contacts with each number.
    fn contact(&self, number: usize) -> String {
        let index = number % self.contacts.len().max(1);
        self.contacts.get(index).cloned().unwrap_or_default()
    }
}

// === impl Measured ===

impl Measured {
    pub(super) fn new(mut calls: Vec<Duration>, all: Duration) -> Self {
        calls.sort_unstable();
        let count = calls.len();
        Self { calls, count, all }
    }

    /// Of which only the time of all of them together is known.
    pub(super) fn together(count: usize, all: Duration) -> Self {
        Self {
            calls: Vec::new(),
            count,
            all,
        }
    }

    /// Several runs as one.
    pub(super) fn sum(runs: Vec<Self>) -> Self {
        let all = runs.iter().map(|run| run.all).sum();
        Self::new(runs.into_iter().flat_map(|run| run.calls).collect(), all)
    }

    /// How many there were.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Calls a second.
    pub(super) fn per_second(&self) -> f64 {
        self.count as f64 / self.all.as_secs_f64()
    }

    /// A percentile of the calls' times by the nearest rank, in milliseconds: the shortest time within which at least this share of
    /// the calls was answered. `share`: 0 to 1.
    pub(super) fn percentile_ms(&self, share: f64) -> Option<f64> {
        let rank = (self.calls.len() as f64 * share).ceil() as usize;
        let time = self.calls.get(rank.saturating_sub(1))?;
        Some(time.as_secs_f64() * 1e3)
    }
}

/// Point reads of contacts.
pub(super) async fn get(members: &Members, callers: usize, duration: Duration) -> Result<Measured> {
    repeat(
        slice::from_ref(members),
        callers,
        duration,
        |members, number| async move {
            let member = members.member(number)?;
            let id = member.contact(number);
            let read = member.caller.contacts().get_contact(GetContactRequest { id }).await;
            read.map(drop).context("GetContact")
        },
    )
    .await
}

/// Pages of contacts.
pub(super) async fn list(members: &Members, callers: usize, page_size: i32, duration: Duration) -> Result<Measured> {
    repeat(
        slice::from_ref(members),
        callers,
        duration,
        move |members, number| async move {
            let request = ListContactsRequest {
                page_size,
                ..ListContactsRequest::default()
            };
            let listed = members.member(number)?.caller.contacts().list_contacts(request).await;
            listed.map(drop).context("ListContacts")
        },
    )
    .await
}

/// Creates of contacts, each with its audit and outbox row.
pub(super) async fn create(members: &Members, callers: usize, duration: Duration) -> Result<Measured> {
    repeat(
        slice::from_ref(members),
        callers,
        duration,
        |members, number| async move {
            let contact = Contact {
                display_name: format!("Bench {number}"),
                email: format!("bench{number}@example.com"),
                ..Contact::default()
            };
            let request = CreateContactRequest {
                contact: Some(contact),
                request_id: String::new(),
            };
            let created = members.member(number)?.caller.contacts().create_contact(request).await;
            created.map(drop).context("CreateContact")
        },
    )
    .await
}

/// Tenants, one after the other.
pub(super) async fn create_tenants(operator: &Caller, count: usize) -> Result<Measured> {
    let begun = Instant::now();
    let mut calls = Vec::new();
    for _ in 0..count {
        let slug = unique("bench");
        let call = Instant::now();
        journey::create_tenant(operator, &slug, "Bench Ltd", &format!("nobody@{slug}.example")).await?;
        calls.push(call.elapsed());
    }
    Ok(Measured::new(calls, begun.elapsed()))
}

/// Callers who each begin the next call when the last was answered.
///
/// `clients`: dealt out among the callers in turn. `work`: one call of a client; the number differs from call to call.
pub(super) async fn repeat<C, F>(
    clients: &[C],
    callers: usize,
    duration: Duration,
    work: impl Fn(C, usize) -> F + Clone + Send + 'static,
) -> Result<Measured>
where
    C: Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, client) in clients.iter().cycle().take(callers).cloned().enumerate() {
        let work = work.clone();
        tasks.spawn(async move {
            let mut calls = Vec::new();
            while begun.elapsed() < duration {
                let call = Instant::now();
                work(client.clone(), number + calls.len()).await?;
                calls.push(call.elapsed());
            }
            Ok::<_, anyhow::Error>(calls)
        });
    }
    let mut calls = Vec::new();
    while let Some(done) = tasks.join_next().await {
        calls.extend(done??);
    }
    Ok(Measured::new(calls, begun.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let calls = (1..=100).rev().map(Duration::from_millis).collect();
        let measured = Measured::new(calls, Duration::from_secs(1));
        for (share, ms) in [
            (0.0, 1.0),
            (0.001, 1.0),
            (0.5, 50.0),
            (0.985, 99.0),
            (0.99, 99.0),
            (1.0, 100.0),
        ] {
            assert_eq!(measured.percentile_ms(share), Some(ms), "{share}");
        }
        assert_eq!(Measured::default().percentile_ms(0.5), None);
    }
}
