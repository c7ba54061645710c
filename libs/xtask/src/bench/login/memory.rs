//! How much memory a process has resident.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

/// How often it is looked at: several times in a hash's 20 ms.
const EVERY: Duration = Duration::from_millis(5);

/// What it has now, in MiB.
pub(super) fn resident_mib(pid: i32) -> Result<f64> {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    read(&text).with_context(|| format!("{file} does not say what is resident"))
}

/// The most that it has, as seen until `stop` is cancelled, in MiB.
pub(super) async fn peak_mib(pid: i32, stop: CancellationToken) -> Result<f64> {
    let mut peak: f64 = 0.0;
    while !stop.is_cancelled() {
        peak = peak.max(resident_mib(pid)?);
        tokio::time::sleep(EVERY).await;
    }
    Ok(peak)
}

/// `VmRSS:     12345 kB` (proc_pid_status(5)).
fn read(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let status = "Name:\tauth\nVmHWM:\t   99999 kB\nVmRSS:\t   20480 kB\nThreads:\t9\n";
        assert_eq!(read(status), Some(20.0));
        assert_eq!(read("Name:\tauth\n"), None);
        assert!(resident_mib(std::process::id().try_into().unwrap()).unwrap() > 0.0);
    }
}
