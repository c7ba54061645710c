//! What a person may do with their own account.

use rowhouse_context::Ctx;
use rowhouse_db::paging::{Page, PageScope};
use rowhouse_types::{SessionId, UserId};
use sqlx::PgConnection;

use crate::attempt;
use crate::error::Error;
use crate::identity::{self, Account, Chooser, NewPassword, OfferedPassword};
use crate::login_policy;
use crate::member::{self, Membership};
use crate::session::manage;
use crate::state::State;

/// The field that holds the password of whoever is logged in.
pub(super) const CURRENT_PASSWORD: &str = "current_password";

/// Tenants whose names a new password must not be made of; of who is in more, the first.
const TENANTS_NAMED_MAX: i64 = 50;

/// The account of the caller, who is in a session, where the password is right. It may be another when the transaction begins.
pub(crate) async fn confirmed(
    ctx: &Ctx,
    state: &State,
    caller: (UserId, SessionId),
    password: &OfferedPassword,
) -> Result<Account, Error> {
    let attempted = attempt::begin_own(state, caller).await?;
    let account = identity::account_of(&mut *state.connection().await?, caller.0).await?;
    let account = account.ok_or(Error::NotAPerson)?;
    if !account.active {
        return Err(Error::Revoked);
    }
    // Hashing takes long: no connection waits for it.
    let hash = Some(account.password_hash.clone());
    if !attempt::verify(ctx, state, &attempted, password, hash).await? {
        return Err(wrong_password());
    }
    attempt::succeeded(&mut *state.connection().await?, &attempted).await?;
    Ok(account)
}

/// The refusal of who is logged in and does not know the account's password.
pub(crate) fn wrong_password() -> Error {
    Error::Field {
        field: CURRENT_PASSWORD,
        description: "must be the account's password".to_owned(),
    }
}

/// Refuses a password that is shorter than one of the person's tenants asks. `field`: path of the field that holds it.
pub(super) async fn long_enough(
    conn: &mut PgConnection,
    user: UserId,
    new: &NewPassword,
    field: &'static str,
) -> Result<(), Error> {
    let policies = login_policy::of_member(conn, user).await?;
    let mut policies = policies.iter();
    policies.try_for_each(|policy| policy.admit_password(new.length(), field))
}

/// Somebody who chooses a password, as the member that they are of their tenants.
pub(super) async fn in_tenants(conn: &mut PgConnection, user: UserId, chooser: Chooser) -> Result<Chooser, Error> {
    let tenants = member::tenants_of(conn, user, None, TENANTS_NAMED_MAX).await?;
    let names = tenants.iter().map(|membership| membership.tenant_name.as_str());
    Ok(names.fold(chooser, Chooser::within))
}

/// A page of the tenants whose active member the caller is, by id.
///
/// `size`: how many. `token`: of the page before, or empty.
pub(crate) async fn tenants(ctx: &Ctx, state: &State, size: u32, token: &str) -> Result<Page<Membership>, Error> {
    let (user, _) = manage::caller(ctx)?;
    let scope = PageScope {
        method: "ListTenants",
        // The list is the person's, in whichever tenant they ask.
        tenant: None,
        user: Some(user),
        fingerprint: Vec::new(),
    };
    let paging = state.pages.begin(scope, size, token).map_err(|_| Error::PageToken)?;
    let mut conn = state.connection().await?;
    let tenants = member::tenants_of(&mut conn, user, paging.after().copied(), paging.limit()).await?;
    Ok(paging.finish(tenants, |last: &Membership| last.tenant))
}
