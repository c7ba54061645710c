//! T16: guesses are bounded, and bound nobody but who makes them.

mod crowd;
mod devices;
mod guesses;
mod invented;
mod memory;
mod sessions;

use std::time::Duration;

use futures_util::future::join_all;
use rowhouse_context::{Ctx, Principal};
use rowhouse_status::{Failure, Reason};
use rowhouse_types::SessionId;

use crate::account::Reset;
use crate::account::actions::confirmed;
use crate::account::password;
use crate::account_mail::{self, Kind};
use crate::attempt::device::DeviceSecret;
use crate::attempt::{ORGANISATION, Subject, give_back, network};
use crate::error::Error;
use crate::identity::{NewPassword, OfferedPassword};
use crate::link::Token;
use crate::session::{self, Pair};
use crate::tests::bench::{Bench, PASSWORD, anonymous, ctx, service_ctx, within};

const WRONG: &str = "wrong horse battery";
const RESET: &str = "battery horse correct";

/// A call from a network address.
fn from(address: &str) -> Ctx {
    ctx(Principal::Anonymous, None).with_origin(None, Some(address.to_owned()))
}

async fn login(bench: &Bench, address: &str, email: &str, password: &str) -> Result<Pair, Error> {
    login_at(bench, address, email, password, None).await
}

/// A log-in that shows the secret of a device.
async fn login_at(
    bench: &Bench,
    address: &str,
    email: &str,
    password: &str,
    device: Option<&DeviceSecret>,
) -> Result<Pair, Error> {
    let attempt = session::Attempt {
        email: email.parse().unwrap(),
        password: OfferedPassword::parse(password).unwrap(),
        tenant: None,
        second_factor: None,
        device: device.cloned(),
    };
    session::actions::login(&from(address), &bench.state, &attempt).await
}

/// Takes `seconds` off everybody's wait and lets so many leak away.
async fn pass(bench: &Bench, seconds: u32) {
    let by = format!("interval '{seconds} seconds'");
    bench
        .execute(&format!(
            "UPDATE auth.attempts SET at = at - {by}, blocked_until = blocked_until - {by}"
        ))
        .await;
}

#[tokio::test]
async fn of_many_guesses_at_once_few_are_looked_at_whether_there_is_such_an_account_or_not() {
    let bench = Bench::start("attempt_many").await;
    let house = bench.house("acme").await;
    for email in [house.email.as_str(), "nobody@acme.example"] {
        let before = bench.state.hasher.runs();
        let guesses = (0..40).map(|_| login(&bench, "192.0.2.1", email, WRONG));
        let answers: Vec<_> = join_all(guesses)
            .await
            .into_iter()
            .map(|answer| answer.map(drop).unwrap_err())
            .collect();
        let looked_at = answers
            .iter()
            .filter(|error| matches!(error, Error::LoginFailed))
            .count();
        // Five are free; the sixth is looked at too, and from then on everybody waits.
        assert_eq!(looked_at, 6, "{email}");
        assert_eq!(bench.state.hasher.runs() - before, 6, "what is refused is not hashed");
        let refused = answers
            .into_iter()
            .find(|error| !matches!(error, Error::LoginFailed))
            .unwrap();
        assert_eq!(Failure::from(refused).reason(), Reason::TooManyAttempts);
    }
    // Somebody else's guesses do not concern the owner, who is elsewhere.
    assert!(login(&bench, "192.0.2.2", &house.email, PASSWORD).await.is_ok());
}

/// The first wait is a second: on a slow machine it might be over before the last of many comes. From now on none is.
async fn wait_for_long(bench: &Bench) {
    bench
        .execute(
            "CREATE FUNCTION auth.wait_for_long() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW.blocked_until > NEW.at + interval '0.5 seconds' THEN
                     NEW.blocked_until := NEW.at + interval '1 hour';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER wait_for_long BEFORE UPDATE ON auth.attempts FOR EACH ROW EXECUTE FUNCTION auth.wait_for_long()",
        )
        .await;
}

#[tokio::test]
async fn nor_are_many_looked_at_from_where_the_owner_is_known() {
    let bench = Bench::start("attempt_many_known").await;
    let house = bench.house("acme").await;
    let guess = async |password: &str| login(&bench, "192.0.2.1", &house.email, password).await.map(drop);
    guess(PASSWORD).await.unwrap();
    bench.execute("DELETE FROM auth.attempts").await;
    wait_for_long(&bench).await;
    let hashes = bench.state.hasher.runs();
    let at_once = join_all((0..20).map(|_| guess(WRONG))).await;
    let looked_at = at_once
        .iter()
        .filter(|answer| matches!(answer, Err(Error::LoginFailed)))
        .count();
    assert_eq!((looked_at, bench.state.hasher.runs() - hashes), (6, 6), "{at_once:?}");
    // Nothing else is counted there: neither the address, nor the account, nor the organisation.
    assert_eq!(bench.count("SELECT count(*) FROM auth.attempts").await, 1);
    let waits = guess(PASSWORD).await;
    assert!(matches!(waits, Err(Error::TooManyAttempts { .. })), "{waits:?}");
}

#[tokio::test]
async fn the_wait_doubles_and_what_is_long_ago_is_forgotten() {
    let bench = Bench::start("attempt_waits").await;
    let house = bench.house("acme").await;
    let mut waits = Vec::new();
    for _ in 0..12 {
        let answer = login(&bench, "192.0.2.1", &house.email, WRONG)
            .await
            .map(drop)
            .unwrap_err();
        assert!(matches!(answer, Error::LoginFailed), "{answer:?}");
        let wait = bench
            .count("SELECT round(max(extract(epoch FROM blocked_until - at)))::bigint FROM auth.attempts")
            .await;
        waits.push(wait);
        // Its time is over; nothing has leaked.
        bench.execute("UPDATE auth.attempts SET blocked_until = at").await;
    }
    assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64]);
    pass(&bench, 60 * 60 * 24).await;
    for _ in 0..6 {
        let answer = login(&bench, "192.0.2.1", &house.email, WRONG).await.map(drop);
        assert!(matches!(answer, Err(Error::LoginFailed)), "{answer:?}");
    }
}

#[tokio::test]
async fn the_right_password_clears_the_slips_before_it() {
    let bench = Bench::start("attempt_right").await;
    let house = bench.house("acme").await;
    for _ in 0..4 {
        for _ in 0..5 {
            assert!(login(&bench, "192.0.2.1", &house.email, WRONG).await.is_err());
        }
        assert!(login(&bench, "192.0.2.1", &house.email, PASSWORD).await.is_ok());
    }
    // The five before the address was known are held against it, and none since.
    let level = "SELECT round(max(level))::bigint FROM auth.attempts";
    assert_eq!(bench.count(level).await, 5);
}

#[tokio::test]
async fn who_was_not_heard_has_not_guessed() {
    let bench = Bench::start("attempt_unheard").await;
    let house = bench.house("acme").await;
    for _ in 0..20 {
        // Its time is over before the hashing is its turn.
        let call = within(Principal::Anonymous, None, Duration::ZERO).with_origin(None, Some("192.0.2.1".to_owned()));
        let attempt = session::Attempt {
            email: house.email.parse().unwrap(),
            password: OfferedPassword::parse(PASSWORD).unwrap(),
            tenant: None,
            second_factor: None,
            device: None,
        };
        let answer = session::actions::login(&call, &bench.state, &attempt).await.map(drop);
        assert!(matches!(answer, Err(Error::DeadlineExceeded)), "{answer:?}");
    }
    assert_eq!(
        bench.count("SELECT round(max(level))::bigint FROM auth.attempts").await,
        0
    );
    assert!(login(&bench, "192.0.2.1", &house.email, PASSWORD).await.is_ok());
}

#[tokio::test]
async fn who_was_not_heard_lifts_nobody_elses_wait() {
    let bench = Bench::start("attempt_waits_stay").await;
    let house = bench.house("acme").await;
    let email = house.email.parse().unwrap();
    let guess = async || {
        let mut conn = bench.state.connection().await.unwrap();
        let begun = super::begin(&from("192.0.2.1"), &mut conn, &email, None).await;
        begun.map(|(attempted, _)| attempted)
    };
    let mut begun = Vec::new();
    for _ in 0..6 {
        begun.push(guess().await.unwrap());
    }
    // The sixth makes the next one wait; its time is not over.
    bench
        .execute("UPDATE auth.attempts SET blocked_until = now() + interval '1 hour' WHERE level > 5")
        .await;
    for unheard in &begun[..5] {
        give_back(&mut bench.state.connection().await.unwrap(), unheard)
            .await
            .unwrap();
        let waits = guess().await;
        assert!(matches!(waits, Err(Error::TooManyAttempts { .. })), "{waits:?}");
    }
    // The control: the sixth takes its own wait back.
    give_back(&mut bench.state.connection().await.unwrap(), &begun[5])
        .await
        .unwrap();
    guess().await.unwrap();
}

#[tokio::test]
async fn one_password_on_many_accounts_is_bounded_by_the_address() {
    let bench = Bench::start("attempt_spray").await;
    let mut looked_at = 0;
    for n in 0..110 {
        let answer = login(&bench, "192.0.2.1", &format!("n{n}@acme.example"), WRONG)
            .await
            .map(drop);
        match answer {
            Err(Error::LoginFailed) => looked_at += 1,
            Err(Error::TooManyAttempts { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    // One or two leak away while the hundred are hashed.
    assert!((101..=105).contains(&looked_at), "{looked_at}");
    let elsewhere = login(&bench, "192.0.2.2", "n0@acme.example", WRONG).await.map(drop);
    assert!(matches!(elsewhere, Err(Error::LoginFailed)), "{elsewhere:?}");
}

#[tokio::test]
async fn guesses_from_many_addresses_are_bounded_and_the_owner_gets_in() {
    let bench = Bench::start("attempt_botnet").await;
    let house = bench.house("acme").await;
    login(&bench, "198.51.100.7", &house.email, PASSWORD).await.unwrap();
    let mut looked_at = 0;
    for n in 0..60 {
        match login(&bench, &format!("192.0.2.{n}"), &house.email, WRONG)
            .await
            .map(drop)
        {
            Err(Error::LoginFailed) => looked_at += 1,
            Err(Error::TooManyAttempts { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!((51..=53).contains(&looked_at), "{looked_at}");
    // From where the owner has been lately.
    assert!(login(&bench, "198.51.100.7", &house.email, PASSWORD).await.is_ok());
    // From elsewhere the owner waits like everybody, or has the password replaced by mail.
    let elsewhere = login(&bench, "203.0.113.9", &house.email, PASSWORD).await.map(drop);
    assert!(matches!(elsewhere, Err(Error::TooManyAttempts { .. })), "{elsewhere:?}");
    reset(&bench, "203.0.113.9", &house.email).await;
    assert!(login(&bench, "203.0.113.9", &house.email, RESET).await.is_ok());
}

/// Asks for the link that replaces a forgotten password, and reads the mail.
async fn link(bench: &Bench, address: &str, email: &str) -> Token {
    password::request_reset(&from(address), &bench.state, &email.parse().unwrap())
        .await
        .unwrap();
    let id: uuid::Uuid = sqlx::query_scalar("SELECT id FROM auth.account_mails ORDER BY id DESC LIMIT 1")
        .fetch_one(&bench.superuser)
        .await
        .unwrap();
    let id = rowhouse_types::AccountMailId::from_uuid(id);
    let mail = account_mail::for_mail(&service_ctx(), &bench.state, id).await.unwrap();
    assert_eq!(mail.kind, Kind::PasswordReset);
    mail.token.unwrap()
}

/// Replaces a forgotten password by the link of a mail.
async fn reset(bench: &Bench, address: &str, email: &str) {
    let reset = Reset {
        token: link(bench, address, email).await,
        new: NewPassword::parse(RESET).unwrap(),
    };
    password::reset(&from(address), &bench.state, &reset).await.unwrap();
}

/// As after a thousand guesses at the accounts of a domain.
async fn attack(bench: &Bench, domain: &str) {
    let digest = Subject::new("organisation", domain, ORGANISATION).digest;
    let attacked = "INSERT INTO auth.attempts (subject, level, at, blocked_until) \
        VALUES ($1, 1010, now(), now() + interval '30 seconds') \
        ON CONFLICT (subject) DO UPDATE SET level = 1010, at = now(), blocked_until = excluded.blocked_until";
    sqlx::query(attacked)
        .bind(digest)
        .execute(&bench.superuser)
        .await
        .unwrap();
}

#[tokio::test]
async fn one_password_on_all_accounts_of_an_organisation_is_bounded_from_everywhere() {
    let bench = Bench::start("attempt_organisation").await;
    let house = bench.house("acme").await;
    login(&bench, "198.51.100.7", &house.email, PASSWORD).await.unwrap();
    let waits = |answer: Result<Pair, Error>| matches!(answer, Err(Error::TooManyAttempts { .. }));
    for n in 0..20 {
        let guessed = login(&bench, &format!("192.0.2.{n}"), &format!("n{n}@ACME.example"), WRONG).await;
        assert!(matches!(guessed, Err(Error::LoginFailed)));
    }
    // A few leak away while the twenty are hashed; any other count has one.
    let counted = bench.count("SELECT round(max(level))::bigint FROM auth.attempts").await;
    assert!(
        (10..=20).contains(&counted),
        "all of them are counted together: {counted}"
    );
    attack(&bench, "acme.example").await;
    // Who comes from elsewhere has three attempts all the same.
    for _ in 0..3 {
        let guessed = login(&bench, "203.0.113.9", "n77@acme.example", WRONG).await;
        assert!(matches!(guessed, Err(Error::LoginFailed)));
    }
    let hashes = bench.state.hasher.runs();
    // Whether there is such an account or not, and with the right password too.
    for (email, password) in [
        ("n77@acme.example", WRONG),
        (&house.email, WRONG),
        (&house.email, PASSWORD),
    ] {
        assert!(waits(login(&bench, "203.0.113.9", email, password).await), "{email}");
    }
    assert_eq!(bench.state.hasher.runs(), hashes, "what is refused is not hashed");
    // The neighbour is another organisation.
    let neighbour = login(&bench, "203.0.113.9", "n1@globex.example", WRONG).await;
    assert!(matches!(neighbour, Err(Error::LoginFailed)));
    // The owner gets in from where they have been, and from elsewhere by mail, although the attack goes on.
    assert!(login(&bench, "198.51.100.7", &house.email, PASSWORD).await.is_ok());
    reset(&bench, "203.0.113.9", &house.email).await;
    attack(&bench, "acme.example").await;
    assert!(login(&bench, "203.0.113.9", &house.email, RESET).await.is_ok());
    // The mark of the reset is for an hour; by then the log-in has made the address known.
    bench.execute("DELETE FROM auth.sessions").await;
    assert!(login(&bench, "203.0.113.9", &house.email, RESET).await.is_ok());
    bench.execute("DELETE FROM auth.sessions").await;
    pass(&bench, 3_700).await;
    attack(&bench, "acme.example").await;
    for _ in 0..4 {
        drop(login(&bench, "203.0.113.9", "n77@acme.example", WRONG).await);
    }
    assert!(waits(login(&bench, "203.0.113.9", &house.email, RESET).await));
}

#[test]
fn addresses_count_by_whom_they_belong_to() {
    assert_eq!(network("192.0.2.1"), "192.0.2.1");
    assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:0db8:1:2::9"));
    assert_ne!(network("2001:db8:1:2::9"), network("2001:db8:1:3::9"));
    assert_eq!(network("no address"), "no address");
}

#[tokio::test]
async fn who_is_logged_in_does_not_guess_the_password_either() {
    let bench = Bench::start("attempt_own").await;
    let house = bench.house("acme").await;
    let wrong = OfferedPassword::parse(WRONG).unwrap();
    let caller = (house.admin, SessionId::generate());
    let mut looked_at = 0;
    for _ in 0..10 {
        match confirmed(&anonymous(), &bench.state, caller, &wrong).await.map(drop) {
            Err(Error::Field { .. }) => looked_at += 1,
            Err(Error::TooManyAttempts { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(looked_at, 6);
    pass(&bench, 60 * 60).await;
    let right = OfferedPassword::parse(PASSWORD).unwrap();
    assert!(confirmed(&anonymous(), &bench.state, caller, &right).await.is_ok());
    // Of the log-in nothing is kept, and of the account that there is nothing to hold against it.
    assert_eq!(bench.count("SELECT count(*) FROM auth.attempts").await, 1);
    let held = "SELECT count(*) FROM auth.attempts WHERE level > 0";
    assert_eq!(bench.count(held).await, 0);
}

#[tokio::test]
async fn counts_name_nobody_and_are_forgotten() {
    let bench = Bench::start("attempt_rows").await;
    let house = bench.house("acme").await;
    assert!(login(&bench, "192.0.2.1", &house.email, WRONG).await.is_err());
    let rows: String = sqlx::query_scalar("SELECT string_agg(a::text, ' ') FROM auth.attempts AS a")
        .fetch_one(&bench.superuser)
        .await
        .unwrap();
    assert!(!rows.contains("acme") && !rows.contains("192.0.2.1"), "{rows}");
    assert_eq!(bench.count("SELECT count(*) FROM auth.attempts").await, 4);
    pass(&bench, 2 * 60 * 60 * 24).await;
    crate::housekeeping::tidy(&bench.state).await.unwrap();
    assert_eq!(bench.count("SELECT count(*) FROM auth.attempts").await, 0);
}
