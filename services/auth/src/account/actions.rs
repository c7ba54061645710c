//! What a person may do with their own account.

use rowhouse_context::Ctx;
use rowhouse_db::paging::{Page, PageScope};
use serde_json::json;

use super::PasswordChange;
use crate::audit::{self, Entry};
use crate::error::Error;
use crate::member::Membership;
use crate::rights::{self, Subject};
use crate::session::{self, EndReason, manage};
use crate::state::State;
use crate::{identity, member};

/// Sets a new password and ends the account's other sessions; answers when no service honours them any more.
pub(crate) async fn change_password(ctx: &Ctx, state: &State, change: &PasswordChange) -> Result<(), Error> {
    let (user, session) = manage::caller(ctx)?;
    let account = identity::account_of(&mut *state.connection().await?, user).await?;
    let account = account.filter(|account| account.active).ok_or(Error::Revoked)?;
    // Hashing takes long: no connection waits for it.
    let current = account.password_hash;
    if !state.hasher.verify(ctx, &change.current, Some(current.clone())).await? {
        return Err(wrong_password());
    }
    let new = state.hasher.hash(ctx, &change.new).await?;

    let mut tx = state.begin().await?;
    let locked = identity::lock(&mut tx, user).await?.ok_or(Error::Revoked)?;
    // Another call has changed it since it was compared.
    if locked != current {
        return Err(wrong_password());
    }
    identity::set_password(&mut tx, user, &new).await?;
    let ended = session::end_of_account(&mut tx, user, Some(session), EndReason::PasswordChanged).await?;
    let entry = Entry::new("password.change", user).after(json!({ "sessions_ended": ended }));
    audit::record(&mut tx, ctx, entry).await?;
    let version = rights::bump(&mut tx, &[Subject::User(user)]).await?;
    tx.commit().await?;
    state.clock.acknowledge(ctx, version).await
}

fn wrong_password() -> Error {
    Error::Field {
        field: "current_password",
        description: "must be the account's password".to_owned(),
    }
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
