//! What operators do about each other: they are seen, made, and unmade by one another.

use rowhouse_context::Ctx;
use rowhouse_types::UserId;

use super::end::{end, start, why};
use crate::error::Error;
use crate::identity::OfferedPassword;
use crate::operator::actions::{get, grant, list, revoke};
use crate::operator::{Grant, Operator};
use crate::rights::Standing;
use crate::second_factor::Code;
use crate::state::State;
use crate::tests::bench::{Bench, House, PASSWORD};

pub(super) const ROOT: &str = "root@rowhouse.example";

/// An operator who calls, and knows their password.
pub(super) struct Root {
    pub(super) ctx: Ctx,
    pub(super) password: String,
}

impl Root {
    /// What they ask to make somebody an operator.
    pub(super) fn asks(&self, email: &str) -> Grant {
        asked(email, &self.password, None)
    }

    pub(super) async fn grant(&self, state: &State, email: &str) -> Result<Operator, Error> {
        grant(&self.ctx, state, &self.asks(email)).await
    }

    pub(super) fn user(&self) -> UserId {
        self.ctx.principal().user().unwrap()
    }
}

pub(super) fn asked(email: &str, password: &str, code: Option<Code>) -> Grant {
    Grant {
        email: email.parse().unwrap(),
        reason: why(),
        current: OfferedPassword::parse(password).unwrap(),
        code,
    }
}

/// A tenant, and an operator who calls.
pub(super) async fn office(name: &str) -> (Bench, House, Root) {
    let bench = Bench::start(name).await;
    let password = bench.operator(ROOT).await;
    let root = bench.login(ROOT, &password, None).await.unwrap();
    let house = bench.house("acme").await;
    let ctx = Bench::ctx_in(&root);
    (bench, house, Root { ctx, password })
}

pub(super) async fn take(by: &Root, bench: &Bench, user: UserId) -> Result<bool, Error> {
    revoke(&by.ctx, &bench.state, user, &why()).await
}

/// How many entries of an action stand in the platform's log, by an operator and with the reason of these tests.
async fn told(bench: &Bench, action: &str, by: &Root) -> i64 {
    let told = format!(
        "SELECT count(*) FROM auth.audit WHERE action = '{action}' AND actor = '{}'
            AND reason = 'has left' AND tenant_id IS NULL",
        by.ctx.principal().actor()
    );
    bench.count(&told).await
}

#[tokio::test]
async fn who_has_an_account_is_made_an_operator_and_the_log_says_by_whom_and_why() {
    let (bench, house, root) = office("operator_made").await;
    let made = root.grant(&bench.state, &house.email).await.unwrap();
    assert_eq!(
        (made.user, &made.email, made.disabled),
        (house.admin, &house.email, false)
    );
    let there = bench.login(&house.email, PASSWORD, None).await.unwrap();
    assert_eq!(
        (there.session.tenant, bench.standing(&there).await),
        (None, Standing::Good)
    );
    let again = root.grant(&bench.state, &house.email).await.unwrap();
    assert_eq!(again, made, "who is an operator stays one");
    assert_eq!(told(&bench, "platform.grant", &root).await, 1);
}

#[tokio::test]
async fn nobody_is_made_an_operator_without_an_account_that_is_active() {
    let (bench, house, root) = office("operator_nobody").await;
    let disable = format!(
        "UPDATE auth.identities SET state = 'disabled' WHERE id = '{}'",
        house.admin.uuid()
    );
    bench.execute(&disable).await;
    for email in ["nobody@rowhouse.example", &house.email] {
        let refused = root.grant(&bench.state, email).await;
        assert!(
            matches!(refused, Err(Error::NotFound { kind: "account", .. })),
            "{refused:?}"
        );
    }
    assert_eq!(bench.count("SELECT count(*) FROM auth.identities").await, 2);
    assert_eq!(bench.count("SELECT count(*) FROM auth.platform_grants").await, 1);
}

#[tokio::test]
async fn an_operator_takes_the_role_from_another_and_the_log_says_who_did_and_why() {
    let (bench, house, root) = office("operator_taken").await;
    root.grant(&bench.state, &house.email).await.unwrap();
    let platform = bench.login(&house.email, PASSWORD, None).await.unwrap();
    assert!(take(&root, &bench, house.admin).await.unwrap());
    assert_eq!(bench.standing(&platform).await, Standing::Revoked);
    assert_eq!(told(&bench, "platform.revoke", &root).await, 1);
    assert!(
        !take(&root, &bench, house.admin).await.unwrap(),
        "nothing is left to take"
    );
    let unknown = take(&root, &bench, UserId::generate()).await;
    assert!(
        matches!(unknown, Err(Error::NotFound { kind: "account", .. })),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn who_has_lost_the_role_gives_and_takes_it_no_more() {
    let (bench, house, _, platform) = start("operator_lost").await;
    let lost = Root {
        ctx: Bench::ctx_in(&platform),
        password: PASSWORD.to_owned(),
    };
    let other = bench.house("globex").await;
    // The calls have been let in before.
    assert!(end(&bench, &house.email).await.unwrap());
    let given = lost.grant(&bench.state, &other.email).await;
    assert!(matches!(given, Err(Error::Revoked)), "{given:?}");
    let taken = take(&lost, &bench, house.admin).await;
    assert!(matches!(taken, Err(Error::Revoked)), "{taken:?}");
    assert_eq!(bench.count("SELECT count(*) FROM auth.platform_grants").await, 1);
}

#[tokio::test]
async fn one_leaves_by_oneself_and_the_last_active_one_does_not() {
    let (bench, house, root) = office("operator_leaves").await;
    let alone = root.user();
    let refused = take(&root, &bench, alone).await;
    assert!(matches!(refused, Err(Error::LastOperator)), "{refused:?}");
    root.grant(&bench.state, &house.email).await.unwrap();
    assert!(take(&root, &bench, alone).await.unwrap());
    let gone = get(&root.ctx, &bench.state, alone).await;
    assert!(
        matches!(gone, Err(Error::NotFound { kind: "operator", .. })),
        "{gone:?}"
    );
    assert_eq!(
        get(&root.ctx, &bench.state, house.admin).await.unwrap().email,
        house.email
    );
}

#[tokio::test]
async fn operators_are_listed_page_by_page_the_disabled_too_and_nobody_else() {
    let (bench, house, root) = office("operator_pages").await;
    bench.house("initech").await;
    let others = [house, bench.house("globex").await];
    for house in &others {
        root.grant(&bench.state, &house.email).await.unwrap();
    }
    let disable = format!(
        "UPDATE auth.identities SET state = 'disabled' WHERE id = '{}'",
        others[1].admin.uuid()
    );
    bench.execute(&disable).await;
    let first = list(&root.ctx, &bench.state, 2, "").await.unwrap();
    let last = list(&root.ctx, &bench.state, 2, &first.next_page_token).await.unwrap();
    assert_eq!(last.next_page_token, "");
    let listed = first.items.iter().chain(&last.items);
    let listed: Vec<(UserId, bool)> = listed.map(|one| (one.user, one.disabled)).collect();
    let root = root.user();
    assert_eq!(
        listed,
        [(root, false), (others[0].admin, false), (others[1].admin, true)]
    );
}

#[tokio::test]
async fn an_account_that_gets_another_address_meanwhile_becomes_no_operator() {
    let (bench, house, root) = office("operator_moved").await;
    let mut moving = bench.superuser.begin().await.unwrap();
    sqlx::query("UPDATE auth.identities SET email = 'elsewhere@acme.example' WHERE id = $1")
        .bind(house.admin.uuid())
        .execute(&mut *moving)
        .await
        .unwrap();
    let (state, email) = (bench.state.clone(), house.email.clone());
    let mut granting = tokio::spawn(async move { root.grant(&state, &email).await });
    bench.until_it_waits(&mut granting).await;
    moving.commit().await.unwrap();
    let refused = granting.await.unwrap();
    assert!(
        matches!(refused, Err(Error::NotFound { kind: "account", .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_account_that_only_the_database_takes_for_the_one_that_was_named_becomes_no_operator() {
    let (bench, house, root) = office("operator_alike").await;
    let alike = format!(
        "UPDATE auth.identities SET email = U&'ADM\\0130N@acme.example' WHERE id = '{}'",
        house.admin.uuid()
    );
    bench.execute(&alike).await;
    let refused = root.grant(&bench.state, "admin@acme.example").await;
    assert!(
        matches!(refused, Err(Error::NotFound { kind: "account", .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_account_is_held_before_the_grants_are() {
    let (bench, house, root) = office("operator_locks").await;
    let mut holding = bench.superuser.begin().await.unwrap();
    sqlx::query("SELECT id FROM auth.identities WHERE id = $1 FOR UPDATE")
        .bind(house.admin.uuid())
        .execute(&mut *holding)
        .await
        .unwrap();
    let (state, email) = (bench.state.clone(), house.email.clone());
    let mut granting = tokio::spawn(async move { root.grant(&state, &email).await });
    bench.until_it_waits(&mut granting).await;
    // Else whoever takes the role from that very account, with its row locked, would wait in a circle with it.
    sqlx::raw_sql("LOCK TABLE auth.platform_grants IN SHARE ROW EXCLUSIVE MODE NOWAIT")
        .execute(&mut *holding)
        .await
        .unwrap();
    holding.rollback().await.unwrap();
    granting.await.unwrap().unwrap();
}
