//! Passwords: what is accepted as one, and hashing that neither tells accounts apart nor eats the machine.

use std::sync::Arc;
use std::time::Duration;

use rowhouse_config::Secret;
use rowhouse_context::Ctx;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::admission::{Admission, Asker, Place};
use super::argon::{Memory, Threads};
use super::guess::Chooser;
use super::opaque;
use crate::error::Error;

/// Shortest new password, in characters: code points of its normal form. NIST SP 800-63B-4 (3.1.1.2) asks for 15 at least where the
/// password is the only factor, and a second one is for each person to set up. An older one that is shorter stays good.
const PASSWORD_CHARACTERS_MIN: usize = 15;

/// Longest password, in characters: enough for any sentence, and a bound on what is hashed.
const PASSWORD_CHARACTERS_MAX: usize = 256;

/// How many characters may become one in the normal form: a Greek letter with its breathing, accent and iota is four. More of them
/// are too long without a look at what they become.
const TYPED_PER_CHARACTER_MAX: usize = 4;

/// Hashing that may wait for each one that runs. A hash takes about 20 ms on a core that nobody else wants, so the last in the
/// queue waits half a second: longer, and people press the button again. On a busy core others go first.
const QUEUE_PER_WORKER: usize = 24;

/// Hashing beside these for those who are known, for each that runs: a third, so that the last of them, behind a full queue of
/// strangers, waits two thirds of a second.
const RESERVE_PER_WORKER: usize = 8;

/// A password that somebody offers as theirs.
#[derive(Clone, Debug)]
pub(crate) struct OfferedPassword {
    /// In the normal form.
    text: Secret,
    /// As it was typed, where that is another text: older hashes are of that.
    typed: Option<Secret>,
}

/// A password that somebody chooses.
#[derive(Clone, Debug)]
pub(crate) struct NewPassword {
    /// In the normal form.
    text: Secret,
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
    /// A place for each hash that runs or waits.
    admission: Admission,
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
        let typed = text.chars().count();
        if typed > TYPED_PER_CHARACTER_MAX * PASSWORD_CHARACTERS_MAX {
            return Err(ParsePasswordError::Length);
        }
        let normal = opaque::normal(text);
        // A few letters are several in the normal form: an older password of those may be longer there.
        if typed.min(normal.chars().count()) > PASSWORD_CHARACTERS_MAX {
            return Err(ParsePasswordError::Length);
        }
        Ok(Self {
            typed: (normal != text).then(|| Secret::new(text.to_owned())),
            text: Secret::new(normal),
        })
    }
}

// === impl NewPassword ===

impl NewPassword {
    pub(crate) fn parse(text: &str) -> Result<Self, ParsePasswordError> {
        match OfferedPassword::parse(text) {
            Ok(offered) => Self::of(&offered),
            // Nothing at all is too short too.
            Err(_) => Err(ParsePasswordError::Length),
        }
    }

    /// What somebody offers, as the password of an account that begins.
    pub(crate) fn of(offered: &OfferedPassword) -> Result<Self, ParsePasswordError> {
        let text = offered.text.clone();
        if (PASSWORD_CHARACTERS_MIN..=PASSWORD_CHARACTERS_MAX).contains(&text.expose().chars().count()) {
            Ok(Self { text })
        } else {
            Err(ParsePasswordError::Length)
        }
    }

    /// In characters.
    pub(crate) fn length(&self) -> usize {
        self.text.expose().chars().count()
    }

    /// Whether it is the one that is offered, however that was typed.
    pub(crate) fn is_same(&self, offered: &OfferedPassword) -> bool {
        self.text.expose() == offered.text.expose()
    }
}

// === impl Hasher ===

impl Hasher {
    /// A hasher that runs `concurrency` hashes at once and refuses when too many wait.
    pub(crate) fn new(concurrency: usize) -> Result<Self, Error> {
        let concurrency = concurrency.max(1);
        let queue = concurrency.saturating_mul(QUEUE_PER_WORKER);
        Self::with_bounds(concurrency, queue, concurrency.saturating_mul(RESERVE_PER_WORKER))
    }

    fn with_bounds(concurrency: usize, queue: usize, reserve: usize) -> Result<Self, Error> {
        let nobodys = crate::random::text().map_err(Error::fault)?;
        Ok(Self {
            admission: Admission::new(concurrency.saturating_add(queue), reserve),
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
        let asker = chooser.asker().clone();
        // Scoring takes a few milliseconds, and grows with the length: it has a thread that may block.
        self.run(ctx, &asker, move |memory, _| {
            if chooser.could_guess(text.expose()) {
                return Err(Error::Field {
                    field: chooser.field(),
                    description: "must be harder to guess: a sentence, or several words that do not belong together"
                        .to_owned(),
                });
            }
            memory.hash(text.expose())
        })
        .await?
    }

    /// Whether the password is the account's. Without an account the same work is done and the answer is no.
    ///
    /// A password that was not typed in its normal form is compared twice, since the hash may be older than that form. Both are
    /// done whatever the first one says, with an account and without: how much work it is depends on what was typed alone.
    pub(crate) async fn verify(
        &self,
        ctx: &Ctx,
        asker: &Asker,
        password: &OfferedPassword,
        hash: Option<String>,
    ) -> Result<bool, Error> {
        let right = self.compare(ctx, asker, &password.text, hash.clone()).await?;
        match &password.typed {
            Some(typed) => Ok(self.compare(ctx, asker, typed, hash).await? | right),
            None => Ok(right),
        }
    }

    async fn compare(&self, ctx: &Ctx, asker: &Asker, text: &Secret, hash: Option<String>) -> Result<bool, Error> {
        let text = text.clone();
        self.run(ctx, asker, move |memory, stand_in| {
            let known = hash.is_some();
            let equal = memory.verify(text.expose(), hash.as_deref().unwrap_or(stand_in));
            equal.map(|equal| equal && known)
        })
        .await?
    }

    /// The hash of a text as it was typed, however short, as older releases have made them.
    #[cfg(test)]
    pub(crate) fn older(text: &str) -> String {
        Memory::default().hash(text).unwrap()
    }

    #[cfg(test)]
    pub(crate) fn runs(&self) -> u64 {
        self.runs.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// A hasher without places for those who are known.
    #[cfg(test)]
    pub(crate) fn without_reserve(concurrency: usize) -> Result<Self, Error> {
        Self::with_bounds(concurrency, concurrency * QUEUE_PER_WORKER, 0)
    }

    /// Takes all places that strangers may have, until the answer is dropped.
    #[cfg(test)]
    pub(crate) fn fill(&self) -> impl Sized + use<> {
        self.admission.fill()
    }

    /// Runs `work` on one of the threads, when its turn comes.
    async fn run<T: Send + 'static>(
        &self,
        ctx: &Ctx,
        asker: &Asker,
        work: impl FnOnce(&mut Memory, &str) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let admitted = self.admission.admit(asker)?;
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
        let permits: (Place, OwnedSemaphorePermit) = (admitted, running);
        // The permits go along: a call that is dropped must not make room before its hash has ended.
        let hashed = self.threads.run(move |memory| {
            let result = work(memory, &stand_in);
            drop(permits);
            result
        });
        hashed.await
    }
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
        assert!(NewPassword::parse("f\u{fc}nfzehn Letter").is_ok());
        assert!(NewPassword::parse("\u{1f6aa}".repeat(15).as_str()).is_ok());
        // Of the normal form, in which two that are typed may be one.
        assert!(NewPassword::parse("u\u{308}".repeat(256).as_str()).is_ok());
        for text in [
            "",
            "vierzehn W\u{f6}rte",
            &"u\u{308}".repeat(14),
            &"a".repeat(257),
            &"u\u{308}".repeat(257),
        ] {
            let refused = NewPassword::parse(text).unwrap_err();
            assert_eq!(refused, ParsePasswordError::Length, "{text:?}");
            assert!(refused.to_string().contains("15 to 256"), "{refused}");
        }
        assert!(OfferedPassword::parse("short").is_ok());
        assert!(OfferedPassword::parse(&"a".repeat(257)).is_err());
        assert!(OfferedPassword::parse(&"u\u{308}".repeat(257)).is_err());
        // Longer in the normal form than as it was typed, and typed before there was one.
        assert!(OfferedPassword::parse(&"\u{1d160}".repeat(256)).is_ok());
        assert!(NewPassword::parse(&"\u{1d160}".repeat(256)).is_err());
        // So long that what it becomes is not looked at.
        assert!(OfferedPassword::parse(&"\u{3b1}\u{313}\u{301}\u{345}".repeat(256)).is_ok());
        assert!(OfferedPassword::parse(&"\u{3b1}\u{313}\u{301}\u{345}".repeat(257)).is_err());
    }

    #[test]
    fn the_password_that_one_has_is_no_other_for_being_typed_otherwise() {
        let new = NewPassword::parse("zw\u{f6}lf kleine Zeichen").unwrap();
        assert!(new.is_same(&offered("zwo\u{308}lf\u{a0}kleine Zeichen")));
        assert!(!new.is_same(&offered("zwolf kleine Zeichen")));
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
                &NewPassword::parse("correct horse battery").unwrap(),
                &Chooser::new("password", "", ""),
            )
            .await
            .unwrap();
        assert!(
            hasher
                .verify(
                    &ctx,
                    &Asker::Stranger,
                    &offered("correct horse battery"),
                    Some(hash.clone())
                )
                .await
                .unwrap()
        );
        assert!(
            !hasher
                .verify(&ctx, &Asker::Stranger, &offered("correct horsf battery"), Some(hash))
                .await
                .unwrap()
        );
        assert!(
            !hasher
                .verify(&ctx, &Asker::Stranger, &offered("correct horse battery"), None)
                .await
                .unwrap()
        );
    }

    /// A hash that looked at the first 72 bytes alone, as bcrypt does, would take the one for the other.
    #[tokio::test]
    async fn the_longest_password_counts_to_its_last_character() {
        // No character takes more bytes, and none follows another in a way that could be guessed.
        let letter = |at: u32| char::from_u32(0x2_0000 + at * at % 40_009).unwrap();
        let ending = |last: char| -> String { (1..256).map(letter).chain([last]).collect() };
        let (own, other) = (ending('\u{20000}'), ending('\u{20001}'));
        assert_eq!((own.chars().count(), own.len()), (PASSWORD_CHARACTERS_MAX, 1_024));
        let chosen = NewPassword::parse(&own).unwrap();
        assert!(chosen.is_same(&offered(&own)));
        assert!(!chosen.is_same(&offered(&other)));
        let hasher = Hasher::new(1).unwrap();
        let chooser = Chooser::new("password", "", "");
        let hash = hasher.hash(&ctx(Duration::from_secs(60)), &chosen, &chooser).await;
        let hash = hash.unwrap();
        assert_eq!(tried(&hasher, &own, Some(&hash)).await, (true, 1));
        assert_eq!(tried(&hasher, &other, Some(&hash)).await, (false, 1));
    }

    /// Whether a password is right for a hash, and how many hashes it took to say so.
    async fn tried(hasher: &Hasher, text: &str, hash: Option<&str>) -> (bool, u64) {
        let before = hasher.runs();
        let hash = hash.map(str::to_owned);
        let ctx = ctx(Duration::from_secs(60));
        let right = hasher.verify(&ctx, &Asker::Stranger, &offered(text), hash).await;
        (right.unwrap(), hasher.runs() - before)
    }

    #[tokio::test]
    async fn a_password_is_the_same_however_it_is_typed_and_older_hashes_stay_good() {
        const COMPOSED: &str = "zw\u{f6}lf kleine Zeichen";
        const DECOMPOSED: &str = "zwo\u{308}lf kleine Zeichen";
        let hasher = Hasher::new(1).unwrap();
        let chosen = NewPassword::parse(DECOMPOSED).unwrap();
        let chooser = Chooser::new("password", "", "");
        let hash = hasher
            .hash(&ctx(Duration::from_secs(60)), &chosen, &chooser)
            .await
            .unwrap();
        let older = Hasher::older(DECOMPOSED);
        for (text, hash, expected) in [
            (COMPOSED, Some(&hash), (true, 1)),
            (DECOMPOSED, Some(&hash), (true, 2)),
            // Of the text as it was typed, from before there was a form.
            (DECOMPOSED, Some(&older), (true, 2)),
            (COMPOSED, Some(&older), (false, 1)),
            // As much work where it is wrong, and where there is nobody.
            ("zwo\u{308}lf grosse Zeichen", Some(&hash), (false, 2)),
            ("zw\u{f6}lf grosse Zeichen", Some(&hash), (false, 1)),
            (DECOMPOSED, None, (false, 2)),
            (COMPOSED, None, (false, 1)),
        ] {
            let hash = hash.map(String::as_str);
            assert_eq!(tried(&hasher, text, hash).await, expected, "{text:?} {hash:?}");
        }
    }

    /// A turn that comes only when the time is over: the wait itself has not failed.
    #[tokio::test]
    async fn what_waited_too_long_is_not_hashed() {
        let hasher = Hasher::with_bounds(1, 1, 0).unwrap();
        let late = hasher
            .verify(&ctx(Duration::ZERO), &Asker::Stranger, &offered("correct horse"), None)
            .await;
        assert!(matches!(late, Err(Error::DeadlineExceeded)), "{late:?}");
        assert_eq!(hasher.runs(), 0);
    }

    #[tokio::test]
    async fn what_cannot_wait_is_refused() {
        let hasher = Hasher::with_bounds(1, 1, 1).unwrap();
        let busy = Arc::clone(&hasher.running).acquire_owned().await.unwrap();
        let (patient, impatient) = (ctx(Duration::from_secs(60)), ctx(Duration::from_millis(20)));
        let password = offered("correct horse");
        let stranger = Asker::Stranger;
        let waiting = hasher.verify(&impatient, &stranger, &password, None).await;
        assert!(matches!(waiting, Err(Error::DeadlineExceeded)));
        let both = hasher.fill();
        let refused = hasher.verify(&patient, &stranger, &password, None).await;
        assert!(matches!(refused, Err(Error::Overloaded)));
        drop((busy, both));
        assert!(!hasher.verify(&patient, &stranger, &password, None).await.unwrap());
    }

    #[tokio::test]
    async fn who_is_known_is_hashed_for_although_strangers_have_all_places() {
        let (patient, password) = (ctx(Duration::from_secs(60)), offered("correct horse"));
        let known = Asker::Known(vec![1]);
        let hasher = Hasher::with_bounds(1, 1, 1).unwrap();
        let strangers = hasher.fill();
        assert!(!hasher.verify(&patient, &known, &password, None).await.unwrap());
        // What has ended leaves its place to the next.
        assert!(!hasher.verify(&patient, &known, &password, None).await.unwrap());
        drop(strangers);
        // The control: without the reserve they are refused with the strangers.
        let hasher = Hasher::without_reserve(1).unwrap();
        let strangers = hasher.fill();
        let refused = hasher.verify(&patient, &known, &password, None).await;
        assert!(matches!(refused, Err(Error::Overloaded)), "{refused:?}");
        drop(strangers);
    }
}
