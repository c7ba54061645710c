//! Argon2id (RFC 9106) on threads of its own.
//!
//! Each thread takes the memory of a hash once and uses it for every hash, so that what auth needs is what is configured: an
//! allocator that gets and gives 19 MiB many times a second keeps a multiple of them, and clears each page first. And the
//! threads give way to all others: hashes are long and calls are short, so who floods log-ins slows log-ins.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::random;

/// By how much the threads' priority is below that of others (nice(2): 0 to 19). At ten the scheduler of Linux gives them a
/// tenth of what it gives others, where both want the same core. That is among the threads of one container, or of one session
/// where the kernel groups by sessions (sched(7), autogroup): between containers the CPU that each requests decides.
const NICENESS: i32 = 10;

/// Bytes of a salt (RFC 9106, 3.1).
const SALT_BYTES: usize = 16;

type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// The threads. They end when the last copy is dropped; nobody waits for that, since a hash changes nothing. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Threads {
    jobs: Sender<Job>,
}

/// What one hash needs, in blocks of 1 KiB. What a hash leaves there stays until the next one: it gives no password away without
/// the work of guessing it.
#[derive(Default)]
pub(super) struct Memory {
    blocks: Vec<Block>,
}

// === impl Threads ===

impl Threads {
    pub(super) fn start(count: usize) -> Result<Self, Error> {
        let (jobs, taken) = channel::<Job>();
        let taken = Arc::new(Mutex::new(taken));
        for _ in 0..count {
            let taken = Arc::clone(&taken);
            let thread = thread::Builder::new().name("password-hash".to_owned());
            thread.spawn(move || work_off(&taken)).map_err(Error::fault)?;
        }
        Ok(Self { jobs })
    }

    /// Does `work` when a thread is free.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (done, answer) = oneshot::channel();
        let job: Job = Box::new(move |memory| {
            // Nobody waits for it any more where the call was dropped.
            let _ = done.send(work(memory));
        });
        self.jobs.send(job).map_err(Error::fault)?;
        answer.await.map_err(Error::fault)
    }
}

fn work_off(jobs: &Mutex<Receiver<Job>>) {
    // Of this thread, as Linux takes it.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::warn!(%error, "the threads that hash passwords have the priority of others");
    }
    let mut memory = Memory::default();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else {
            return;
        };
        // A password that some library stumbles over costs one call and not a thread. What it was about hears a fault.
        if catch_unwind(AssertUnwindSafe(|| job(&mut memory))).is_err() {
            tracing::error!("a thread that hashes passwords has panicked, and goes on");
            memory = Memory::default();
        }
    }
}

// === impl Memory ===

impl Memory {
    /// The hash of a password, with its parameters and a fresh salt, as a PHC string. The crate's defaults: version 0x13,
    /// m = 19 MiB, t = 2, p = 1, which are OWASP's parameters; a test compares them.
    pub(super) fn hash(&mut self, password: &str) -> Result<String, Error> {
        let random = random::bytes().map_err(Error::fault)?;
        let (salt, _) = random.split_at(SALT_BYTES);
        let salt = Salt::new(salt).map_err(Error::fault)?;
        let argon = Argon2::default();
        let output = self.output(&argon, password, &salt, Params::DEFAULT_OUTPUT_LEN)?;
        let hash = PasswordHash {
            algorithm: Algorithm::default().ident(),
            version: Some(Version::default().into()),
            params: ParamsString::try_from(argon.params()).map_err(Error::fault)?,
            salt: Some(salt),
            hash: Some(output),
        };
        Ok(hash.to_string())
    }

    /// Whether a password is the one of a hash, with the parameters that it names. The outputs are compared in constant time.
    pub(super) fn verify(&mut self, password: &str, hash: &str) -> Result<bool, Error> {
        let hash = PasswordHash::new(hash).map_err(Error::fault)?;
        let (Some(salt), Some(known)) = (&hash.salt, &hash.hash) else {
            return Err(Error::fault("a hash without salt or output"));
        };
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).map_err(Error::fault)?;
        let version = hash.version.map(Version::try_from).transpose().map_err(Error::fault)?;
        let params = Params::try_from(&hash).map_err(Error::fault)?;
        let argon = Argon2::new(algorithm, version.unwrap_or_default(), params);
        Ok(self.output(&argon, password, salt, known.len())? == *known)
    }

    fn output(&mut self, argon: &Argon2<'_>, password: &str, salt: &Salt, length: usize) -> Result<Output, Error> {
        let count = argon.params().block_count();
        // More than before only where a hash names larger parameters; the memory stays.
        if self.blocks.len() < count {
            self.blocks.resize(count, Block::new());
        }
        let blocks = self.blocks.get_mut(..count).unwrap_or_default();
        let mut bytes = [0; Output::MAX_LENGTH];
        let bytes = bytes.get_mut(..length).unwrap_or_default();
        let hashed = argon.hash_password_into_with_memory(password.as_bytes(), salt, bytes, blocks);
        hashed.map_err(Error::fault)?;
        Output::new(bytes).map_err(Error::fault)
    }
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher as _, PasswordVerifier as _};

    use super::*;

    const PASSWORD: &str = "a sentence to remember";

    #[test]
    fn the_parameters_are_at_least_owasps() {
        let hash = Memory::default().hash(PASSWORD).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    }

    #[test]
    fn the_crate_itself_takes_our_hashes_and_we_take_its() {
        let mut memory = Memory::default();
        let ours = memory.hash(PASSWORD).unwrap();
        assert!(
            Argon2::default()
                .verify_password(PASSWORD.as_bytes(), ours.as_str())
                .is_ok()
        );
        let params = Params::new(8_192, 3, 2, Some(24)).unwrap();
        for argon in [Argon2::default(), Argon2::from(params)] {
            let theirs = argon.hash_password(PASSWORD.as_bytes()).unwrap().to_string();
            assert!(memory.verify(PASSWORD, &theirs).unwrap(), "{theirs}");
            assert!(!memory.verify("a sentence to forget", &theirs).unwrap(), "{theirs}");
        }
    }

    #[test]
    fn what_one_hash_leaves_in_the_memory_changes_no_other() {
        let mut memory = Memory::default();
        let (one, two) = (memory.hash(PASSWORD).unwrap(), memory.hash(PASSWORD).unwrap());
        assert_ne!(one, two, "each has a salt of its own");
        for hash in [&one, &two, &one] {
            assert!(memory.verify(PASSWORD, hash).unwrap());
            assert!(!memory.verify("another", hash).unwrap());
        }
    }

    #[tokio::test]
    async fn a_panic_costs_one_call_and_no_thread() {
        let threads = Threads::start(1).unwrap();
        let panics = threads.run(|_| -> () { panic!("a library stumbles") }).await;
        assert!(panics.is_err());
        let hash = threads.run(|memory| memory.hash(PASSWORD)).await.unwrap();
        assert!(hash.is_ok());
    }

    #[test]
    fn a_damaged_hash_is_a_fault_and_no_wrong_password() {
        for hash in ["", "$argon2id$v=19$m=19456,t=2,p=1", "$scrypt$ln=1$c2FsdHNhbHQ$aGFzaA"] {
            assert!(Memory::default().verify(PASSWORD, hash).is_err(), "{hash}");
        }
    }
}
