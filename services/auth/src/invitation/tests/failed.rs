//! What the audit logs keep of passwords that were not right at an invitation.

use rowhouse_status::Failure;

use super::*;
use crate::tests::bench::{Told, why};
use crate::tests::statements::Statements;

const ACCEPT: &str = "rowhouse.auth.v1.AuthService/AcceptInvitation";
const LOGIN: &str = "rowhouse.auth.v1.AuthService/Login";
const OFFICE: &str = "192.0.2.1";

fn of(tenant: TenantId, invitation: InvitationId, why: serde_json::Value) -> Told {
    let from = Some(OFFICE.to_owned());
    (Some(tenant.uuid()), invitation.to_string(), from, why)
}

/// The token that stands in an invitation's mail.
async fn token(bench: &Bench, invitation: InvitationId) -> Token {
    let mail = mail::actions::invitation_mail(&service_ctx(), &bench.state, invitation).await;
    mail.unwrap().token
}

#[tokio::test]
async fn wrong_passwords_stand_in_the_log_of_the_tenant_that_has_invited() {
    let bench = Bench::start("invitation_told").await;
    let house = bench.house("acme").await;
    let (tenant, invitation) = found(&bench, &house.email.to_uppercase()).await;
    let looked_at = u64::try_from(guesses(&bench, invitation, false).await).unwrap();
    assert!(looked_at < 10, "some had to wait");
    // The person's own tenant has not asked anybody in, and nobody has logged in.
    assert_eq!(
        bench.told(ACCEPT).await,
        [of(tenant, invitation, why("LOGIN_FAILED", looked_at))]
    );
    assert_eq!(bench.told(LOGIN).await, []);
    let named = format!(
        "SELECT count(*) FROM auth.audit AS a WHERE action = '{ACCEPT}' AND (a::text LIKE '%@%' OR a::text LIKE '%{}%')",
        house.admin
    );
    assert_eq!(
        bench.count(&named).await,
        0,
        "whose account it is, is told when they join"
    );
}

#[tokio::test]
async fn guesses_at_the_account_elsewhere_are_not_told_to_who_has_invited() {
    let bench = Bench::start("invitation_elsewhere").await;
    let house = bench.house("acme").await;
    let (_, invitation) = found(&bench, &house.email).await;
    let failed = bench.login(&house.email, OTHER, None).await.map(drop);
    assert!(matches!(failed, Err(Error::LoginFailed)), "{failed:?}");
    // As after many such, from many addresses: nobody has tried from the office.
    bench
        .execute("UPDATE auth.attempts SET level = 100, blocked_until = now() + interval '1 hour'")
        .await;
    let right = acceptance(token(&bench, invitation).await, PASSWORD);
    let refused = accept(&from(OFFICE), &bench.state, &right).await;
    assert!(matches!(refused, Err(Error::TooManyAttempts { .. })), "{refused:?}");
    assert_eq!(bench.told(ACCEPT).await, []);
    assert_eq!(bench.told(LOGIN).await.len(), 1, "the person's own tenant knows");
}

#[tokio::test]
async fn what_is_no_guess_is_not_told() {
    let bench = Bench::start("invitation_untold").await;
    let house = bench.house("acme").await;
    let call = from(OFFICE);
    let (_, newcomers) = found(&bench, "ada@acme.example").await;
    // Whoever chooses a password guesses none.
    let easy = acceptance(token(&bench, newcomers).await, "aaaaaaaaaaaa");
    let refused = accept(&call, &bench.state, &easy).await;
    assert!(matches!(refused, Err(Error::Field { .. })), "{refused:?}");
    // A link that is not good is not about an account.
    let unknown = acceptance(Token::parse(&random::text().unwrap()).unwrap(), OTHER);
    let refused = accept(&call, &bench.state, &unknown).await;
    assert!(matches!(refused, Err(Error::InvitationInvalid)), "{refused:?}");
    let (tenant, owners) = found(&bench, &house.email).await;
    let right = acceptance(token(&bench, owners).await, PASSWORD);
    bench.set_access(tenant, Access::Suspended).await;
    let refused = accept(&call, &bench.state, &right).await;
    assert!(matches!(refused, Err(Error::TenantSuspended)), "{refused:?}");
    bench.set_access(tenant, Access::Allowed).await;
    accept(&call, &bench.state, &right).await.unwrap();
    assert_eq!(bench.told(ACCEPT).await, []);
}

/// Whoever holds the link does not learn from the work that is done whether the password was right and the account disabled, nor
/// does the tenant learn it from its log.
#[tokio::test]
async fn an_account_that_is_disabled_is_answered_and_told_like_a_wrong_password() {
    let bench = Bench::start("invitation_told_alike").await;
    let house = bench.house("acme").await;
    let (tenant, invitation) = found(&bench, &house.email).await;
    let token = token(&bench, invitation).await;
    let statements = Statements::listen();
    let tried = async |password: &str| {
        bench.execute("DELETE FROM auth.attempts").await;
        statements.take();
        let hashes = bench.state.hasher.runs();
        let refused = accept(&from(OFFICE), &bench.state, &acceptance(token.clone(), password)).await;
        let answer = format!("{:?}", Failure::from(refused.unwrap_err()));
        (answer, bench.state.hasher.runs() - hashes, statements.take())
    };
    // Connections are opened before anything counts.
    tried(OTHER).await;
    let wrong = tried(OTHER).await;
    let disabled = format!(
        "UPDATE auth.identities SET state = 'disabled' WHERE id = '{}'",
        house.admin.uuid()
    );
    bench.execute(&disabled).await;
    assert_eq!(tried(PASSWORD).await, wrong);
    assert!(
        wrong.0.contains("LoginFailed") && wrong.1 == 1 && wrong.2.len() > 3,
        "{wrong:?}"
    );
    assert_eq!(
        bench.told(ACCEPT).await,
        [of(tenant, invitation, why("LOGIN_FAILED", 3))]
    );
}
