//! The second factor on a real database: when it is asked for, and what shows it.

use data_encoding::BASE32_NOPAD;
use rowhouse_auth_kit::Role;
use rowhouse_context::Ctx;
use rowhouse_types::{TenantId, UserId};
use uuid::Uuid;

use super::actions::{confirm, get, remove, renew_codes, set_up};
use super::{Code, SECRET_BYTES, code_at, now_s, store};
use crate::error::Error;
use crate::identity::OfferedPassword;
use crate::master::{self, master_keys};
use crate::session::{Attempt, Pair, actions, manage};
use crate::tenant::{self, Access};
use crate::tests::app::{App, wrong};
use crate::tests::bench::{Bench, House, PASSWORD, anonymous, founding, service_ctx};
use crate::tests::logs::{ADDRESS, from_there};

const EMAIL: &str = "ada@acme.example";

fn password() -> OfferedPassword {
    OfferedPassword::parse(PASSWORD).unwrap()
}

/// Guesses at what is being set up are counted too.
#[tokio::test]
async fn a_secret_that_is_being_set_up_is_not_guessed_at_for_long() {
    let bench = Bench::start("factor_confirm").await;
    let house = bench.house("acme").await;
    bench.member(&house, EMAIL, Role::User).await;
    let ctx = Bench::ctx_in(&bench.login(EMAIL, PASSWORD, None).await.unwrap());
    set_up(&ctx, &bench.state, &password()).await.unwrap();
    let mut guesses = 0;
    while !matches!(
        confirm(&ctx, &bench.state, &wrong()).await,
        Err(Error::TooManyAttempts { .. })
    ) {
        guesses += 1;
        assert!(guesses < 10, "guesses are bounded");
    }
}

#[tokio::test]
async fn a_secret_is_sealed_by_the_present_master_key_and_stays_what_it_is() {
    let bench = with_second_factor("factor_reseal").await.bench;
    let done = master::reseal(&bench.state.db, &master_keys("BA")).await.unwrap();
    // The key that has signed her tokens is the other one.
    assert_eq!((done.secrets, done.resealed, done.unopened), (2, 2, 0));
    let mut connection = bench.state.connection().await.unwrap();
    let kept = store::sealed(&mut connection, Uuid::nil(), 10).await.unwrap();
    let [(user, sealed)] = kept.as_slice() else {
        panic!("{} second factors", kept.len());
    };
    let owner = UserId::from_uuid(*user).to_string();
    let opened = bench
        .with_master_keys("B")
        .await
        .second_factors
        .open(&owner, sealed)
        .unwrap();
    assert_eq!(opened.len(), SECRET_BYTES);
    assert!(
        bench.state.second_factors.open(&owner, sealed).is_err(),
        "the old key opens it no more"
    );
}

/// Ada, logged in, with a second factor that she has just confirmed by this step's code.
struct Person {
    bench: Bench,
    house: House,
    ctx: Ctx,
    app: App,
}

async fn with_second_factor(name: &str) -> Person {
    let bench = Bench::start(name).await;
    let house = bench.house("acme").await;
    bench.member(&house, EMAIL, Role::User).await;
    let ctx = Bench::ctx_in(&bench.login(EMAIL, PASSWORD, None).await.unwrap());
    let app = App::set_up(&bench, &ctx, PASSWORD).await;
    Person { bench, house, ctx, app }
}

impl Person {
    async fn login(&self, code: Option<Code>) -> Result<Pair, Error> {
        let attempt = Attempt {
            email: EMAIL.parse().unwrap(),
            password: password(),
            tenant: None,
            second_factor: code,
            device: None,
        };
        actions::login(&anonymous(), &self.bench.state, &attempt).await
    }
}

#[tokio::test]
async fn a_log_in_asks_for_a_second_factor_that_was_confirmed_and_takes_each_code_once() {
    let ada = with_second_factor("factor_login").await;
    for missing in [ada.login(None).await, ada.login(Some(wrong())).await] {
        assert!(matches!(missing, Err(Error::SecondFactorRequired)));
    }
    let used = ada.login(Some(ada.app.code(0))).await;
    assert!(
        matches!(used, Err(Error::SecondFactorRequired)),
        "the confirmation has used it up"
    );
    let pair = ada.login(Some(ada.app.code(1))).await.unwrap();
    let known = get(&Bench::ctx_in(&pair), &ada.bench.state).await.unwrap();
    assert!(known.enabled.is_some() && known.shown);
    let again = ada.login(Some(ada.app.code(1))).await;
    assert!(
        matches!(again, Err(Error::SecondFactorRequired)),
        "a code that was seen is worth nothing"
    );

    ada.login(Some(ada.app.recovery(3))).await.unwrap();
    assert!(ada.login(Some(ada.app.recovery(3))).await.is_err());
    let left = get(&ada.ctx, &ada.bench.state).await.unwrap().recovery_codes_left;
    assert_eq!(left, 9);
    // Another session of hers has shown nothing by that.
    let other = ada
        .bench
        .ctx_of(ada.ctx.principal().user().unwrap(), ada.house.tenant)
        .await;
    assert!(!get(&other, &ada.bench.state).await.unwrap().shown);
    let dump = ada.bench.dump().await;
    for code in &ada.app.recovery_codes {
        assert!(!dump.contains(code.as_str()) && !dump.contains(&code.replace('-', "").to_uppercase()));
    }
    assert!(!dump.contains(&BASE32_NOPAD.encode(&ada.app.secret)));
}

#[tokio::test]
async fn of_two_log_ins_with_one_code_at_once_one_succeeds() {
    let ada = with_second_factor("factor_race").await;
    for code in [ada.app.code(1), ada.app.recovery(0)] {
        let (one, other) = tokio::join!(ada.login(Some(code.clone())), ada.login(Some(code)));
        assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1);
    }
}

#[tokio::test]
async fn who_guesses_codes_waits_and_who_forgets_the_code_does_not() {
    let ada = with_second_factor("factor_guess").await;
    for _ in 0..20 {
        assert!(matches!(ada.login(None).await, Err(Error::SecondFactorRequired)));
    }
    let mut guesses = 0;
    let refused = loop {
        match ada.login(Some(wrong())).await {
            Err(Error::SecondFactorRequired) => guesses += 1,
            other => break other,
        }
        assert!(guesses < 10, "guesses are bounded");
    };
    assert!(matches!(refused, Err(Error::TooManyAttempts { .. })));
    let renewed = renew_codes(&ada.ctx, &ada.bench.state, &password(), &wrong()).await;
    assert!(
        matches!(renewed, Err(Error::Field { field: "code", .. })),
        "who is logged in is counted apart"
    );
    let mut guesses = 1;
    while !matches!(
        remove(&ada.ctx, &ada.bench.state, &password(), &wrong()).await,
        Err(Error::TooManyAttempts { .. })
    ) {
        guesses += 1;
        assert!(guesses < 10, "guesses are bounded");
        // A right password elsewhere forgets no wrong code.
        let exists = set_up(&ada.ctx, &ada.bench.state, &password()).await;
        assert!(matches!(exists, Err(Error::SecondFactorExists)));
    }
}

/// Who has the password and a link, but not the device: an invitation that cannot be accepted yet stays open, so the password can
/// be shown there between any two codes.
#[tokio::test]
async fn a_right_password_at_an_invitation_forgets_no_wrong_code() {
    let ada = with_second_factor("factor_invited").await;
    let state = &ada.bench.state;
    let founding = founding(TenantId::generate(), EMAIL);
    let sent = tenant::actions::create_first_administrator(&service_ctx(), state, &founding).await;
    let invitation = sent.unwrap();
    ada.bench.set_access(founding.tenant, Access::Suspended).await;
    let (mut guesses, mut shown) = (0, 0);
    loop {
        match ada.login(Some(wrong())).await.map(drop) {
            Err(Error::SecondFactorRequired) => guesses += 1,
            Err(Error::TooManyAttempts { .. }) => break,
            other => panic!("{other:?}"),
        }
        assert!(guesses < 10, "guesses are bounded");
        match ada.bench.accept(invitation, PASSWORD).await {
            Err(Error::TenantSuspended) => shown += 1,
            // After the last of the codes that are looked at.
            Err(Error::TooManyAttempts { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(
        guesses >= 6 && shown >= 5,
        "a right password takes nobody's place: {guesses} codes, {shown} passwords"
    );
}

#[tokio::test]
async fn a_secret_is_asked_for_only_after_a_code_was_made_of_it() {
    let bench = Bench::start("factor_begin").await;
    let house = bench.house("acme").await;
    bench.member(&house, EMAIL, Role::User).await;
    let ctx = Bench::ctx_in(&bench.login(EMAIL, PASSWORD, None).await.unwrap());
    let state = &bench.state;
    let nothing = confirm(&ctx, state, &wrong()).await;
    assert!(matches!(nothing, Err(Error::NoSecondFactor)));
    let other = OfferedPassword::parse("another password").unwrap();
    let refused = set_up(&ctx, state, &other).await;
    assert!(matches!(
        refused,
        Err(Error::Field {
            field: "current_password",
            ..
        })
    ));
    let first = set_up(&ctx, state, &password()).await.unwrap();
    let second = set_up(&ctx, state, &password()).await.unwrap();
    assert_ne!(first.secret.expose(), second.secret.expose());
    let uri = second.uri.expose();
    assert!(
        uri.starts_with("otpauth://totp/Rowhouse:ada@acme.example?secret="),
        "{uri}"
    );
    bench.login(EMAIL, PASSWORD, None).await.unwrap();
    let code = |secret: &str| -> Code {
        let secret = BASE32_NOPAD.decode(secret.as_bytes()).unwrap();
        code_at(&secret, now_s().unwrap()).parse().unwrap()
    };
    let replaced = confirm(&ctx, state, &code(first.secret.expose())).await;
    assert!(matches!(replaced, Err(Error::Field { field: "code", .. })));
    let made = "UPDATE auth.second_factors SET created_at = created_at";
    bench.execute(&format!("{made} - interval '16 minutes'")).await;
    let late = confirm(&ctx, state, &code(second.secret.expose())).await;
    assert!(
        matches!(late, Err(Error::NoSecondFactor)),
        "nobody guesses at what was left lying"
    );
    bench.execute(&format!("{made} + interval '16 minutes'")).await;
    confirm(&ctx, state, &code(second.secret.expose())).await.unwrap();
    for refused in [
        set_up(&ctx, state, &password()).await.map(drop),
        confirm(&ctx, state, &wrong()).await.map(drop),
    ] {
        assert!(matches!(refused, Err(Error::SecondFactorExists)));
    }
}

#[tokio::test]
async fn new_recovery_codes_replace_the_old_ones_and_removal_ends_everything() {
    let ada = with_second_factor("factor_remove").await;
    let state = &ada.bench.state;
    let renewed = renew_codes(&ada.ctx, state, &password(), &ada.app.recovery(0))
        .await
        .unwrap()
        .expose();
    assert!(ada.login(Some(ada.app.recovery(1))).await.is_err());
    ada.login(Some(renewed[1].parse().unwrap())).await.unwrap();
    // A session in another tenant of hers has shown what the one it was opened from has.
    let neighbour = ada.bench.house("globex").await;
    ada.bench.join(&neighbour, EMAIL, Role::User).await;
    let beside = manage::switch(&ada.ctx, state, neighbour.tenant).await.unwrap();
    let beside = Bench::ctx_in(&beside);
    assert!(get(&beside, state).await.unwrap().shown);

    let call = from_there(ada.ctx.clone());
    remove(&call, state, &password(), &renewed[2].parse().unwrap())
        .await
        .unwrap();
    ada.bench.login(EMAIL, PASSWORD, Some(ada.house.tenant)).await.unwrap();
    for ctx in [&ada.ctx, &beside] {
        let known = get(ctx, state).await.unwrap();
        assert_eq!(
            (known.enabled, known.recovery_codes_left, known.shown),
            (None, 0, false)
        );
    }
    let gone = remove(&ada.ctx, state, &password(), &renewed[3].parse().unwrap()).await;
    assert!(matches!(gone, Err(Error::NoSecondFactor)));
    let told = "SELECT count(*) FROM auth.account_mails WHERE kind LIKE 'second_factor_%'";
    assert_eq!(ada.bench.count(told).await, 2);
    // Each of her tenants may ask for it. From where she has done it in the one, the other is not told.
    let audited = async |tenant: TenantId, of: &str| {
        let tenant = tenant.uuid();
        let entries = format!("SELECT count(*) FROM auth.audit WHERE tenant_id = '{tenant}' AND {of}");
        ada.bench.count(&entries).await
    };
    let (all, removed) = ("action LIKE 'second_factor.%'", "action = 'second_factor.remove'");
    assert_eq!(audited(ada.house.tenant, all).await, 4);
    let told = format!("{removed} AND address = '{ADDRESS}'");
    assert_eq!(audited(ada.house.tenant, &told).await, 1);
    assert_eq!(audited(neighbour.tenant, all).await, 1);
    let told = format!("{removed} AND address IS NULL");
    assert_eq!(audited(neighbour.tenant, &told).await, 1);
}
