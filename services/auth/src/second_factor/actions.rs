//! What a person may do with their own second factor, and the look at it in a log-in.

use data_encoding::BASE32_NOPAD;
use rowhouse_config::Secret;
use rowhouse_context::Ctx;
use rowhouse_seal::Sealers;
use rowhouse_types::{SessionId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{CODE, Code, RecoveryCodes, SECRET_BYTES, SecondFactor, Setup, store, totp};
use crate::account::actions::{confirmed, wrong_password};
use crate::account::logs::{self, Change};
use crate::account_mail::{self, Kind};
use crate::attempt;
use crate::error::Error;
use crate::identity::{self, Account, OfferedPassword};
use crate::master::Resealed;
use crate::random;
use crate::rights::{self, Subject};
use crate::session::manage::caller;
use crate::state::State;

/// The name under which apps list the account.
const ISSUER: &str = "Rowhouse";

/// Secrets that are read, to be sealed by another key, at once.
const RESEALED_AT_ONCE: i64 = 500;

/// What there is of the caller's second factor.
pub(crate) async fn get(ctx: &Ctx, state: &State) -> Result<SecondFactor, Error> {
    let (user, session) = caller(ctx)?;
    let mut conn = state.connection().await?;
    let kept = store::find(&mut conn, user)
        .await?
        .filter(|kept| kept.confirmed.is_some());
    Ok(SecondFactor {
        enabled: kept.as_ref().and_then(|kept| kept.confirmed),
        recovery_codes_left: kept.map_or(0, |kept| kept.recovery_codes_left),
        shown: store::shown(&mut conn, session).await?,
    })
}

/// Makes a secret that is to be confirmed.
pub(crate) async fn set_up(ctx: &Ctx, state: &State, password: &OfferedPassword) -> Result<Setup, Error> {
    let caller @ (user, _) = caller(ctx)?;
    let account = confirmed(ctx, state, caller, password).await?;
    let bytes = random::bytes().map_err(Error::fault)?;
    let secret = bytes
        .get(..SECRET_BYTES)
        .ok_or_else(|| Error::fault("too few random bytes"))?;
    let sealed = state.second_factors.seal(&user.to_string(), secret)?;
    let mut tx = state.begin().await?;
    if !identity::hold(&mut tx, user, Some(&account.password_hash)).await? {
        return Err(wrong_password());
    }
    if !store::begin(&mut tx, user, &sealed).await? {
        return Err(Error::SecondFactorExists);
    }
    logs::tell(&mut tx, ctx, &Change::new("second_factor.set_up", user)).await?;
    tx.commit().await?;
    let text = BASE32_NOPAD.encode(secret);
    let label = percent_encoded(&account.email);
    let uri = format!("otpauth://totp/{ISSUER}:{label}?secret={text}&issuer={ISSUER}");
    Ok(Setup {
        secret: Secret::new(text),
        uri: Secret::new(uri),
    })
}

/// Lets log-ins ask for the secret that was set up, and gives the recovery codes.
pub(crate) async fn confirm(ctx: &Ctx, state: &State, code: &Code) -> Result<RecoveryCodes, Error> {
    let (user, session) = caller(ctx)?;
    let codes = RecoveryCodes::generate()?;
    let guess = attempt::begin_own_code(state, (user, session)).await?;
    let mut tx = state.begin().await?;
    identity::lock(&mut tx, user).await?.ok_or(Error::Revoked)?;
    let kept = store::find(&mut tx, user).await?.ok_or(Error::NoSecondFactor)?;
    if kept.confirmed.is_some() {
        return Err(Error::SecondFactorExists);
    }
    // Whoever asked for it under the password has it in front of them; later it would be somebody else's to guess.
    if kept.is_stale {
        return Err(Error::NoSecondFactor);
    }
    let step = step(state, user, &kept.sealed, code)?.ok_or_else(wrong_code)?;
    if !store::confirm(&mut tx, user, step).await? {
        return Err(Error::SecondFactorExists);
    }
    store::replace_recovery(&mut tx, user, &codes.hashes()).await?;
    store::show(&mut tx, session).await?;
    logs::tell(&mut tx, ctx, &Change::new("second_factor.confirm", user)).await?;
    tell(&mut tx, ctx, user, Kind::SecondFactorOn).await?;
    attempt::succeeded(&mut tx, &guess).await?;
    let version = rights::bump(&mut tx, &[Subject::Session(session)]).await?;
    tx.commit().await?;
    state.wake.notify();
    // The session's rights only grew, but who goes on at once must not meet a refusal that somebody has cached.
    state.clock.acknowledge(ctx, version).await?;
    Ok(codes)
}

/// Gives new recovery codes in place of the old ones.
pub(crate) async fn renew_codes(
    ctx: &Ctx,
    state: &State,
    password: &OfferedPassword,
    code: &Code,
) -> Result<RecoveryCodes, Error> {
    let caller @ (user, _) = caller(ctx)?;
    let codes = RecoveryCodes::generate()?;
    let account = confirmed(ctx, state, caller, password).await?;
    let guess = attempt::begin_own_code(state, caller).await?;
    let mut tx = state.begin().await?;
    shown_now(&mut tx, state, user, &account.password_hash, code).await?;
    store::replace_recovery(&mut tx, user, &codes.hashes()).await?;
    logs::tell(&mut tx, ctx, &Change::new("second_factor.renew_codes", user)).await?;
    attempt::succeeded(&mut tx, &guess).await?;
    tx.commit().await?;
    Ok(codes)
}

/// Ends the second factor, and answers when no session is honoured any more as one in which it was shown.
pub(crate) async fn remove(ctx: &Ctx, state: &State, password: &OfferedPassword, code: &Code) -> Result<(), Error> {
    let caller @ (user, _) = caller(ctx)?;
    let account = confirmed(ctx, state, caller, password).await?;
    let guess = attempt::begin_own_code(state, caller).await?;
    let mut tx = state.begin().await?;
    shown_now(&mut tx, state, user, &account.password_hash, code).await?;
    store::remove(&mut tx, user).await?;
    logs::tell(&mut tx, ctx, &Change::new("second_factor.remove", user)).await?;
    tell(&mut tx, ctx, user, Kind::SecondFactorOff).await?;
    attempt::succeeded(&mut tx, &guess).await?;
    let version = rights::bump(&mut tx, &[Subject::User(user)]).await?;
    tx.commit().await?;
    state.wake.notify();
    state.clock.acknowledge(ctx, version).await
}

/// The caller's account, where the password is right, and where the account has a second factor the code too: for what outlives
/// the token that it is asked with. The code is used up, whatever becomes of the call. The account may be another when the next
/// transaction begins.
///
/// `code`: `None` where the caller has sent none.
///
/// # Errors
/// [`Error::Field`] where the password is wrong, or the code is wrong or was used before: what stays counted as a guess.
/// [`Error::CodeMissing`] where none was sent.
pub(crate) async fn confirmed_anew(
    ctx: &Ctx,
    state: &State,
    caller @ (user, _): (UserId, SessionId),
    password: &OfferedPassword,
    code: Option<&Code>,
) -> Result<Account, Error> {
    let account = confirmed(ctx, state, caller, password).await?;
    // Who sends none guesses nothing: people do not know that more is asked until they are told.
    let guess = match code {
        Some(_) => Some(attempt::begin_own_code(state, caller).await?),
        None => None,
    };
    let mut tx = state.begin().await?;
    let asked = proven(&mut tx, state, user, &account.password_hash, code).await?;
    if asked && let Some(guess) = &guess {
        attempt::succeeded(&mut tx, guess).await?;
    }
    tx.commit().await?;
    // Nobody has looked at the code. It must not forget the wrong ones that were sent for a secret that is being set up.
    if !asked && let Some(guess) = &guess {
        attempt::give_back(&mut *state.connection().await?, guess).await?;
    }
    Ok(account)
}

/// Locks an account that still has its password, and uses up a code of its second factor. A wrong one stays counted as a
/// guess.
async fn shown_now(
    conn: &mut PgConnection,
    state: &State,
    user: UserId,
    password_hash: &str,
    code: &Code,
) -> Result<(), Error> {
    if proven(conn, state, user, password_hash, Some(code)).await? {
        Ok(())
    } else {
        Err(Error::NoSecondFactor)
    }
}

/// As [`shown_now`]; `false` where the account has no second factor, whatever was sent.
async fn proven(
    conn: &mut PgConnection,
    state: &State,
    user: UserId,
    password_hash: &str,
    code: Option<&Code>,
) -> Result<bool, Error> {
    if identity::lock(conn, user).await?.ok_or(Error::Revoked)? != password_hash {
        return Err(wrong_password());
    }
    match prove(conn, state, user, code).await {
        Err(Error::SecondFactorRequired) if code.is_none() => Err(Error::CodeMissing),
        Err(Error::SecondFactorRequired) => Err(wrong_code()),
        proven => proven,
    }
}

/// Uses up a code where the account has a second factor; `false` where it has none.
///
/// # Errors
/// [`Error::SecondFactorRequired`] where the code is missing or wrong, or was used before.
pub(crate) async fn prove(
    conn: &mut PgConnection,
    state: &State,
    user: UserId,
    code: Option<&Code>,
) -> Result<bool, Error> {
    let kept = store::find(conn, user).await?.filter(|kept| kept.confirmed.is_some());
    let Some(kept) = kept else {
        return Ok(false);
    };
    let taken = match code {
        None => false,
        Some(Code::Recovery(code)) => {
            let hash = random::sha256(code.expose());
            store::take_recovery(conn, user, &hash).await?
        }
        Some(code @ Code::App(_)) => match step(state, user, &kept.sealed, code)? {
            Some(step) => store::take_step(conn, user, step).await?,
            None => false,
        },
    };
    if taken {
        Ok(true)
    } else {
        Err(Error::SecondFactorRequired)
    }
}

/// Whether the caller's session has shown the second factor.
pub(crate) async fn is_shown(conn: &mut PgConnection, session: SessionId) -> Result<bool, Error> {
    store::shown(conn, session).await
}

/// Seals by the present master key what a previous one has sealed, a bounded number at a time.
pub(crate) async fn reseal(conn: &mut PgConnection, sealers: &Sealers, resealed: &mut Resealed) -> Result<(), Error> {
    let mut after = Uuid::nil();
    loop {
        let page = store::sealed(conn, after, RESEALED_AT_ONCE).await?;
        for (user, sealed) in &page {
            let owner = UserId::from_uuid(*user).to_string();
            if let Some(anew) = resealed.count(sealers.reseal(&owner, sealed), || format!("second factor of {owner}")) {
                store::reseal(conn, *user, sealed, &anew).await?;
            }
            after = *user;
        }
        if i64::try_from(page.len()).is_ok_and(|count| count < RESEALED_AT_ONCE) {
            return Ok(());
        }
    }
}

/// The step of which a code from the app is, where it is one of now.
fn step(state: &State, user: UserId, sealed: &[u8], code: &Code) -> Result<Option<i64>, Error> {
    let Code::App(code) = code else {
        return Ok(None);
    };
    let secret = state.second_factors.open(&user.to_string(), sealed)?;
    let step = totp::step_of(&secret, code.expose(), totp::now_s()?);
    step.map(|step| i64::try_from(step).map_err(Error::fault)).transpose()
}

/// Tells the person by mail: whoever did it may have been somebody else with their password.
async fn tell(conn: &mut PgConnection, ctx: &Ctx, user: UserId, kind: Kind) -> Result<(), Error> {
    let person = identity::person(conn, user).await?.ok_or(Error::Revoked)?;
    account_mail::notify(conn, ctx, kind, user, &person.email).await
}

fn wrong_code() -> Error {
    Error::Field {
        field: CODE,
        description: "must be a code of the account's second factor that was not used".to_owned(),
    }
}

/// Text within a URI (RFC 3986, section 2.1).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'@') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
