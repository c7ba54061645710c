//! Operators on a real database: the first, and others.

mod colleagues;
mod end;
mod handed_on;
mod notices;
mod order;
mod shown;

use std::io;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::Reason;
use super::command::{Granted, bootstrap, grant};
use crate::error::Error;
use crate::tests::bench::{Bench, PASSWORD};

#[tokio::test]
async fn of_two_at_once_one_makes_the_operator_and_only_it_shows_a_password() {
    let bench = Bench::start("bootstrap_race").await;
    let shown = Arc::new(Mutex::new(Vec::new()));
    let calls = ["root@rowhouse.example", "other@rowhouse.example"].map(|email| {
        let (db, shown) = (bench.state.db.clone(), shown.clone());
        tokio::spawn(async move {
            let deliver = |secret: &str| {
                shown.lock().unwrap().push((email, secret.to_owned()));
                Ok(())
            };
            bootstrap(&db, &email.parse().unwrap(), deliver).await.unwrap()
        })
    });
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap());
    }
    assert!(
        outcomes.contains(&Granted::Created) && outcomes.contains(&Granted::Exists),
        "{outcomes:?}"
    );
    let shown = shown.lock().unwrap().clone();
    let [(email, password)] = shown.as_slice() else {
        panic!("one password is shown, not {}", shown.len())
    };
    assert!(bench.login(email, password, None).await.is_ok());
    assert_eq!(bench.count("SELECT count(*) FROM auth.identities").await, 1);
}

#[tokio::test]
async fn a_password_that_cannot_be_handed_over_leaves_nothing_behind() {
    let bench = Bench::start("bootstrap_full").await;
    let email = "root@rowhouse.example".parse().unwrap();
    let failed = bootstrap(&bench.state.db, &email, |_| Err(io::Error::other("disk full"))).await;
    assert!(failed.is_err());
    assert_eq!(bench.count("SELECT count(*) FROM auth.platform_grants").await, 0);
    let made = bootstrap(&bench.state.db, &email, |_| Ok(())).await.unwrap();
    assert_eq!(made, Granted::Created);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_slow_to_hand_over_keeps_nobody_from_the_clock() {
    let bench = Bench::start("bootstrap_slow").await;
    let email = "root@rowhouse.example".parse().unwrap();
    let look = sqlx::raw_sql("SELECT version FROM auth.rights_clock FOR UPDATE NOWAIT").execute(&bench.superuser);
    let deliver = |_: &str| {
        let looked = block_in_place(|| Handle::current().block_on(look));
        looked.map(drop).map_err(io::Error::other)
    };
    let made = bootstrap(&bench.state.db, &email, deliver).await;
    assert_eq!(made.unwrap(), Granted::Created);
}

#[tokio::test]
async fn a_member_who_becomes_operator_keeps_their_password() {
    let bench = Bench::start("bootstrap_member").await;
    let house = bench.house("acme").await;
    let made = bootstrap(&bench.state.db, &house.email.parse().unwrap(), |_| Ok(()))
        .await
        .unwrap();
    assert_eq!(made, Granted::Promoted);
    assert_eq!(
        bench.login(&house.email, PASSWORD, None).await.unwrap().session.tenant,
        None
    );
    let there = bench.login(&house.email, PASSWORD, Some(house.tenant)).await.unwrap();
    assert_eq!(there.session.tenant, Some(house.tenant));
}

#[tokio::test]
async fn where_there_is_an_operator_no_first_is_made_of_a_disabled_account_either() {
    let bench = Bench::start("bootstrap_disabled").await;
    let house = bench.house("acme").await;
    bench.operator("root@rowhouse.example").await;
    bench
        .execute("UPDATE auth.identities SET state = 'disabled' WHERE email LIKE '%acme.example'")
        .await;
    let made = bootstrap(&bench.state.db, &house.email.parse().unwrap(), |_| Ok(())).await;
    assert_eq!(made.unwrap(), Granted::Exists);
}

/// Two spellings of an address would be two accounts; who has the other one keeps it.
#[tokio::test]
async fn no_account_is_made_at_another_spelling_of_an_address() {
    const OTHER: &str = "ines@xn--bcher-kva.example";
    let bench = Bench::start("operator_spelling").await;
    bench.operator("root@rowhouse.example").await;
    let (db, why) = (&bench.state.db, Reason::parse_required("joins the team").unwrap());
    let refused = grant(db, &OTHER.parse().unwrap(), &why, |_| panic!("no password")).await;
    assert!(
        matches!(refused, Err(Error::Field { field: "email", .. })),
        "{refused:?}"
    );
    let house = bench.house("acme").await;
    let older = format!(
        "UPDATE auth.identities SET email = '{OTHER}' WHERE id = '{}'",
        house.admin.uuid()
    );
    bench.execute(&older).await;
    let made = grant(db, &OTHER.parse().unwrap(), &why, |_| panic!("no password")).await;
    assert_eq!(made.unwrap(), Granted::Promoted);
    assert!(bench.login(OTHER, PASSWORD, None).await.is_ok());
}

#[tokio::test]
async fn another_is_made_beside_the_first_with_a_password_of_their_own() {
    let bench = Bench::start("operator_grant").await;
    bench.operator("root@rowhouse.example").await;
    let (db, email) = (&bench.state.db, "second@rowhouse.example");
    let why = Reason::parse_required("joins the team").unwrap();
    let mut shown = String::new();
    let keep = |secret: &str| {
        secret.clone_into(&mut shown);
        Ok(())
    };
    let made = grant(db, &email.parse().unwrap(), &why, keep).await.unwrap();
    assert_eq!(made, Granted::Created);
    assert_eq!(bench.login(email, &shown, None).await.unwrap().session.tenant, None);
    let again = grant(db, &email.parse().unwrap(), &why, |_| panic!("no password")).await;
    assert_eq!(again.unwrap(), Granted::Exists);
    let audited = "SELECT count(*) FROM auth.audit
        WHERE action = 'platform.grant' AND reason = 'joins the team' AND tenant_id IS NULL";
    assert_eq!(bench.count(audited).await, 1);
}
