//! What a data server's answers do to a run. No calls, no SQL.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rowhouse_status::Reason;
use rowhouse_types::ServerName;

use super::peer::Batch;
use super::{Away, Progress, Run};
use crate::error::{Error, Result};
use crate::operation::pause;

/// Pause where the houses that are left are in others' hands, or their pauses after a failure are not over.
const IDLE: Duration = Duration::from_millis(200);

/// Pause where the participant has enough to do on the server. It may have let us wait before it said so.
const BUSY: Duration = Duration::from_secs(1);

/// Longest error text that is kept, in characters.
const ERROR_CHARS_MAX: usize = 500;

/// What the calls of one round to one data server have come to.
#[derive(Debug)]
pub(super) enum Answer {
    /// Its houses were counted, and perhaps some migrated.
    Counted(Batch),
    /// The participant does enough there already: nothing is wrong.
    Busy,
    /// No call was answered, and why.
    Away(String),
}

// === impl Answer ===

impl Answer {
    /// One answer out of those of simultaneous calls.
    pub(super) fn of(answers: Vec<Result<Batch>>) -> Self {
        let (mut counted, mut fault, mut migrated): (Option<Batch>, _, _) = (None, None, 0);
        for answer in answers {
            match answer {
                Ok(batch) => {
                    migrated += batch.migrated;
                    // They were counted at different moments: the one with the least left to do is the last.
                    let left = |batch: &Batch| batch.progress.behind - batch.progress.failed;
                    if counted.as_ref().is_none_or(|best| left(&batch) <= left(best)) {
                        counted = Some(batch);
                    }
                }
                Err(error) if is_busy(&error) => {}
                Err(error) => fault = Some(error.to_string()),
            }
        }
        match (counted, fault) {
            (Some(batch), _) => Self::Counted(Batch { migrated, ..batch }),
            (None, Some(fault)) => Self::Away(fault),
            (None, None) => Self::Busy,
        }
    }
}

fn is_busy(error: &Error) -> bool {
    matches!(error, Error::Participant(failure) if failure.reason() == Reason::Overloaded)
}

// === impl Run ===

impl Run {
    /// Takes in what a data server has answered. Returns the pause before it is asked again; `None` where the wave is through
    /// there.
    pub(super) fn hear(&mut self, server: &ServerName, answer: Answer, now: DateTime<Utc>) -> Option<Duration> {
        match answer {
            Answer::Counted(batch) => self.count(server, batch),
            Answer::Busy => Some(BUSY),
            Answer::Away(error) => {
                let progress = self.progress.entry(server.to_string());
                let progress = progress.or_insert_with(|| Progress {
                    is_unknown: true,
                    ..Progress::default()
                });
                if progress.away.is_none() {
                    tracing::warn!(server = %server, cause = error, "a data server is away; it will be asked again");
                }
                let away = Away::after(progress.away.take(), &error, now);
                let pause = away.pause(now);
                progress.away = Some(away);
                Some(pause)
            }
        }
    }

    /// How long a server is not to be asked, whatever process has recorded it.
    pub(super) fn pause_of(&self, server: &ServerName, now: DateTime<Utc>) -> Duration {
        let progress = self.progress.get(server.as_str());
        let away = progress.and_then(|progress| progress.away.as_ref());
        away.map_or(Duration::ZERO, |away| away.pause(now))
    }

    fn count(&mut self, server: &ServerName, batch: Batch) -> Option<Duration> {
        let known = self.progress.insert(server.to_string(), batch.progress.clone());
        if known.as_ref().is_some_and(|known| known.away.is_some()) {
            tracing::info!(server = %server, "a data server is back");
        }
        if known.is_some_and(|known| known.is_unknown) {
            self.planned += batch.progress.behind_in_all + i64::from(batch.migrated);
        }
        self.faults
            .retain(|fault| !fault.server.is_empty() && fault.server != server.as_str());
        self.faults.extend(batch.faults);
        // In the servers' order, whoever answered first: what is the same is not written again.
        self.faults.sort_by(|one, other| one.server.cmp(&other.server));
        if batch.progress.is_through() {
            return None;
        }
        Some(if batch.migrated == 0 { IDLE } else { Duration::ZERO })
    }
}

// === impl Away ===

impl Away {
    /// Away once more, or for the first time.
    pub(super) fn after(before: Option<Self>, error: &str, now: DateTime<Utc>) -> Self {
        let failures = before.as_ref().map_or(0, |before| before.failures).saturating_add(1);
        Self {
            since: before.map_or(now, |before| before.since),
            error: error.chars().filter(|c| *c != '\0').take(ERROR_CHARS_MAX).collect(),
            failures,
            again_at: now + pause(failures),
        }
    }

    fn pause(&self, now: DateTime<Utc>) -> Duration {
        (self.again_at - now).to_std().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::TimeDelta;
    use rowhouse_context::{RequestId, ServiceName};
    use rowhouse_status::Failure;
    use rowhouse_types::MigrationRunId;
    use uuid::Uuid;

    use super::*;
    use crate::migration::{Fault, Plan, State, Wave};

    fn run() -> Run {
        let now = Utc::now();
        Run {
            id: MigrationRunId::generate(),
            plan: Plan {
                participant: ServiceName::Crm,
                target: 2,
                waves: vec![Wave::Percent(50), Wave::Percent(100)],
                parallelism: 2,
                failure_budget: 1,
            },
            state: State::Running,
            wave: 0,
            round: Uuid::new_v4(),
            planned: 10,
            progress: BTreeMap::new(),
            faults: Vec::new(),
            revision: 1,
            request: RequestId::generate(),
            created_at: now,
            updated_at: now,
            finished_at: None,
        }
    }

    fn name(server: &str) -> ServerName {
        server.parse().unwrap()
    }

    fn fault(server: &str) -> Fault {
        Fault {
            server: server.to_owned(),
            house: "t_1".to_owned(),
            tenant: String::new(),
            version: 2,
            sqlstate: "23514".to_owned(),
            message: "constraint notes_body_shorter".to_owned(),
            attempts: 1,
            given_up: true,
        }
    }

    /// `failed` of `behind` houses, each with its fault.
    fn batch(server: &str, migrated: i32, behind: i64, failed: i64) -> Batch {
        Batch {
            migrated,
            progress: Progress {
                behind,
                failed,
                behind_in_all: behind,
                failed_in_all: failed,
                ..Progress::default()
            },
            faults: (0..failed).map(|_| fault(server)).collect(),
        }
    }

    fn counted(server: &str, migrated: i32, behind: i64, failed: i64) -> Answer {
        Answer::Counted(batch(server, migrated, behind, failed))
    }

    fn away() -> Answer {
        Answer::Away("refused".to_owned())
    }

    fn refused(reason: Reason) -> Result<Batch> {
        Err(Failure::new(reason, "no").into())
    }

    #[test]
    fn a_server_is_asked_again_until_the_wave_is_through_there() {
        let (mut run, now) = (run(), Utc::now());
        let mut hear = |migrated, behind, failed| {
            let answer = counted("data1", migrated, behind, failed);
            run.hear(&name("data1"), answer, now)
        };
        assert_eq!(hear(1, 3, 0), Some(Duration::ZERO));
        assert_eq!(hear(0, 3, 1), Some(IDLE), "others have them");
        assert_eq!(hear(2, 1, 1), None, "the one that is left has failed");
    }

    #[test]
    fn a_server_is_away_since_its_first_silence_and_its_pauses_grow() {
        let (mut run, now, data2) = (run(), Utc::now(), name("data2"));
        let later = now + TimeDelta::seconds(5);
        let first = run.hear(&data2, away(), now).unwrap();
        let second = run.hear(&data2, away(), later).unwrap();
        assert!(Duration::ZERO < first && first < second);
        let (server, known) = run.away().unwrap();
        assert_eq!((server, known.since, known.failures), ("data2", now, 2));
        // Whatever process goes on with the run knows when to ask.
        assert_eq!(run.pause_of(&data2, later), second);
        assert_eq!(run.pause_of(&data2, later + TimeDelta::minutes(1)), Duration::ZERO);
        assert_eq!(run.pause_of(&name("data1"), later), Duration::ZERO);
        run.hear(&data2, counted("data2", 1, 0, 0), later);
        assert_eq!(run.away(), None);
    }

    #[test]
    fn what_a_server_said_stays_while_it_is_away() {
        let (mut run, now) = (run(), Utc::now());
        run.hear(&name("data2"), counted("data2", 0, 4, 1), now);
        run.hear(&name("data2"), away(), now);
        run.hear(&name("data1"), counted("data1", 0, 4, 1), now);
        assert_eq!(run.failed(), 2);
        assert_eq!(run.faults, [fault("data1"), fault("data2")]);
        assert!(run.is_over_budget(), "its failures count");
    }

    #[test]
    fn houses_of_a_server_that_was_away_from_the_start_are_planned_when_it_answers() {
        let (mut run, now) = (run(), Utc::now());
        run.hear(&name("data2"), away(), now);
        assert!(run.progress["data2"].is_unknown);
        run.hear(&name("data2"), counted("data2", 1, 4, 0), now);
        run.hear(&name("data2"), counted("data2", 2, 2, 0), now);
        assert_eq!(run.planned, 15, "once");
    }

    #[test]
    fn a_resumed_run_counts_no_failure_of_the_round_before_and_asks_everybody_at_once() {
        let (mut run, now, data2) = (run(), Utc::now(), name("data2"));
        run.hear(&data2, counted("data2", 0, 4, 2), now);
        run.hear(&data2, away(), now);
        let round = run.round;
        run.turn(State::Running);
        assert_ne!(run.round, round);
        assert_eq!((run.failed(), run.faults.len()), (0, 0));
        assert_eq!(run.pause_of(&data2, now), Duration::ZERO);
    }

    #[test]
    fn a_participant_that_is_full_is_no_fault_of_the_server() {
        let answer = Answer::of(vec![refused(Reason::Overloaded), refused(Reason::Overloaded)]);
        assert!(matches!(answer, Answer::Busy), "{answer:?}");
        let mut run = run();
        assert_eq!(run.hear(&name("data1"), answer, Utc::now()), Some(BUSY));
        assert_eq!(run.away(), None);
    }

    #[test]
    fn one_call_that_is_answered_speaks_for_the_server() {
        let answers = vec![
            Ok(batch("data1", 1, 3, 0)),
            refused(Reason::DependencyUnavailable),
            Ok(batch("data1", 1, 2, 0)),
        ];
        let Answer::Counted(batch) = Answer::of(answers) else {
            panic!("was not counted");
        };
        assert_eq!((batch.migrated, batch.progress.behind), (2, 2), "the last count");
        let answer = Answer::of(vec![
            refused(Reason::Overloaded),
            refused(Reason::DependencyUnavailable),
        ]);
        assert!(matches!(answer, Answer::Away(_)), "{answer:?}");
    }

    /// An older replica goes on with runs while this one is rolled out, and those that have ended stay as it has recorded them.
    #[test]
    fn what_an_older_version_has_recorded_as_failed_counts() {
        let mut run = run();
        let older = r#"{"behind": 4, "failed": 3, "behind_in_all": 9}"#;
        let older: Progress = serde_json::from_str(older).unwrap();
        run.progress.insert("data1".to_owned(), older);
        assert_eq!(run.failed(), 3);
        assert!(run.is_over_budget());
        run.turn(State::Running);
        assert_eq!(run.failed(), 0);
    }

    #[test]
    fn a_wave_is_followed_by_the_next_and_the_last_by_the_end() {
        let mut run = run();
        run.hear(&name("data1"), counted("data1", 0, 1, 1), Utc::now());
        run.end_wave();
        assert_eq!((run.wave, run.state, run.failed()), (1, State::Running, 1));
        assert_eq!(
            run.progress["data1"].failed, 0,
            "how many are the next wave's is not known"
        );
        run.hear(&name("data1"), counted("data1", 0, 1, 1), Utc::now());
        run.end_wave();
        assert_eq!((run.wave, run.state, run.failed()), (2, State::Done, 1));
    }
}
