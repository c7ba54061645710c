//! How much memory a process has resident.

use std::fs;

use anyhow::{Context as _, Result};

/// What it has now, in MiB.
pub(super) fn resident_mib(pid: i32) -> Result<f64> {
    value(pid, "VmRSS:")
}

/// Forgets the most that it has had, so that [`peak_mib`] counts from now on: "5" into `clear_refs` (proc_pid_clear_refs(5)).
pub(super) fn forget_peak(pid: i32) -> Result<()> {
    let file = format!("/proc/{pid}/clear_refs");
    fs::write(&file, "5").with_context(|| format!("cannot write {file}"))
}

/// The most that it has had since, in MiB: the kernel keeps it, so that nobody looks while something else is measured.
pub(super) fn peak_mib(pid: i32) -> Result<f64> {
    value(pid, "VmHWM:")
}

fn value(pid: i32, name: &str) -> Result<f64> {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    read(&text, name).with_context(|| format!("{file} has no {name}"))
}

/// `VmRSS:     12345 kB` (proc_pid_status(5)).
fn read(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let status = "Name:\tauth\nVmHWM:\t   99328 kB\nVmRSS:\t   20480 kB\nThreads:\t9\n";
        assert_eq!(read(status, "VmRSS:"), Some(20.0));
        assert_eq!(read(status, "VmHWM:"), Some(97.0));
        assert_eq!(read("Name:\tauth\n", "VmRSS:"), None);
    }

    #[test]
    fn a_peak_is_forgotten() {
        let own = i32::try_from(std::process::id()).unwrap();
        let large = vec![1_u8; 64 << 20];
        assert!(large.iter().map(|byte| u64::from(*byte)).sum::<u64>() > 0);
        drop(large);
        let before = peak_mib(own).unwrap();
        forget_peak(own).unwrap();
        let after = peak_mib(own).unwrap();
        assert!(after + 32.0 < before, "{before} {after}");
    }
}
