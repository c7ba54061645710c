//! The protocol as a model (T14): auth, the network and a holder take random steps in random order, and an oracle outside
//! knows which changes were acknowledged. Used after that, older rights would be a breach.

use rowhouse_devkit::torture::{Dice, Torture};

use super::*;

const USERS: usize = 5;
const STEPS: usize = 400;
/// Worlds of a round.
const WORLDS: usize = 300;

/// A renewal on its way.
struct Flight {
    asked_ms: u64,
    confirmed: i64,
    has_arrived: bool,
    answer: Option<RenewLeaseResponse>,
}

struct World {
    dice: Dice,
    start: Now,
    now_ms: u64,
    users: Vec<UserId>,
    /// Auth: version of each change, whose it was, and whether it was acknowledged.
    changes: Vec<(i64, usize, bool)>,
    auth_confirmed: i64,
    auth_lease_until_ms: u64,
    ledger: Ledger,
    flight: Option<Flight>,
    /// Rights that auth has read, and that have arrived: whose, and at which version.
    reading: Vec<(usize, i64)>,
    cached: Vec<(usize, i64)>,
    used: usize,
    breaches: usize,
    guard: Guard,
}

/// What a run leaves out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// Nothing.
    Whole,
    /// The comparison of versions.
    WithoutVersions,
    /// The lease counts from when the answer arrives, and not from before the question.
    LeaseFromAnswer,
}

impl World {
    fn new(dice: Dice, guard: Guard) -> Self {
        Self {
            dice,
            start: Now::read(),
            now_ms: 0,
            users: (0..USERS).map(|_| UserId::generate()).collect(),
            changes: Vec::new(),
            auth_confirmed: 0,
            auth_lease_until_ms: 0,
            ledger: Ledger {
                believes_all_versions: guard == Guard::WithoutVersions,
                ..Ledger::default()
            },
            flight: None,
            reading: Vec::new(),
            cached: Vec::new(),
            used: 0,
            breaches: 0,
            guard,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.dice.below(bound)
    }

    fn at(&self, ms: u64) -> Now {
        let passed = Duration::from_millis(ms);
        Now {
            monotonic: self.start.monotonic + passed,
            calendar: self.start.calendar + passed,
        }
    }

    fn version(&self) -> i64 {
        self.changes.len() as i64
    }

    fn step(&mut self) {
        match self.below(12) {
            0 => self.now_ms += 1 + self.below(900) as u64,
            1 => {
                let change = (self.version() + 1, self.below(USERS), false);
                self.changes.push(change);
            }
            2 => {
                let user = self.below(USERS);
                self.reading.push((user, self.version()));
            }
            3 if !self.reading.is_empty() => {
                let arrived = self.below(self.reading.len());
                let read = self.reading.swap_remove(arrived);
                self.cached.push(read);
            }
            4 | 5 => self.use_something(),
            _ => self.fly(),
        }
        self.acknowledge();
    }

    /// One leg of a renewal, or its loss.
    fn fly(&mut self) {
        let is_lost = self.below(20) == 0;
        let Some(mut flight) = self.flight.take() else {
            self.flight = Some(Flight {
                asked_ms: self.now_ms,
                confirmed: self.ledger.confirmed(),
                has_arrived: false,
                answer: None,
            });
            return;
        };
        if is_lost {
            return;
        }
        if !flight.has_arrived {
            flight.has_arrived = true;
            self.auth_confirmed = self.auth_confirmed.max(flight.confirmed);
            self.auth_lease_until_ms = self.now_ms + 2_000;
        } else if flight.answer.is_none() {
            let changed = self.changes.iter().filter(|(version, ..)| *version > flight.confirmed);
            flight.answer = Some(RenewLeaseResponse {
                version: self.version(),
                changed_subjects: changed.map(|(_, user, _)| self.users[*user].to_string()).collect(),
                drop_all: false,
                lease_ms: 2_000,
            });
        } else if let Some(answer) = flight.answer {
            let from_answer = self.guard == Guard::LeaseFromAnswer;
            let asked = self.at(if from_answer { self.now_ms } else { flight.asked_ms });
            self.ledger.record(asked, &answer);
            return;
        }
        self.flight = Some(flight);
    }

    fn acknowledge(&mut self) {
        let has_no_lease = self.auth_lease_until_ms <= self.now_ms;
        for (version, _, is_acknowledged) in &mut self.changes {
            *is_acknowledged |= has_no_lease || *version <= self.auth_confirmed;
        }
    }

    fn use_something(&mut self) {
        if self.cached.is_empty() {
            return;
        }
        let chosen = self.below(self.cached.len());
        let (user, read_at) = self.cached[chosen];
        let query = RightsQuery {
            user: self.users[user],
            session: None,
            tenant: None,
            platform: false,
            key: None,
            by: None,
        };
        if !self.ledger.may_use(self.at(self.now_ms), &query, read_at) {
            return;
        }
        self.used += 1;
        let is_older = |(version, whose, is_acknowledged): &(i64, usize, bool)| {
            *is_acknowledged && *whose == user && *version > read_at
        };
        self.breaches += usize::from(self.changes.iter().any(is_older));
    }
}

/// Uses and breaches in the worlds of a round.
fn run(guard: Guard, dice: &Dice) -> (usize, usize) {
    (0..WORLDS).fold((0, 0), |(used, breaches), number| {
        let mut world = World::new(dice.of_task(number), guard);
        (0..STEPS).for_each(|_| world.step());
        (used + world.used, breaches + world.breaches)
    })
}

#[test]
fn no_rights_are_used_that_are_older_than_an_acknowledged_change() {
    let mut torture = Torture::begin("T14", "model");
    while let Some(dice) = torture.round() {
        let (used, breaches) = run(Guard::Whole, &dice);
        torture.trials(used);
        assert_eq!(breaches, 0, "of {used} uses");
        assert!(used > 1_000, "only {used} uses: the model does nothing");
    }
}

/// The controls: with a part of the protocol left out, the same steps breach.
#[test]
fn without_a_part_of_the_protocol_the_same_steps_breach() {
    for guard in [Guard::WithoutVersions, Guard::LeaseFromAnswer] {
        let (used, breaches) = run(guard, &Dice::new(7));
        assert!(breaches > 0, "{used} uses");
    }
}
