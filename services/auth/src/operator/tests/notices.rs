//! What operators are told by mail of each other's making and end.

use rowhouse_types::AccountMailId;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::colleagues::{ROOT, Root, office, take};
use super::end::{end, start};
use crate::account_mail::{self, Kind};
use crate::error::Error;
use crate::operator::notices::{HEARERS_MAX, PER_HOUR_MAX};
use crate::tests::bench::{Bench, House, service_ctx};

/// Kind, to whom, about whom, and who has done it.
type Told = (Kind, String, String, Option<String>);

/// What is told of an account, in the order of those who are told; what is no longer worth a mail is left out.
async fn told(bench: &Bench, about: &str) -> Vec<Told> {
    let wanted = "SELECT mail.id FROM auth.account_mails AS mail \
        JOIN auth.identities AS person ON person.id = mail.operator_id WHERE person.email = $1 ORDER BY mail.kind, mail.email";
    let wanted: Vec<Uuid> = sqlx::query_scalar(wanted)
        .bind(about)
        .fetch_all(&bench.superuser)
        .await
        .unwrap();
    let mut told = Vec::new();
    for id in wanted {
        let id = AccountMailId::from_uuid(id);
        match account_mail::for_mail(&service_ctx(), &bench.state, id).await {
            Ok(mail) => {
                let news = mail.news.unwrap();
                assert!(mail.token.is_none(), "a notice holds no link");
                told.push((mail.kind, mail.email, news.email, news.actor));
            }
            Err(Error::NotFound { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    told
}

fn of(kind: Kind, about: &House, by: Option<&str>, to: &[&str]) -> Vec<Told> {
    let to = to.iter();
    to.map(|to| (kind, (*to).to_owned(), about.email.clone(), by.map(str::to_owned)))
        .collect()
}

async fn wanted(bench: &Bench) -> (i64, i64) {
    let mails = bench.count("SELECT count(*) FROM auth.account_mails").await;
    let events = "SELECT count(*) FROM auth.outbox WHERE kind = 'auth.account_mail.v1'";
    (mails, bench.count(events).await)
}

/// An operator whose account nobody can use.
async fn with_a_disabled_one(bench: &Bench, root: &Root) {
    let gone = bench.house("initech").await;
    root.grant(&bench.state, &gone.email).await.unwrap();
    let disable = format!(
        "UPDATE auth.identities SET state = 'disabled' WHERE id = '{}'",
        gone.admin.uuid()
    );
    bench.execute(&disable).await;
}

#[tokio::test]
async fn every_active_operator_is_told_who_was_made_one_and_by_whom() {
    let (bench, house, root) = office("notice_made").await;
    bench.house("globex").await;
    with_a_disabled_one(&bench, &root).await;
    let before = wanted(&bench).await;
    root.grant(&bench.state, &house.email).await.unwrap();
    let expected = of(Kind::OperatorMade, &house, Some(ROOT), &[&house.email, ROOT]);
    assert_eq!(told(&bench, &house.email).await, expected);
    assert_eq!(
        wanted(&bench).await,
        (before.0 + 2, before.1 + 2),
        "each mail has its event, and nobody else is written to"
    );
    // Who is one already is made none, and nobody is told.
    root.grant(&bench.state, &house.email).await.unwrap();
    assert_eq!(wanted(&bench).await, (before.0 + 2, before.1 + 2));
    let named = "SELECT count(*) FROM auth.outbox WHERE payload::text LIKE '%@%'";
    assert_eq!(bench.count(named).await, 0, "no address goes through the broker");
}

#[tokio::test]
async fn every_active_operator_is_told_whose_role_was_taken_and_so_are_they() {
    let (bench, house, root) = office("notice_unmade").await;
    with_a_disabled_one(&bench, &root).await;
    root.grant(&bench.state, &house.email).await.unwrap();
    bench.execute("DELETE FROM auth.account_mails").await;
    assert!(take(&root, &bench, house.admin).await.unwrap());
    let expected = of(Kind::OperatorUnmade, &house, Some(ROOT), &[&house.email, ROOT]);
    assert_eq!(told(&bench, &house.email).await, expected);
    // Nothing is left to take, and the last one stays.
    let before = wanted(&bench).await;
    assert!(!take(&root, &bench, house.admin).await.unwrap());
    assert!(matches!(
        take(&root, &bench, root.user()).await,
        Err(Error::LastOperator)
    ));
    assert_eq!(wanted(&bench).await, before);
}

#[tokio::test]
async fn what_a_command_does_is_told_too_and_names_no_operator() {
    let (bench, house, _, _) = start("notice_command").await;
    let made = of(Kind::OperatorMade, &house, None, &[&house.email, ROOT]);
    assert_eq!(told(&bench, &house.email).await, made);
    bench.execute("DELETE FROM auth.account_mails").await;
    assert!(end(&bench, &house.email).await.unwrap());
    let unmade = of(Kind::OperatorUnmade, &house, None, &[&house.email, ROOT]);
    assert_eq!(told(&bench, &house.email).await, unmade);
}

#[tokio::test]
async fn of_very_many_operators_the_new_one_and_those_who_were_it_first_are_told() {
    let (bench, house, root) = office("notice_many").await;
    let many = format!(
        "INSERT INTO auth.identities (id, email, display_name, password_hash)
             SELECT gen_random_uuid(), 'many' || n || '@rowhouse.example', 'Many', 'none'
             FROM generate_series(1, {HEARERS_MAX}) AS n;
         INSERT INTO auth.platform_grants (identity_id, role, created_at)
             SELECT id, 'super_admin', now() + interval '1 hour' FROM auth.identities WHERE email LIKE 'many%'"
    );
    bench.execute(&many).await;
    root.grant(&bench.state, &house.email).await.unwrap();
    let told = told(&bench, &house.email).await;
    assert_eq!(i64::try_from(told.len()).unwrap(), HEARERS_MAX);
    for first in [ROOT, &house.email] {
        assert!(told.iter().any(|(_, to, ..)| to == first), "{first}");
    }
}

#[tokio::test]
async fn who_makes_one_after_the_other_fills_nobodys_mailbox() {
    let (bench, house, root) = office("notice_flood").await;
    let earlier = format!(
        "INSERT INTO auth.account_mails (id, kind, identity_id, email, operator_id, expires_at)
             SELECT gen_random_uuid(), 'operator_made', person.id, person.email, person.id, now() + interval '1 day'
             FROM auth.identities AS person, generate_series(1, {PER_HOUR_MAX}) WHERE person.email = '{ROOT}'"
    );
    bench.execute(&earlier).await;
    root.grant(&bench.state, &house.email).await.unwrap();
    let new_one_alone = of(Kind::OperatorMade, &house, Some(ROOT), &[&house.email]);
    assert_eq!(told(&bench, &house.email).await, new_one_alone);
    bench
        .execute("UPDATE auth.account_mails SET created_at = now() - interval '61 minutes'")
        .await;
    assert!(take(&root, &bench, house.admin).await.unwrap());
    let both = of(Kind::OperatorUnmade, &house, Some(ROOT), &[&house.email, ROOT]);
    assert_eq!(told(&bench, &house.email).await[1..], both);
}

#[tokio::test]
async fn who_has_done_it_is_named_by_id_where_the_account_is_gone() {
    let (bench, house, root) = office("notice_gone").await;
    root.grant(&bench.state, &house.email).await.unwrap();
    let nobody = Uuid::now_v7();
    sqlx::query("UPDATE auth.account_mails SET actor_id = $1 WHERE actor_id IS NOT NULL")
        .bind(nobody)
        .execute(&bench.superuser)
        .await
        .unwrap();
    let named = rowhouse_types::UserId::from_uuid(nobody).to_string();
    let expected = of(Kind::OperatorMade, &house, Some(&named), &[&house.email, ROOT]);
    assert_eq!(told(&bench, &house.email).await, expected);
    let gone = AssertSqlSafe(format!("UPDATE auth.account_mails SET operator_id = '{nobody}'"));
    sqlx::raw_sql(gone).execute(&bench.superuser).await.unwrap();
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM auth.account_mails WHERE operator_id IS NOT NULL")
        .fetch_all(&bench.superuser)
        .await
        .unwrap();
    assert!(!ids.is_empty());
    for id in ids {
        let nothing = account_mail::for_mail(&service_ctx(), &bench.state, AccountMailId::from_uuid(id)).await;
        assert!(matches!(nothing, Err(Error::NotFound { .. })), "{nothing:?}");
    }
}
