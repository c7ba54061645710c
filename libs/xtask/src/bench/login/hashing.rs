//! Argon2id with auth's parameters on as many threads as auth hashes at once, each in memory that it takes once: no auth can
//! log in more people than that.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Block, PasswordHasher as _};

use crate::bench::load::Measured;
use crate::seed::PASSWORD;

/// As many as auth takes unless told otherwise, which `up` does not: one for each core.
pub(super) fn at_once() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// What one hash needs, in MiB. Auth takes the crate's defaults too.
pub(super) fn memory_mib() -> f64 {
    f64::from(Argon2::default().params().m_cost()) / 1_024.0
}

/// Comparisons of a right password, as log-ins make them.
pub(super) async fn measure(duration: Duration) -> Result<Measured> {
    let work = move || {
        let known = Argon2::default().hash_password(PASSWORD.as_bytes());
        let known = known.map_err(|fault| anyhow!("{fault}"))?.to_string();
        let begun = Instant::now();
        let calls = thread::scope(|scope| {
            let threads: Vec<_> = (0..at_once())
                .map(|_| scope.spawn(|| compare(&known, begun, duration)))
                .collect();
            let mut calls = Vec::new();
            for thread in threads {
                calls.extend(thread.join().ok().context("a thread panicked")??);
            }
            anyhow::Ok(calls)
        })?;
        Ok(Measured::new(calls, begun.elapsed()))
    };
    tokio::task::spawn_blocking(work).await?
}

fn compare(known: &str, begun: Instant, duration: Duration) -> Result<Vec<Duration>> {
    let mut calls = Vec::new();
    let argon = Argon2::default();
    let mut memory = vec![Block::new(); argon.params().block_count()];
    while begun.elapsed() < duration {
        let call = Instant::now();
        let hash = PasswordHash::new(known).map_err(|fault| anyhow!("{fault}"))?;
        let (salt, wanted) = hash.salt.zip(hash.hash).context("a hash with salt and output")?;
        let mut output = vec![0; wanted.len()];
        let hashed = argon.hash_password_into_with_memory(PASSWORD.as_bytes(), &salt, &mut output, &mut memory);
        hashed.map_err(|fault| anyhow!("{fault}"))?;
        ensure!(output == wanted.as_ref(), "the password is wrong");
        calls.push(call.elapsed());
    }
    Ok(calls)
}
