//! What the tenant asks of log-ins: sessions are listed as going on where they give something, and nowhere else; and what it
//! has come to ask counts for the next token.

use sqlx::AssertSqlSafe;

use super::*;

#[tokio::test]
async fn a_session_is_listed_where_the_second_factor_that_the_tenant_asks_for_was_shown() {
    let office = Office::open("impersonation_factor").await;
    let elsewhere = office.bench.house("other").await;
    let opened = office.start().await.opened;
    let there = Start {
        tenant: elsewhere.tenant,
        ..office.as_member(elsewhere.admin)
    };
    let there = actions::start(&office.operator, &office.bench.state, &there).await;
    let there = there.unwrap().opened.session;
    let shows = |session: SessionId, shown: bool| {
        format!(
            "UPDATE auth.sessions SET second_factor = {shown} WHERE id = '{}'",
            session.uuid()
        )
    };
    // A tenant asks nothing until it has a policy.
    for asks in [None, Some(false), Some(true)] {
        if let Some(asks) = asks {
            let policy = format!(
                "INSERT INTO auth.login_policies (tenant_id, second_factor_required) VALUES ('{}', {asks}) \
                 ON CONFLICT (tenant_id) DO UPDATE SET second_factor_required = excluded.second_factor_required",
                office.house.tenant.uuid()
            );
            office.bench.execute(&policy).await;
        }
        for (operators, own) in [(false, false), (false, true), (true, false), (true, true)] {
            office.bench.execute(&shows(opened.by.session, operators)).await;
            // What the session itself says of a second factor is nothing that anybody has shown.
            office.bench.execute(&shows(opened.session, own)).await;
            let case = format!("asked for: {asks:?}, shown by the operator: {operators}, by the session: {own}");
            let gives = asks != Some(true) || operators;
            let standing = if gives {
                Standing::Good
            } else {
                Standing::SecondFactorNotShown
            };
            assert_eq!(
                office.standing(opened.session, Some(opened.by)).await,
                standing,
                "{case}"
            );
            let here: Vec<SessionId> = gives.then_some(opened.session).into_iter().collect();
            assert_eq!(office.running(Some(office.house.tenant)).await, here, "{case}");
            // What one tenant asks for ends nothing in another.
            let all: Vec<SessionId> = std::iter::once(there).chain(here).collect();
            assert_eq!(office.running(None).await, all, "{case}");
        }
    }
}

#[tokio::test]
async fn what_the_tenant_has_come_to_ask_counts_while_a_token_is_renewed() {
    let office = Office::open("impersonation_renewing").await;
    let opened = office.start().await.opened;
    // Between the look for the session and the judgement, which reads the clock.
    let mut changing = office.bench.superuser.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE auth.rights_clock IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *changing)
        .await
        .unwrap();
    let (state, operator) = (office.bench.state.clone(), office.operator.clone());
    let mut renewing = tokio::spawn(async move { actions::renew(&operator, &state, opened.session).await });
    office.bench.until_it_waits(&mut renewing).await;
    // A token of its own would last five minutes.
    let stricter = format!(
        "UPDATE auth.sessions SET created_at = now() - interval '11 minutes' WHERE impersonator_id IS NOT NULL;
         INSERT INTO auth.login_policies (tenant_id, session_lifetime_s) VALUES ('{}', 900)",
        office.house.tenant.uuid()
    );
    sqlx::raw_sql(AssertSqlSafe(stricter))
        .execute(&mut *changing)
        .await
        .unwrap();
    changing.commit().await.unwrap();
    let renewed = renewing.await.unwrap().unwrap();
    let ends = "SELECT floor(extract(epoch FROM created_at + interval '15 minutes'))::bigint FROM auth.sessions
                WHERE impersonator_id IS NOT NULL";
    let ends = office.bench.count(ends).await;
    assert_eq!(
        (renewed.opened.ends.timestamp(), renewed.expires.timestamp()),
        (ends, ends)
    );
}
