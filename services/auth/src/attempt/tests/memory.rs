//! T16: hundreds log in at once. What cannot be hashed soon is refused, and, where that is judged, memory stays within what the few
//! that are hashed at once need.

use rowhouse_devkit::torture::Torture;

use super::*;
use crate::identity::{Asker, Hasher};

/// Log-ins at once, in the short form and in the long one.
const LOGINS: [usize; 2] = [150, 500];

/// What the bench's hasher takes in: 4 that run, and 24 waiting for each.
const TAKEN_IN: usize = 100;

/// One hash of Argon2id as OWASP advises takes 19 MiB.
const HASH_MIB: u64 = 19;

/// The four that run, and as much again as the calls may take themselves. All of 500 at once would be 9,500.
const GROWTH_MAX_MIB: u64 = 4 * HASH_MIB + 64;

/// A figure of this process, in MiB: what is resident (`VmRSS`), or the most that ever was (`VmHWM`). See proc_pid_status(5).
fn memory_mib(figure: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(figure)).unwrap();
    let kib: u64 = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap();
    kib / 1024
}

async fn round(bench: &Bench, owner: &str, torture: &mut Torture) {
    // What was guessed in the round before is forgotten.
    bench.execute("DELETE FROM auth.attempts").await;
    let [short, long] = LOGINS;
    let count = torture.size(short, long);
    // From as many addresses, so that nobody has guessed too often.
    let people: Vec<(String, String)> = (0..count)
        .map(|n| (format!("10.0.{}.{}", n / 250, n % 250), format!("n{n}@acme.example")))
        .collect();
    let logins = people
        .iter()
        .map(|(address, email)| login(bench, address, email, WRONG));
    let mut hashed = 0;
    for answer in join_all(logins).await {
        match answer.map(drop) {
            Err(Error::LoginFailed) => hashed += 1,
            // Either the hasher has taken in what it can, or the pool of connections has.
            Err(Error::Overloaded | Error::DatabaseUnavailable(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    torture.trials(count);
    torture.count("hashed", hashed);
    torture.count("refused", count - hashed);
    assert!(hashed >= TAKEN_IN, "{hashed}");
    assert!(
        login(bench, "198.51.100.7", owner, PASSWORD).await.is_ok(),
        "and afterwards it goes on"
    );
}

#[tokio::test]
async fn many_log_ins_at_once_take_bounded_memory() {
    let mut torture = Torture::begin("T16", "memory");
    let before = memory_mib("VmRSS");
    // One for all rounds, as a process has one: each hasher has memory of its own.
    let bench = Bench::start("attempt_memory").await;
    let house = bench.house("acme").await;
    while torture.round().is_some() {
        round(&bench, &house.email, &mut torture).await;
        // In the short form other tests may run in this process.
        let growth = memory_mib("VmHWM").saturating_sub(before);
        println!("{growth} MiB more than the {before} at the beginning");
        assert!(growth <= GROWTH_MAX_MIB || !torture.is_long(), "{growth} MiB");
    }
}

/// The control: more hashes at once take more, and that is seen.
#[tokio::test]
async fn without_the_bound_the_memory_is_noticed() {
    let before = memory_mib("VmRSS");
    let at_once = 24;
    let hasher = Hasher::new(at_once).unwrap();
    let (call, password, stranger) = (anonymous(), OfferedPassword::parse(WRONG).unwrap(), Asker::Stranger);
    let hashes = (0..at_once).map(|_| hasher.verify(&call, &stranger, &password, None));
    for right in join_all(hashes).await {
        assert!(!right.unwrap());
    }
    let growth = memory_mib("VmHWM").saturating_sub(before);
    assert!(growth > GROWTH_MAX_MIB, "{growth} MiB");
}
