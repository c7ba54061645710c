//! Check and BatchCheck, from auth and from tonic alone.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rowhouse_auth_kit::Role;
use rowhouse_devkit::caller::Caller;
use rowhouse_proto::auth::v1::{BatchCheckRequest, CheckRequest};
use rowhouse_proto::policy::PERMISSIONS;
use rowhouse_types::UserId;
use serde::Serialize;

use super::policy::{Relation, answer};
use crate::bench::echo::Echo;
use crate::bench::house::House;
use crate::bench::load::{self, Measured};
use crate::bench::output::text;
use crate::bench::{CALLERS, members};

/// What is compared takes turns: both meet the machine's good and bad moments.
const ROUNDS: usize = 3;
const WARM_UP: Duration = Duration::from_secs(2);
/// Questions of a batch, as many as it may hold.
const BATCH: usize = 1_000;
/// Batches at once: each is worth many calls.
const BATCH_CALLERS: usize = 8;

/// One RPC on both sides.
#[derive(Debug, Serialize)]
pub(super) struct OverGrpc {
    pub(super) name: &'static str,
    /// Decisions in a call.
    decisions: usize,
    calls_per_second: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    microseconds_per_decision: f64,
    reference_calls_per_second: f64,
    reference_microseconds_per_decision: f64,
    /// Of the reference's calls a second.
    pub(super) share: f64,
}

/// What is asked, by whom: a manager, whose grants have wildcards and scopes.
struct Asked {
    manager: String,
    check: Arc<[CheckRequest]>,
    batch: Arc<BatchCheckRequest>,
    /// What the policy answers each question of `check`.
    expected: Vec<bool>,
}

/// Measures both.
pub(super) async fn measure(house: &House<'_>, bare: &Echo, duration: Duration) -> Result<Vec<OverGrpc>> {
    let managers = house.join(1, "manager").await?;
    let manager = managers.into_iter().next().context("a manager")?;
    let user_id = house.log_in(&manager).await?.user_id;
    let (questions, expected): (Vec<_>, Vec<_>) = questions(&user_id).into_iter().unzip();
    let asked = Asked {
        manager,
        expected,
        batch: Arc::new(BatchCheckRequest {
            permissions: Vec::new(),
            checks: questions.iter().cycle().take(BATCH).cloned().collect(),
        }),
        check: questions.into(),
    };
    answers_are_right(house, &asked).await?;
    let check = in_turns(house, bare, (&asked.manager, duration), async |callers, time| {
        check(callers, &asked, time).await
    });
    let check = line("Check", 1, check.await?);
    let batch = in_turns(house, bare, (&asked.manager, duration), async |callers, time| {
        batch_check(callers, &asked, time).await
    });
    Ok(vec![check, line("BatchCheck of 1,000", BATCH, batch.await?)])
}

/// Each permission that a tenant's role can give, about any record, one's own and another's, with the manager's answer.
fn questions(user_id: &str) -> Vec<(CheckRequest, bool)> {
    let another = UserId::generate().to_string();
    let owners = [
        ("", Relation::Any),
        (user_id, Relation::Own),
        (another.as_str(), Relation::Other),
    ];
    let grants = Role::Manager.grants().to_strings();
    let of_tenants = PERMISSIONS.iter().filter(|permission| permission.of_tenants);
    let each = of_tenants.flat_map(|permission| {
        let grants = &grants;
        owners.iter().map(move |(owner_id, relation)| {
            let question = CheckRequest {
                permission: permission.name.to_owned(),
                owner_id: (*owner_id).to_owned(),
            };
            (question, answer(grants, permission, *relation))
        })
    });
    each.collect()
}

/// Has every question answered once, one by one and in a batch, as the policy answers it: what is measured then is no error that
/// comes quickly.
async fn answers_are_right(house: &House<'_>, asked: &Asked) -> Result<()> {
    let yes = asked.expected.iter().filter(|allowed| **allowed).count();
    ensure!(
        (1..asked.expected.len()).contains(&yes),
        "{yes} answers are yes: all are alike"
    );
    let token = house.log_in(&asked.manager).await?.access_token;
    let callers = members(house.resident, &token)?;
    let caller = callers.first().context("a caller")?;
    for (question, expected) in asked.check.iter().zip(&asked.expected) {
        let answered = caller.authz().check(question.clone()).await.context("Check")?;
        let allowed = answered.get_ref().allowed;
        ensure!(allowed == *expected, "Check answers {allowed}: {question:?}");
    }
    let batch = BatchCheckRequest::clone(&asked.batch);
    let answered = caller.authz().batch_check(batch).await.context("BatchCheck")?;
    let allowed = &answered.get_ref().allowed;
    let expected = asked.expected.iter().cycle().take(BATCH);
    ensure!(
        allowed.iter().eq(expected),
        "BatchCheck answers otherwise than the policy: {allowed:?}"
    );
    Ok(())
}

/// Work on auth and on the bare server, several times: what came of it there and here.
async fn in_turns(
    house: &House<'_>,
    bare: &Echo,
    (email, duration): (&str, Duration),
    work: impl AsyncFn(&[Caller], Duration) -> Result<Measured>,
) -> Result<[Measured; 2]> {
    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let token = house.log_in(email).await?.access_token;
        let at_auth = members(house.resident, &token)?;
        work(&at_auth, WARM_UP).await?;
        ours.push(work(&at_auth, duration).await?);
        let at_bare = bare.callers(&token)?;
        work(&at_bare, WARM_UP).await?;
        bares.push(work(&at_bare, duration).await?);
    }
    Ok([Measured::sum(ours), Measured::sum(bares)])
}

async fn check(callers: &[Caller], asked: &Asked, duration: Duration) -> Result<Measured> {
    let questions = Arc::clone(&asked.check);
    load::repeat(callers, CALLERS, duration, move |caller, number| {
        let question = questions.get(number % questions.len().max(1)).cloned();
        async move {
            let question = question.context("a question")?;
            caller.authz().check(question).await.map(drop).context("Check")
        }
    })
    .await
}

async fn batch_check(callers: &[Caller], asked: &Asked, duration: Duration) -> Result<Measured> {
    let batch = Arc::clone(&asked.batch);
    load::repeat(callers, BATCH_CALLERS, duration, move |caller, _| {
        let batch = BatchCheckRequest::clone(&batch);
        async move {
            let answered = caller.authz().batch_check(batch).await.context("BatchCheck")?;
            let count = answered.get_ref().allowed.len();
            ensure!(count == BATCH, "{count} answers to {BATCH} questions");
            Ok(())
        }
    })
    .await
}

fn line(name: &'static str, decisions: usize, [ours, bare]: [Measured; 2]) -> OverGrpc {
    let each = |calls_per_second: f64| 1e6 / (calls_per_second * decisions as f64);
    OverGrpc {
        name,
        decisions,
        calls_per_second: ours.per_second(),
        p50_ms: ours.percentile_ms(0.50),
        p99_ms: ours.percentile_ms(0.99),
        microseconds_per_decision: each(ours.per_second()),
        reference_calls_per_second: bare.per_second(),
        reference_microseconds_per_decision: each(bare.per_second()),
        share: ours.per_second() / bare.per_second(),
    }
}

pub(super) fn print(lines: &[OverGrpc]) {
    println!(
        "\n{:<24} {:>9} {:>9} {:>9} {:>14} {:>22} {:>20}",
        "over gRPC", "1/s", "p50 ms", "p99 ms", "us a decision", "tonic alone 1/s", "its us a decision"
    );
    for line in lines {
        println!(
            "{:<24} {:>9.0} {:>9} {:>9} {:>14.2} {:>22} {:>20.2}",
            line.name,
            line.calls_per_second,
            text(line.p50_ms, 2),
            text(line.p99_ms, 2),
            line.microseconds_per_decision,
            format!("{:.0} (share {:.2})", line.reference_calls_per_second, line.share),
            line.reference_microseconds_per_decision,
        );
    }
}
