//! T14: many calls, refills that are held back, changes, renewals and two holders who share Redis, in random order. Rights whose
//! change was acknowledged before a call began are never given to it.

use rowhouse_devkit::torture::{Dice, Torture};
use tokio::task::JoinSet;

use super::*;

/// Races of a round, in the short form and in the long one.
const RACES: [usize; 2] = [6, 60];
/// Races without the guard, until one shows what that lets in.
const CONTROL_RACES_MAX: usize = 40;
const STEPS: usize = 150;
const USERS: usize = 10;
/// More than can be held at once.
const EVERYTHING: usize = 10_000;

/// A call that began after the change of its user's rights had been acknowledged, or not; and what it was told.
struct Told {
    acknowledged: bool,
    standing: Standing,
}

#[derive(Default)]
struct Sums {
    /// Calls that began after an acknowledgement, and those of them that were let in.
    late: usize,
    let_in: usize,
    /// Calls that were let in because they began before.
    early: usize,
}

struct Race {
    auth: FakeAuth,
    holders: [RightsClient; 2],
    users: Vec<RightsQuery>,
    /// Whose rights are taken, and whether that was acknowledged.
    taken: BTreeMap<usize, bool>,
    calls: JoinSet<Told>,
}

impl Race {
    async fn start(without_guard: bool) -> Self {
        let (auth, redis) = (FakeAuth::start().await, redis("races"));
        let holders = [holder(&auth, redis.clone()).await, holder(&auth, redis).await];
        for holder in &holders {
            holder.inner.ledger().believes_all_versions = without_guard;
        }
        Self {
            auth,
            holders,
            users: (0..USERS).map(|_| somebody()).collect(),
            taken: BTreeMap::new(),
            calls: JoinSet::new(),
        }
    }

    fn call(&mut self, holder: usize, user: usize) {
        let (client, query) = (self.holders[holder].clone(), self.users[user]);
        let acknowledged = self.taken.get(&user).copied().unwrap_or_default();
        self.calls.spawn(async move {
            let standing = standing(&client, &query).await;
            Told { acknowledged, standing }
        });
    }

    async fn renew(&mut self, holder: usize) {
        self.holders[holder].inner.renew(0).await;
        if self.auth.is_acknowledged() {
            self.taken.values_mut().for_each(|acknowledged| *acknowledged = true);
        }
    }

    async fn step(&mut self, dice: &mut Dice) {
        let (holder, user) = (dice.below(2), dice.below(USERS));
        match dice.below(12) {
            0..=5 => self.call(holder, user),
            // Some keep their rights to the end.
            6 if user < USERS - 2 && !self.taken.contains_key(&user) => {
                self.auth.revoke(&self.users[user].user.to_string());
                self.taken.insert(user, false);
            }
            7 | 8 => self.renew(holder).await,
            9 => self.auth.go.add_permits(1 + dice.below(4)),
            10 => {
                let is_slow = dice.percent(60);
                self.auth.state().is_slow = is_slow;
            }
            _ => {}
        }
        for _ in 0..dice.below(12) {
            tokio::task::yield_now().await;
        }
    }

    /// Lets everything go that is held, has everything acknowledged, and asks for everybody once more.
    async fn finish(mut self) -> Sums {
        self.auth.state().is_slow = false;
        self.auth.go.add_permits(EVERYTHING);
        for holder in [0, 1, 0, 1] {
            self.renew(holder).await;
        }
        assert!(self.taken.values().all(|acknowledged| *acknowledged));
        for user in 0..USERS {
            self.call(0, user);
            self.call(1, user);
        }
        let mut sums = Sums::default();
        while let Some(told) = self.calls.join_next().await {
            let told = told.unwrap();
            let let_in = usize::from(told.standing == Standing::Good);
            if told.acknowledged {
                sums.late += 1;
                sums.let_in += let_in;
            } else {
                sums.early += let_in;
            }
        }
        sums
    }
}

async fn race(mut dice: Dice, without_guard: bool) -> Sums {
    let mut race = Race::start(without_guard).await;
    for _ in 0..STEPS {
        race.step(&mut dice).await;
    }
    race.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refills_that_race_changes_bring_nothing_back() {
    let mut torture = Torture::begin("T14", "refills");
    let [short, long] = RACES;
    while let Some(dice) = torture.round() {
        let mut early = 0;
        for number in 0..torture.size(short, long) {
            let sums = race(dice.of_task(number), false).await;
            torture.trials(sums.late);
            early += sums.early;
            assert_eq!(sums.let_in, 0, "race {number}: of {} late calls", sums.late);
        }
        torture.count("let in before", early);
        assert!(early > 0, "nobody was ever let in: the race shows nothing");
    }
}

/// The control: without the comparison of versions the same steps give back what was taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_versions_the_same_races_bring_rights_back() {
    let (dice, mut late) = (Dice::new(7), 0);
    // Threads take turns as they like, so one race alone may show nothing.
    for number in 0..CONTROL_RACES_MAX {
        let sums = race(dice.of_task(number), true).await;
        late += sums.late;
        if sums.let_in > 0 {
            return;
        }
    }
    panic!("{CONTROL_RACES_MAX} races, {late} late calls, and none was let in");
}
