//! The rules of lease and versions, one by one, by clocks that are moved by hand.

use rowhouse_context::Impersonator;

use super::*;

/// Clocks that are only moved by hand.
#[derive(Clone, Copy)]
struct Clock {
    start: Now,
}

impl Clock {
    fn new() -> Self {
        Self { start: Now::read() }
    }

    fn at(self, passed_ms: u64) -> Now {
        self.by(passed_ms, passed_ms)
    }

    fn by(self, monotonic_ms: u64, calendar_ms: u64) -> Now {
        Now {
            monotonic: self.start.monotonic + Duration::from_millis(monotonic_ms),
            calendar: self.start.calendar + Duration::from_millis(calendar_ms),
        }
    }
}

fn answer(version: i64, changed: &[&dyn ToString]) -> RenewLeaseResponse {
    RenewLeaseResponse {
        version,
        changed_subjects: changed.iter().map(|subject| subject.to_string()).collect(),
        drop_all: false,
        lease_ms: 2_000,
    }
}

fn somebody() -> RightsQuery {
    RightsQuery {
        user: UserId::generate(),
        session: Some(SessionId::generate()),
        tenant: Some(TenantId::generate()),
        platform: false,
        key: None,
        by: None,
    }
}

/// A ledger that has confirmed version 5, asked at 0 ms.
fn at_five(clock: Clock) -> Ledger {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.record(clock.at(0), &answer(5, &[])), Renewal::Changed);
    assert_eq!(ledger.confirmed(), 5);
    ledger
}

#[test]
fn without_a_lease_nothing_may_be_used() {
    let ledger = Ledger::default();
    assert!(!ledger.is_live(Now::read()));
    assert!(!ledger.may_use(Now::read(), &somebody(), i64::MAX));
}

/// Who acts as somebody else loses it with their own account and their own session, too.
#[test]
fn a_change_of_the_operator_or_of_their_session_ends_what_they_do_as_somebody_else() {
    let clock = Clock::new();
    let by = Impersonator {
        operator: UserId::generate(),
        session: SessionId::generate(),
    };
    let as_member = RightsQuery {
        by: Some(by),
        ..somebody()
    };
    let themselves = RightsQuery { by: None, ..as_member };
    for changed in [by.operator.to_string(), by.session.to_string()] {
        let mut ledger = at_five(clock);
        assert!(ledger.may_use(clock.at(1), &as_member, 5));
        let mut news = answer(6, &[]);
        news.changed_subjects = vec![changed];
        ledger.record(clock.at(1), &news);
        assert!(!ledger.may_use(clock.at(2), &as_member, 5));
        assert!(ledger.may_use(clock.at(2), &as_member, 6) && ledger.may_use(clock.at(2), &themselves, 5));
    }
}

#[test]
fn a_lease_counts_from_before_it_was_asked_for_and_ends_a_little_early() {
    let clock = Clock::new();
    let ledger = at_five(clock);
    assert!(ledger.is_live(clock.at(0)));
    assert!(ledger.is_live(clock.at(1_989)));
    assert!(!ledger.is_live(clock.at(1_990)));
}

#[test]
fn a_longer_lease_than_ours_is_not_believed_and_a_negative_one_is_none() {
    let clock = Clock::new();
    let lease = |lease_ms| RenewLeaseResponse {
        lease_ms,
        ..answer(5, &[])
    };
    let mut ledger = Ledger::default();
    ledger.record(clock.at(0), &lease(i32::MAX));
    assert!(!ledger.is_live(clock.at(1_990)));
    for none in [0, -1, i32::MIN] {
        ledger.record(clock.at(0), &lease(none));
        assert!(!ledger.is_live(clock.at(0)), "{none}");
    }
}

#[test]
fn a_machine_that_slept_or_whose_calendar_was_set_has_lost_its_lease() {
    let clock = Clock::new();
    let ledger = at_five(clock);
    assert!(ledger.is_live(clock.by(100, 100)));
    assert!(
        !ledger.is_live(clock.by(100, 60_000)),
        "asleep: only the calendar went on"
    );
    assert!(
        !ledger.is_live(clock.by(60_000, 100)),
        "the calendar was set back by a minute"
    );
    let before = Now {
        calendar: clock.start.calendar - Duration::from_secs(3_600),
        ..clock.at(100)
    };
    assert!(!ledger.is_live(before), "the calendar was set back by an hour");
}

#[test]
fn what_was_read_before_the_start_is_not_used() {
    let clock = Clock::new();
    let ledger = at_five(clock);
    assert!(!ledger.may_use(clock.at(1), &somebody(), 4));
    assert!(ledger.may_use(clock.at(1), &somebody(), 5));
    assert!(ledger.may_use(clock.at(1), &somebody(), 6));
}

#[test]
fn a_change_of_tenant_user_or_session_ends_what_was_read_before_it() {
    let clock = Clock::new();
    let query = somebody();
    let (session, tenant) = (query.session.unwrap(), query.tenant.unwrap());
    for subject in [&query.user as &dyn ToString, &session, &tenant] {
        let mut ledger = at_five(clock);
        assert!(ledger.may_use(clock.at(1), &query, 5));
        assert_eq!(ledger.record(clock.at(1), &answer(7, &[subject])), Renewal::Changed);
        for (version, may) in [(5, false), (6, false), (7, true), (8, true)] {
            assert_eq!(
                ledger.may_use(clock.at(2), &query, version),
                may,
                "{} {version}",
                subject.to_string()
            );
        }
        assert!(ledger.may_use(clock.at(2), &somebody(), 5), "others are not concerned");
    }
}

#[test]
fn a_later_renewal_does_not_forget_an_earlier_change() {
    let clock = Clock::new();
    let query = somebody();
    let mut ledger = at_five(clock);
    ledger.record(clock.at(1), &answer(7, &[&query.user]));
    ledger.record(clock.at(2), &answer(9, &[&UserId::generate()]));
    assert_eq!(ledger.record(clock.at(3), &answer(9, &[])), Renewal::Quiet);
    assert!(!ledger.may_use(clock.at(4), &query, 6));
    assert!(ledger.may_use(clock.at(4), &query, 7));
}

#[test]
fn drop_all_and_subjects_that_cannot_be_read_end_everything_older() {
    let clock = Clock::new();
    let all = RenewLeaseResponse {
        drop_all: true,
        ..answer(8, &[])
    };
    for answer in [all, answer(8, &[&"role_01h455vb4pex5vsknk084sn02q"]), answer(8, &[&""])] {
        let mut ledger = at_five(clock);
        ledger.record(clock.at(1), &answer);
        assert!(!ledger.may_use(clock.at(2), &somebody(), 7), "{answer:?}");
        assert!(ledger.may_use(clock.at(2), &somebody(), 8), "{answer:?}");
    }
}

#[test]
fn more_subjects_than_are_remembered_raise_the_floor() {
    let clock = Clock::new();
    let mut ledger = at_five(clock);
    let first = somebody();
    ledger.record(clock.at(1), &answer(6, &[&first.user]));
    let many: Vec<UserId> = (0..SUBJECTS_MAX).map(|_| UserId::generate()).collect();
    let many: Vec<&dyn ToString> = many.iter().map(|user| user as &dyn ToString).collect();
    ledger.record(clock.at(2), &answer(7, &many));
    assert!(ledger.changed.is_empty());
    assert!(!ledger.may_use(clock.at(3), &first, 6));
    assert!(!ledger.may_use(clock.at(3), &somebody(), 6));
    assert!(ledger.may_use(clock.at(3), &somebody(), 7));
}

#[test]
fn a_version_that_goes_back_ends_the_lease_until_it_has_passed() {
    let clock = Clock::new();
    let mut ledger = at_five(clock);
    assert_eq!(ledger.record(clock.at(1), &answer(4, &[])), Renewal::SetBack);
    assert!(!ledger.is_live(clock.at(1)));
    assert_eq!(ledger.confirmed(), 5);
    // The version that is given again, with a change that is not the one we knew.
    ledger.record(clock.at(2), &answer(5, &[]));
    assert!(ledger.is_live(clock.at(2)));
    assert!(
        !ledger.may_use(clock.at(2), &somebody(), 5),
        "read before the database was set back"
    );
    ledger.record(clock.at(2), &answer(6, &[]));
    assert!(ledger.is_live(clock.at(3)));
}
