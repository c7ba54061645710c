//! T15 beside log-ins: who asks for a reset, or invites somebody, does not learn whether the address has an account: not from the
//! answer, nor from what was done for it.

use rowhouse_auth_kit::Role;
use rowhouse_types::Limits;

use crate::account::password::request_reset;
use crate::identity;
use crate::member::{Invite, actions::invite};
use crate::role::TenantRole;
use crate::tests::bench::{Bench, anonymous};
use crate::tests::statements::Statements;

/// Nobody's.
const NOBODY: &str = "nobody@globex.example";

/// What a call answers, and the statements that it sends.
type Done = (String, Vec<String>);

async fn done(statements: &Statements, call: impl Future<Output = String>) -> Done {
    statements.take();
    let answer = call.await;
    (answer, statements.take())
}

/// The control: whether there is an account, looked up as no call here may.
async fn has_account(bench: &Bench, email: &str) -> bool {
    let mut connection = bench.state.connection().await.unwrap();
    identity::account_at(&mut connection, email).await.unwrap().is_some()
}

#[tokio::test]
async fn asking_for_a_reset_does_not_tell_whether_there_is_an_account() {
    let bench = Bench::start("reset_alike").await;
    let house = bench.house("acme").await;
    let statements = Statements::listen();
    let ask = async |email: &str| {
        let asked = request_reset(&anonymous(), &bench.state, &email.parse().unwrap()).await;
        format!("{asked:?}")
    };
    // Connections are opened and statements prepared before anything counts.
    ask("somebody@globex.example").await;

    let existing = done(&statements, ask(&house.email)).await;
    assert!(existing.0 == "Ok(())" && existing.1.len() > 2, "{existing:?}");
    assert_eq!(done(&statements, ask(NOBODY)).await, existing);

    let leaking = async |email: &str| match has_account(&bench, email).await {
        true => ask(email).await,
        false => "Ok(())".to_owned(),
    };
    let existing = done(&statements, leaking(&house.email)).await;
    assert_ne!(done(&statements, leaking(NOBODY)).await, existing);
}

#[tokio::test]
async fn an_invitation_does_not_tell_whether_there_is_an_account() {
    let bench = Bench::start("invitation_alike").await;
    let house = bench.house("acme").await;
    let elsewhere = bench.house("globex").await;
    let ctx = bench.ctx_of(house.admin, house.tenant).await;
    // So that what a plan bounds is counted too.
    let limits = Limits {
        seats: Some(100),
        mails_per_day: Some(100),
        ..Limits::default()
    };
    let state = bench.within(limits).await;
    let statements = Statements::listen();
    let ask = async |email: &str| {
        let asked = Invite {
            email: email.parse().unwrap(),
            role: TenantRole::BuiltIn(Role::User),
            request: None,
        };
        let sent = invite(&ctx, &state, &asked).await;
        // The address is answered as it was asked for; ids and times differ by themselves.
        format!("{:?}", sent.map(|sent| (sent.email == email, sent.role)))
    };
    // Connections are opened and statements prepared before anything counts.
    ask("somebody@globex.example").await;

    // Asked for in another spelling than the account's own.
    let email = elsewhere.email.replace("admin", "Admin");
    let existing = done(&statements, ask(&email)).await;
    assert!(
        existing.0.starts_with("Ok((true,") && existing.1.len() > 5,
        "{existing:?}"
    );
    assert_eq!(done(&statements, ask(NOBODY)).await, existing);

    let leaking = async |email: &str| match has_account(&bench, email).await {
        true => ask(email).await,
        false => "none".to_owned(),
    };
    let existing = done(&statements, leaking(&email)).await;
    assert_ne!(done(&statements, leaking(NOBODY)).await, existing);
}
