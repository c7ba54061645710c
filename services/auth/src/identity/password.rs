//! Passwords: what is accepted as one, and hashing that neither tells accounts apart nor eats the machine.

use std::sync::Arc;
use std::time::Duration;

use rowhouse_config::Secret;
use rowhouse_context::Ctx;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::argon::{Memory, Threads};
use crate::error::Error;

/// Shortest new password, in characters (NIST SP 800-63B, 3.1.1.2, asks for 8 at least).
const PASSWORD_CHARACTERS_MIN: usize = 12;

/// Longest password, in characters: enough for any sentence, and a bound on what is hashed.
const PASSWORD_CHARACTERS_MAX: usize = 256;

/// How easy a new password may be to guess, as zxcvbn scores it: 3 is "safely unguessable", more than a hundred million
/// guesses. It knows the passwords that leak most, words, names, dates, repetitions and runs of keys, as NIST SP 800-63B-4
/// (3.1.1.2) asks of a block list; there are no rules of composition.
const SCORE_MIN: zxcvbn::Score = zxcvbn::Score::Three;

/// Hashing that may wait for each one that runs. A hash takes about 20 ms on a core that nobody else wants, so the last in the
/// queue waits half a second: longer, and people press the button again. On a busy core others go first.
const QUEUE_PER_WORKER: usize = 24;

/// A password that somebody offers as theirs.
#[derive(Clone, Debug)]
pub(crate) struct OfferedPassword {
    text: Secret,
}

/// A password that somebody chooses.
#[derive(Clone, Debug)]
pub(crate) struct NewPassword {
    text: Secret,
}

/// What is known of the person who chooses a password: it must not be made of that.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    /// Path of the field that holds the password.
    field: &'static str,
    words: Vec<String>,
}

/// The text cannot be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParsePasswordError {
    #[error("must not be empty")]
    Empty,
    #[error("must be {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters")]
    Length,
}

/// Hashes and verifies passwords with Argon2id (RFC 9106), a few at a time.
///
/// Each hash takes 19 MiB, so `concurrency` bounds the memory too. Cheap to clone; clones share the bound.
#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    /// One permit for each hash that runs or waits.
    admission: Arc<Semaphore>,
    /// One permit for each hash that runs.
    running: Arc<Semaphore>,
    threads: Threads,
    /// What an unknown account's password is compared with, so that it costs the same work.
    stand_in: Arc<str>,
    /// Hashes begun so far, for tests that compare what two log-ins cost.
    #[cfg(test)]
    runs: Arc<std::sync::atomic::AtomicU64>,
}

// === impl OfferedPassword ===

impl OfferedPassword {
    pub(crate) fn parse(text: &str) -> Result<Self, ParsePasswordError> {
        if text.is_empty() {
            return Err(ParsePasswordError::Empty);
        }
        if text.chars().count() > PASSWORD_CHARACTERS_MAX {
            return Err(ParsePasswordError::Length);
        }
        Ok(Self {
            text: Secret::new(text.to_owned()),
        })
    }
}

// === impl NewPassword ===

impl NewPassword {
    pub(crate) fn parse(text: &str) -> Result<Self, ParsePasswordError> {
        if (PASSWORD_CHARACTERS_MIN..=PASSWORD_CHARACTERS_MAX).contains(&text.chars().count()) {
            Ok(Self {
                text: Secret::new(text.to_owned()),
            })
        } else {
            Err(ParsePasswordError::Length)
        }
    }

    /// In characters.
    pub(crate) fn length(&self) -> usize {
        self.text.expose().chars().count()
    }

    /// The same password, offered as one that was chosen before.
    pub(crate) fn offered(&self) -> OfferedPassword {
        OfferedPassword {
            text: self.text.clone(),
        }
    }
}

// === impl Chooser ===

impl Chooser {
    /// Somebody with this address and name. `field`: path of the field that holds the password.
    pub(crate) fn new(field: &'static str, email: &str, display_name: &str) -> Self {
        let names: Vec<&str> = display_name.split_whitespace().collect();
        let together = names.concat();
        let words = ["rowhouse", email, display_name, &together].into_iter();
        // `ada.lovelace@engine-works.example`: both sides, and what they consist of.
        let parts = email.split('@').chain(email.split(['@', '.', '+']));
        Self {
            field,
            words: words.chain(parts).chain(names).map(str::to_owned).collect(),
        }
    }
}

// === impl Hasher ===

impl Hasher {
    /// A hasher that runs `concurrency` hashes at once and refuses when too many wait.
    pub(crate) fn new(concurrency: usize) -> Result<Self, Error> {
        let concurrency = concurrency.max(1);
        Self::with_bounds(concurrency, concurrency.saturating_mul(QUEUE_PER_WORKER))
    }

    fn with_bounds(concurrency: usize, queue: usize) -> Result<Self, Error> {
        let nobodys = crate::random::text().map_err(Error::fault)?;
        Ok(Self {
            admission: Arc::new(Semaphore::new(concurrency.saturating_add(queue))),
            running: Arc::new(Semaphore::new(concurrency)),
            threads: Threads::start(concurrency)?,
            stand_in: Memory::default().hash(&nobodys)?.into(),
            #[cfg(test)]
            runs: Arc::default(),
        })
    }

    /// The hash of a new password, with its parameters and a fresh salt. One that is easy to guess is refused.
    pub(crate) async fn hash(&self, ctx: &Ctx, password: &NewPassword, chooser: &Chooser) -> Result<String, Error> {
        let (text, chooser) = (password.text.clone(), chooser.clone());
        // Scoring takes a few milliseconds, and grows with the length: it has a thread that may block.
        self.run(ctx, move |memory, _| {
            if is_guessable(&text, &chooser) {
                return Err(Error::Field {
                    field: chooser.field,
                    description: "must be harder to guess: a sentence, or several words that do not belong together"
                        .to_owned(),
                });
            }
            memory.hash(text.expose())
        })
        .await?
    }

    /// Whether the password is the account's. Without an account the same work is done and the answer is no.
    pub(crate) async fn verify(
        &self,
        ctx: &Ctx,
        password: &OfferedPassword,
        hash: Option<String>,
    ) -> Result<bool, Error> {
        let text = password.text.clone();
        self.run(ctx, move |memory, stand_in| {
            let known = hash.is_some();
            let equal = memory.verify(text.expose(), hash.as_deref().unwrap_or(stand_in));
            equal.map(|equal| equal && known)
        })
        .await?
    }

    #[cfg(test)]
    pub(crate) fn runs(&self) -> u64 {
        self.runs.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Runs `work` on one of the threads, when its turn comes.
    async fn run<T: Send + 'static>(
        &self,
        ctx: &Ctx,
        work: impl FnOnce(&mut Memory, &str) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let admitted = Arc::clone(&self.admission)
            .try_acquire_owned()
            .map_err(|_| Error::Overloaded)?;
        let turn = Arc::clone(&self.running).acquire_owned();
        let running = tokio::time::timeout_at(ctx.deadline(), turn)
            .await
            .map_err(|_| Error::DeadlineExceeded)?
            .map_err(Error::fault)?;
        // A task that waited its time out would hash for nobody.
        if ctx.time_left() < Duration::from_millis(1) {
            return Err(Error::DeadlineExceeded);
        }
        #[cfg(test)]
        self.runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let stand_in = Arc::clone(&self.stand_in);
        let permits: (OwnedSemaphorePermit, OwnedSemaphorePermit) = (admitted, running);
        // The permits go along: a call that is dropped must not make room before its hash has ended.
        let hashed = self.threads.run(move |memory| {
            let result = work(memory, &stand_in);
            drop(permits);
            result
        });
        hashed.await
    }
}

fn is_guessable(password: &Secret, chooser: &Chooser) -> bool {
    let words: Vec<&str> = chooser.words.iter().map(String::as_str).collect();
    zxcvbn::zxcvbn(password.expose(), &words).score() < SCORE_MIN
}

#[cfg(test)]
mod tests {
    use rowhouse_context::{Principal, RequestId};
    use tokio::time::Instant;

    use super::*;

    fn ctx(time: Duration) -> Ctx {
        Ctx::new(RequestId::generate(), Principal::Anonymous, None, Instant::now() + time)
    }

    fn offered(text: &str) -> OfferedPassword {
        OfferedPassword::parse(text).unwrap()
    }

    #[test]
    fn characters_are_counted_and_any_unicode_is_taken() {
        assert!(NewPassword::parse("zw\u{f6}lf Zeichen").is_ok());
        assert!(NewPassword::parse("\u{1f6aa}".repeat(12).as_str()).is_ok());
        for text in ["", "elf zeichen", &"a".repeat(257)] {
            assert!(NewPassword::parse(text).is_err(), "{text:?}");
        }
        assert!(OfferedPassword::parse("short").is_ok());
        assert!(OfferedPassword::parse(&"a".repeat(257)).is_err());
    }

    #[test]
    fn what_everybody_would_try_first_is_refused_and_any_sentence_taken() {
        let ada = Chooser::new("password", "ada.lovelace@engine-works.example", "Ada Lovelace");
        let guessable = |text: &str| is_guessable(&Secret::new(text.to_owned()), &ada);
        for text in [
            "passwordpassword",
            "123456789012",
            "qwertyuiopas",
            "aaaaaaaaaaaa",
            "abcabcabcabc",
            "iloveyouforever",
            "rowhouse2026",
            "ada.lovelace@engine-works.example",
            "engine-works2026",
            "adalovelace1",
        ] {
            assert!(guessable(text), "{text}");
        }
        for text in [
            "correct horse battery",
            "zw\u{f6}lf kleine Zeichen",
            "the sea was grey that day",
        ] {
            assert!(!guessable(text), "{text}");
        }
        let sequence: String = ('a'..='z').cycle().take(256).collect();
        assert!(guessable(&sequence));
    }

    #[test]
    fn a_password_does_not_print() {
        assert!(!format!("{:?}", offered("hunter2")).contains("hunter2"));
    }

    #[tokio::test]
    async fn only_the_accounts_own_password_is_right_and_no_accounts_never_is() {
        let hasher = Hasher::new(1).unwrap();
        let ctx = ctx(Duration::from_secs(60));
        let hash = hasher
            .hash(
                &ctx,
                &NewPassword::parse("correct horse").unwrap(),
                &Chooser::new("password", "", ""),
            )
            .await
            .unwrap();
        assert!(
            hasher
                .verify(&ctx, &offered("correct horse"), Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(
            !hasher
                .verify(&ctx, &offered("correct horsf"), Some(hash))
                .await
                .unwrap()
        );
        assert!(!hasher.verify(&ctx, &offered("correct horse"), None).await.unwrap());
    }

    /// A turn that comes only when the time is over: the wait itself has not failed.
    #[tokio::test]
    async fn what_waited_too_long_is_not_hashed() {
        let hasher = Hasher::with_bounds(1, 1).unwrap();
        let late = hasher
            .verify(&ctx(Duration::ZERO), &offered("correct horse"), None)
            .await;
        assert!(matches!(late, Err(Error::DeadlineExceeded)), "{late:?}");
        assert_eq!(hasher.runs(), 0);
    }

    #[tokio::test]
    async fn what_cannot_wait_is_refused() {
        let hasher = Hasher::with_bounds(1, 1).unwrap();
        let busy = Arc::clone(&hasher.running).acquire_owned().await.unwrap();
        let (patient, impatient) = (ctx(Duration::from_secs(60)), ctx(Duration::from_millis(20)));
        let password = offered("correct horse");
        let waiting = hasher.verify(&impatient, &password, None).await;
        assert!(matches!(waiting, Err(Error::DeadlineExceeded)));
        let both = Arc::clone(&hasher.admission).acquire_many_owned(2).await.unwrap();
        let refused = hasher.verify(&patient, &password, None).await;
        assert!(matches!(refused, Err(Error::Overloaded)));
        drop((busy, both));
        assert!(!hasher.verify(&patient, &password, None).await.unwrap());
    }
}
