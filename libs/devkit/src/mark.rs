//! Finding again what a stack has started.
//!
//! Every process of a stack carries the stack's folder in its environment, and its children inherit it. So a stack's
//! processes are found in `/proc` whoever started them and however that one died: there is no list that could be
//! stale, and no process that happens to have a remembered number is ever touched.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The variable that holds the stack's folder.
pub const STACK: &str = "ROWHOUSE_STACK";
/// The variable that holds the process's name in its stack.
pub const PROCESS: &str = "ROWHOUSE_STACK_PROCESS";
/// The variable that holds what the process was started with, digested.
pub const FINGERPRINT: &str = "ROWHOUSE_STACK_FINGERPRINT";

/// How long servers get to end by themselves. RabbitMQ takes 2 s, PostgreSQL's checkpoint about as long.
const GRACE: Duration = Duration::from_secs(20);
/// How often `/proc` is read while waiting.
const TICK: Duration = Duration::from_millis(50);

/// A process of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Its number.
    pub pid: i32,
    /// Its name in the stack; empty for a child that has overwritten its environment.
    pub process: String,
    /// What it was started with, digested.
    pub fingerprint: String,
    /// Started by us and not by another process of the stack.
    pub root: bool,
    /// Clock ticks from boot to its start: with the number, its identity.
    started: u64,
}

/// All processes of a stack, children included.
pub fn find(stack: &Path) -> Vec<Marked> {
    let everybody: Vec<Seen> = numbers().into_iter().filter_map(see).collect();
    let marked: HashSet<i32> = everybody
        .iter()
        .filter(|seen| seen.belongs_to(stack))
        .map(|seen| seen.pid)
        .collect();
    // PostgreSQL's children write their title over their environment, so children are followed by parenthood as well.
    let mut ours = marked;
    loop {
        let more: Vec<i32> = everybody
            .iter()
            .filter(|seen| ours.contains(&seen.parent) && !ours.contains(&seen.pid))
            .map(|seen| seen.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        ours.extend(more);
    }
    let mine = std::process::id();
    everybody
        .into_iter()
        .filter(|seen| ours.contains(&seen.pid) && u32::try_from(seen.pid) != Ok(mine))
        .map(|seen| Marked {
            root: !ours.contains(&seen.parent),
            ..seen.into_marked()
        })
        .collect()
}

/// The process that a stack has under a name.
pub fn find_process(stack: &Path, process: &str) -> Option<Marked> {
    find(stack)
        .into_iter()
        .find(|found| found.root && found.process == process)
}

/// Ends the processes for which `wanted` holds, politely first, and waits until they are gone. Blocks.
pub fn stop(stack: &Path, grace: bool, wanted: impl Fn(&Marked) -> bool) -> usize {
    let first: Vec<Marked> = find(stack).into_iter().filter(&wanted).collect();
    if grace {
        for found in first.iter().filter(|found| found.root) {
            // SIGTERM makes PostgreSQL wait for its clients; SIGINT sends them away.
            let signal = if found.process.starts_with("postgres") {
                Signal::SIGINT
            } else {
                Signal::SIGTERM
            };
            signal_to(found, signal);
        }
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && find(stack).iter().any(&wanted) {
            thread::sleep(TICK);
        }
    }
    // Again until none is left: what is killed may have been starting another.
    let deadline = Instant::now() + GRACE;
    loop {
        let left: Vec<Marked> = find(stack).into_iter().filter(&wanted).collect();
        if left.is_empty() || Instant::now() > deadline {
            return first.len();
        }
        for found in &left {
            signal_to(found, Signal::SIGKILL);
        }
        thread::sleep(TICK);
    }
}

/// Signals a process if its number still belongs to it.
pub fn signal_to(marked: &Marked, signal: Signal) {
    if see(marked.pid).is_some_and(|seen| seen.started == marked.started) {
        // It may end between the look and the signal; then there is nothing to do.
        let _ = kill(Pid::from_raw(marked.pid), signal);
    }
}

struct Seen {
    pid: i32,
    parent: i32,
    started: u64,
    environment: Vec<u8>,
}

impl Seen {
    fn variable(&self, name: &str) -> Option<&[u8]> {
        let entries = self.environment.split(|byte| *byte == 0);
        entries
            .filter_map(|entry| entry.strip_prefix(name.as_bytes()))
            .find_map(|rest| rest.strip_prefix(b"="))
    }

    fn belongs_to(&self, stack: &Path) -> bool {
        self.variable(STACK)
            .is_some_and(|folder| folder == stack.as_os_str().as_encoded_bytes())
            || self.is_orphan_of(stack)
    }

    /// A PostgreSQL backend whose postmaster was killed: no environment and no parent tell, but it works in a cluster's
    /// folder, and all of a stack's lie in its folder of data.
    fn is_orphan_of(&self, stack: &Path) -> bool {
        let link = |name: &str| fs::read_link(format!("/proc/{}/{name}", self.pid)).unwrap_or_else(|_| PathBuf::new());
        if !link("exe").ends_with("postgres") {
            return false;
        }
        let data = stack.join("data").canonicalize();
        data.is_ok_and(|data| link("cwd").starts_with(data))
    }

    fn into_marked(self) -> Marked {
        let text = |name| {
            self.variable(name)
                .map(|value| String::from_utf8_lossy(value).into_owned())
        };
        Marked {
            process: text(PROCESS).unwrap_or_default(),
            fingerprint: text(FINGERPRINT).unwrap_or_default(),
            pid: self.pid,
            started: self.started,
            root: false,
        }
    }
}

fn numbers() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

fn see(pid: i32) -> Option<Seen> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself hold anything; the fields follow the last one. See proc(5).
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    if fields.first().is_some_and(|state| *state == "Z" || *state == "X") {
        return None;
    }
    Some(Seen {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        environment: fs::read(format!("/proc/{pid}/environ")).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::spawn::Launch;

    fn shell(folder: &Path, process: &str, script: &str) -> Launch {
        Launch {
            process: process.to_owned(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            folder: folder.to_owned(),
            log: folder.join("log"),
            account: None,
            files: Vec::new(),
        }
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "the condition did not come true within 10 s");
            thread::yield_now();
        }
    }

    #[test]
    fn a_marked_process_and_its_children_are_found_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let launch = shell(folder.path(), "parent", "env -i sleep 600 & sleep 600; true");
        let mut child = launch.detached(folder.path()).unwrap();
        wait_until(|| find(folder.path()).len() == 3);
        let parent = find_process(folder.path(), "parent").unwrap();
        assert_eq!(
            (parent.pid, parent.fingerprint),
            (child.id() as i32, launch.fingerprint())
        );
        assert_eq!(find(folder.path()).iter().filter(|found| found.root).count(), 1);
        assert_eq!(stop(folder.path(), false, |_| true), 3);
        assert!(find(folder.path()).is_empty());
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_ignores_sigterm_is_killed_in_the_end_but_a_polite_one_ends_itself() {
        let folder = tempfile::tempdir().unwrap();
        let said = folder.path().join("said");
        let script = format!(
            "trap 'touch {}; exit 0' TERM; touch ready; while :; do sleep 0.05; done",
            said.display()
        );
        let mut child = shell(folder.path(), "polite", &script).detached(folder.path()).unwrap();
        wait_until(|| folder.path().join("ready").exists());
        stop(folder.path(), true, |_| true);
        assert!(said.exists());
        child.wait().unwrap();
    }

    #[test]
    fn another_stacks_process_is_left_alone() {
        let ours = tempfile::tempdir().unwrap();
        let theirs = tempfile::tempdir().unwrap();
        let mut child = shell(theirs.path(), "other", "exec sleep 600")
            .detached(theirs.path())
            .unwrap();
        let mut plain = Command::new("sleep").arg("600").spawn().unwrap();
        wait_until(|| find(theirs.path()).len() == 1);
        assert_eq!(stop(ours.path(), false, |_| true), 0);
        assert_eq!(find(theirs.path()).len(), 1);
        assert!(plain.try_wait().unwrap().is_none());
        plain.kill().unwrap();
        plain.wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_fingerprint_follows_arguments_and_variables() {
        let one = shell(Path::new("/"), "one", "true");
        let mut other = one.clone();
        assert_eq!(one.fingerprint(), other.fingerprint());
        other.environment.push(("A".to_owned(), "b".to_owned()));
        assert_ne!(one.fingerprint(), other.fingerprint());
    }
}
