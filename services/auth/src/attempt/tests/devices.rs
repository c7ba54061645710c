//! Who shows the secret of a device is counted by it, and by nothing that others do.

use rowhouse_auth_kit::Role;

use super::*;
use crate::invitation::{self, Acceptance};
use crate::role::TenantRole;
use crate::tests::bench::acceptance;
use crate::tests::statements::Statements;
use crate::{mail, member};

const HOME: &str = "198.51.100.7";

/// How many devices there are.
const DEVICES: &str = "SELECT count(*) FROM auth.devices";

/// Somebody with an account who has logged in at home, and the secret of the device.
async fn start(name: &str) -> (Bench, String, DeviceSecret) {
    let bench = Bench::start(name).await;
    let house = bench.house("acme").await;
    let pair = login(&bench, HOME, &house.email, PASSWORD).await.unwrap();
    bench.execute("DELETE FROM auth.attempts").await;
    (bench, house.email, pair.device.unwrap())
}

fn waits(answer: &Result<Pair, Error>) -> bool {
    matches!(answer, Err(Error::TooManyAttempts { .. }))
}

/// Guesses from one address until the next has to wait, for long.
async fn exhaust(bench: &Bench, address: &str, email: &str) {
    for _ in 0..6 {
        drop(login(bench, address, email, WRONG).await);
    }
    bench
        .execute("UPDATE auth.attempts SET blocked_until = now() + interval '1 hour' WHERE level > 5")
        .await;
    assert!(waits(&login(bench, address, email, PASSWORD).await));
}

/// As after too many guesses at the account from one address and from everywhere, at others from there, and at its domain.
async fn exhaust_all(bench: &Bench, address: &str, email: &str) {
    exhaust(bench, address, email).await;
    drop(login(bench, "203.0.113.9", email, WRONG).await);
    bench
        .execute("UPDATE auth.attempts SET level = 2000, blocked_until = now() + interval '1 hour'")
        .await;
    attack(bench, "acme.example").await;
}

#[tokio::test]
async fn whoever_guesses_in_the_owners_own_network_does_not_lock_the_owner_out() {
    let (bench, email, device) = start("device_home").await;
    exhaust_all(&bench, HOME, &email).await;
    for address in [HOME, "203.0.113.9"] {
        let pair = login_at(&bench, address, &email, PASSWORD, Some(&device))
            .await
            .unwrap();
        assert_eq!(pair.device.unwrap().expose(), device.expose(), "the same is answered");
    }
    assert_eq!(bench.count(DEVICES).await, 1);
    // The control: without the secret, or with another's, the owner waits with the thief.
    let neighbour = bench.house("globex").await;
    let foreign = login(&bench, "203.0.113.8", &neighbour.email, PASSWORD).await.unwrap();
    let invented = DeviceSecret::presented("rhd_invented").unwrap();
    for shown in [None, foreign.device.as_ref(), Some(&invented)] {
        assert!(waits(&login_at(&bench, HOME, &email, PASSWORD, shown).await));
    }
}

#[tokio::test]
async fn nor_keeps_them_from_accepting_an_invitation() {
    let (bench, email, device) = start("device_accept").await;
    let other = bench.house("globex").await;
    let admin = bench.ctx_of(other.admin, other.tenant).await;
    let invite = member::Invite {
        email: email.parse().unwrap(),
        role: TenantRole::BuiltIn(Role::User),
        request: None,
    };
    let sent = member::actions::invite(&admin, &bench.state, &invite).await.unwrap();
    let mail = mail::actions::invitation_mail(&service_ctx(), &bench.state, sent.id).await;
    let token = mail.unwrap().token;
    let accept = async |password: &str, device: Option<&DeviceSecret>| {
        let acceptance = Acceptance {
            device: device.cloned(),
            ..acceptance(token.clone(), password)
        };
        invitation::accept(&from(HOME), &bench.state, &acceptance).await
    };
    exhaust_all(&bench, HOME, &email).await;
    // A guess there counts by the device; a right password is no guess, and takes back no more than itself.
    let wrong = accept(WRONG, Some(&device)).await;
    assert!(matches!(wrong, Err(Error::LoginFailed)), "{wrong:?}");
    // The control: without the secret.
    let refused = accept(PASSWORD, None).await;
    assert!(matches!(refused, Err(Error::TooManyAttempts { .. })), "{refused:?}");
    assert_eq!(accept(PASSWORD, Some(&device)).await.unwrap().tenant, other.tenant);
    // Nobody has logged in with another device.
    assert_eq!(bench.count("SELECT wrong::bigint FROM auth.devices").await, 1);
}

#[tokio::test]
async fn a_device_has_delays_of_its_own_and_after_ten_wrong_passwords_it_is_a_stranger() {
    let (bench, email, device) = start("device_wrong").await;
    let guess = async || login_at(&bench, "203.0.113.9", &email, WRONG, Some(&device)).await;
    let hashes = bench.state.hasher.runs();
    wait_for_long(&bench).await;
    let at_once = join_all((0..20).map(|_| guess())).await;
    let looked_at = at_once.iter().filter(|answer| !waits(answer)).count();
    assert_eq!((looked_at, bench.state.hasher.runs() - hashes), (6, 6));
    bench.execute("DROP TRIGGER wait_for_long ON auth.attempts").await;
    assert!(waits(&login_at(&bench, HOME, &email, PASSWORD, Some(&device)).await));
    // Nobody else is concerned: neither the account elsewhere nor the network.
    assert_eq!(bench.count("SELECT count(*) FROM auth.attempts").await, 1);
    pass(&bench, 60 * 60).await;
    for _ in 6..10 {
        pass(&bench, 1_000).await;
        assert!(matches!(guess().await.map(drop), Err(Error::LoginFailed)));
    }
    let wrong = "SELECT wrong::bigint FROM auth.devices";
    assert_eq!(bench.count(wrong).await, 10);
    // From now on it is counted as any guess from there.
    bench.execute("DELETE FROM auth.attempts").await;
    assert!(matches!(guess().await.map(drop), Err(Error::LoginFailed)));
    assert_eq!(bench.count(wrong).await, 10, "and no more by the device");
    assert_eq!(bench.count("SELECT count(*) FROM auth.attempts").await, 4);
    // The right password makes another.
    let pair = login_at(&bench, "203.0.113.9", &email, PASSWORD, Some(&device))
        .await
        .unwrap();
    assert_ne!(pair.device.unwrap().expose(), device.expose());
}

/// The last of many find that there were too many, and are counted as any guess from there.
#[tokio::test]
async fn of_guesses_at_once_a_device_has_no_more_than_are_left() {
    let (bench, email, device) = start("device_last").await;
    bench.execute("UPDATE auth.devices SET wrong = 8").await;
    let guess = || login_at(&bench, "203.0.113.9", &email, WRONG, Some(&device));
    for answer in join_all((0..4).map(|_| guess())).await {
        assert!(matches!(answer.map(drop), Err(Error::LoginFailed)));
    }
    assert_eq!(bench.count("SELECT wrong::bigint FROM auth.devices").await, 10);
    // The device's own, and those of a stranger: the account from there, the address, the account, the organisation.
    assert_eq!(bench.count("SELECT count(*) FROM auth.attempts").await, 5);
}

#[tokio::test]
async fn the_right_password_forgets_the_slips_of_its_device() {
    let (bench, email, device) = start("device_slips").await;
    for _ in 0..4 {
        for _ in 0..5 {
            let slip = login_at(&bench, HOME, &email, WRONG, Some(&device)).await;
            assert!(matches!(slip.map(drop), Err(Error::LoginFailed)));
        }
        login_at(&bench, HOME, &email, PASSWORD, Some(&device)).await.unwrap();
    }
    assert_eq!(bench.count("SELECT wrong::bigint FROM auth.devices").await, 0);
}

/// They wait for each other's counts and devices, in one order: PostgreSQL ends none for a deadlock.
#[tokio::test]
async fn log_ins_at_once_with_one_device_are_all_let_in() {
    let (bench, email, device) = start("device_at_once").await;
    for _ in 0..5 {
        let at_once = join_all((0..4).map(|_| login_at(&bench, HOME, &email, PASSWORD, Some(&device)))).await;
        for answer in at_once {
            assert_eq!(answer.unwrap().device.unwrap().expose(), device.expose());
        }
        assert_eq!(bench.count("SELECT wrong::bigint FROM auth.devices").await, 0);
        assert_eq!(bench.count("SELECT count(*) FROM auth.attempts").await, 0);
    }
}

#[tokio::test]
async fn who_was_not_heard_at_a_device_has_not_guessed() {
    let (bench, email, device) = start("device_unheard").await;
    for _ in 0..20 {
        let call = within(Principal::Anonymous, None, Duration::ZERO).with_origin(None, Some(HOME.to_owned()));
        let attempt = session::Attempt {
            email: email.parse().unwrap(),
            password: OfferedPassword::parse(PASSWORD).unwrap(),
            tenant: None,
            second_factor: None,
            device: Some(device.clone()),
        };
        let answer = session::actions::login(&call, &bench.state, &attempt).await.map(drop);
        assert!(matches!(answer, Err(Error::DeadlineExceeded)), "{answer:?}");
    }
    assert_eq!(bench.count("SELECT wrong::bigint FROM auth.devices").await, 0);
    login_at(&bench, HOME, &email, PASSWORD, Some(&device)).await.unwrap();
}

/// What was answered to a wrong password and done for it: hashes and statements.
async fn tried(
    bench: &Bench,
    statements: &Statements,
    email: &str,
    shown: &DeviceSecret,
) -> (String, u64, Vec<String>) {
    bench.execute("DELETE FROM auth.attempts").await;
    let hashes = bench.state.hasher.runs();
    statements.take();
    let answer = login_at(bench, "203.0.113.9", email, WRONG, Some(shown))
        .await
        .map(drop);
    let answer = format!("{:?}", Failure::from(answer.unwrap_err()));
    (answer, bench.state.hasher.runs() - hashes, statements.take())
}

/// T15: what was done and said for a secret that is not good, whether there is such an account or not.
#[tokio::test]
async fn a_secret_that_is_not_good_tells_nobody_whether_there_is_such_an_account() {
    let (bench, email, device) = start("device_alike").await;
    let neighbour = bench.house("globex").await;
    let foreign = login(&bench, "203.0.113.8", &neighbour.email, PASSWORD).await.unwrap();
    let invented = DeviceSecret::presented("rhd_invented").unwrap();
    let statements = Statements::listen();
    let mut tries = Vec::new();
    for (email, shown) in [
        (email.as_str(), &invented),
        (email.as_str(), foreign.device.as_ref().unwrap()),
        ("nobod@acme.example", &invented),
        ("nobod@acme.example", foreign.device.as_ref().unwrap()),
        ("nobod@acme.example", &device),
    ] {
        tries.push(tried(&bench, &statements, email, shown).await);
    }
    assert!(tries.iter().all(|tried| *tried == tries[0]), "{tries:?}");
    // The control: a good one is something else, and that is seen.
    assert_ne!(tried(&bench, &statements, &email, &device).await, tries[0]);
}

#[tokio::test]
async fn devices_are_few_and_those_that_are_shown_stay_the_longest() {
    let (bench, email, device) = start("device_few").await;
    login_at(&bench, HOME, &email, PASSWORD, Some(&device)).await.unwrap();
    let mut last = None;
    for _ in 0..25 {
        last = login(&bench, HOME, &email, PASSWORD).await.unwrap().device;
    }
    assert_eq!(bench.count(DEVICES).await, 20);
    exhaust_all(&bench, HOME, &email).await;
    for known in [&device, last.as_ref().unwrap()] {
        login_at(&bench, HOME, &email, PASSWORD, Some(known)).await.unwrap();
    }
}

/// Each log-in at a device would write to its indexes.
#[tokio::test]
async fn when_a_device_was_used_is_noted_once_an_hour() {
    let (bench, email, device) = start("device_hour").await;
    let noted = "SELECT count(*) FROM auth.devices WHERE used_at > now() - interval '10 minutes'";
    for (minutes, count) in [(50, 0), (70, 1)] {
        bench
            .execute(&format!(
                "UPDATE auth.devices SET used_at = now() - interval '{minutes} minutes', wrong = 1, shown = false"
            ))
            .await;
        login_at(&bench, HOME, &email, PASSWORD, Some(&device)).await.unwrap();
        assert_eq!(bench.count(noted).await, count, "after {minutes} minutes");
        // Whether or not, it was shown and the slips are forgotten.
        let shown = "SELECT count(*) FROM auth.devices WHERE shown AND wrong = 0";
        assert_eq!(bench.count(shown).await, 1);
    }
}

#[tokio::test]
async fn a_device_is_forgotten_after_ninety_days_and_with_its_account() {
    let (bench, email, device) = start("device_old").await;
    let aged = |days: u32| format!("UPDATE auth.devices SET used_at = now() - interval '{days} days'");
    bench.execute(&aged(89)).await;
    crate::housekeeping::tidy(&bench.state).await.unwrap();
    exhaust_all(&bench, HOME, &email).await;
    login_at(&bench, HOME, &email, PASSWORD, Some(&device)).await.unwrap();
    bench.execute(&aged(91)).await;
    assert!(waits(&login_at(&bench, HOME, &email, PASSWORD, Some(&device)).await));
    assert_eq!(bench.count(DEVICES).await, 1);
    crate::housekeeping::tidy(&bench.state).await.unwrap();
    assert_eq!(bench.count(DEVICES).await, 0);
    bench.execute("DELETE FROM auth.attempts").await;
    login(&bench, HOME, &email, PASSWORD).await.unwrap();
    assert_eq!(bench.count(DEVICES).await, 1);
    bench
        .execute(
            "DELETE FROM auth.sessions; DELETE FROM auth.memberships; DELETE FROM auth.invitations;
             DELETE FROM auth.identities",
        )
        .await;
    assert_eq!(bench.count(DEVICES).await, 0);
}

#[tokio::test]
async fn a_new_password_leaves_the_device_known_and_forgets_the_guesses_of_where_it_was_reset() {
    let (bench, email, device) = start("device_reset").await;
    exhaust(&bench, HOME, &email).await;
    reset(&bench, HOME, &email).await;
    // Whoever shares the network has guessed, and is forgotten there.
    login(&bench, HOME, &email, RESET).await.unwrap();
    exhaust_all(&bench, HOME, &email).await;
    login_at(&bench, HOME, &email, RESET, Some(&device)).await.unwrap();
    let old = login_at(&bench, HOME, &email, PASSWORD, Some(&device)).await;
    assert!(matches!(old.map(drop), Err(Error::LoginFailed)), "it opens nothing");
}
