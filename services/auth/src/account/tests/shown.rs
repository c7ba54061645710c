//! What a person shows anew before the account gets another address.

use super::start;
use crate::account::EmailChange;
use crate::account::email::change;
use crate::error::Error;
use crate::identity::OfferedPassword;
use crate::second_factor::Code;
use crate::tests::app::{App, wrong};
use crate::tests::bench::{Bench, PASSWORD};

fn to(address: &str, code: Option<Code>) -> EmailChange {
    EmailChange {
        new: address.parse().unwrap(),
        current: OfferedPassword::parse(PASSWORD).unwrap(),
        code,
    }
}

async fn links(bench: &Bench) -> i64 {
    let links = "SELECT count(*) FROM auth.account_mails WHERE kind = 'email_change'";
    bench.count(links).await
}

#[tokio::test]
async fn a_new_address_takes_a_code_where_the_account_has_a_second_factor_and_each_code_once() {
    let (bench, _, own) = start("email_factor").await;
    let ctx = Bench::ctx_in(&own);
    let app = App::set_up(&bench, &ctx, PASSWORD).await;
    let without = change(&ctx, &bench.state, &to("ada@elsewhere.example", None)).await;
    assert!(matches!(without, Err(Error::CodeMissing)), "{without:?}");
    // The last has been used up by the confirmation.
    for code in [wrong(), app.code(0)] {
        let refused = change(&ctx, &bench.state, &to("ada@elsewhere.example", Some(code))).await;
        assert!(
            matches!(refused, Err(Error::Field { field: "code", .. })),
            "{refused:?}"
        );
    }
    assert_eq!(links(&bench).await, 0);
    let right = to("ada@elsewhere.example", Some(app.code(1)));
    change(&ctx, &bench.state, &right).await.unwrap();
    assert_eq!(links(&bench).await, 1);
    let again = change(&ctx, &bench.state, &right).await;
    assert!(matches!(again, Err(Error::Field { field: "code", .. })), "{again:?}");
    let recovered = to("ada@elsewhere.example", Some(app.recovery(0)));
    change(&ctx, &bench.state, &recovered).await.unwrap();
    assert_eq!(links(&bench).await, 2);
}

#[tokio::test]
async fn codes_that_are_guessed_for_a_new_address_are_bounded_and_the_right_one_ends_the_count() {
    let (bench, _, own) = start("email_codes").await;
    let ctx = Bench::ctx_in(&own);
    let app = App::set_up(&bench, &ctx, PASSWORD).await;
    let guess = to("ada@elsewhere.example", Some(wrong()));
    for _ in 0..3 {
        let refused = change(&ctx, &bench.state, &guess).await;
        assert!(
            matches!(refused, Err(Error::Field { field: "code", .. })),
            "{refused:?}"
        );
    }
    let right = to("ada@elsewhere.example", Some(app.code(1)));
    change(&ctx, &bench.state, &right).await.unwrap();
    let mut guesses = 0;
    while !matches!(
        change(&ctx, &bench.state, &guess).await,
        Err(Error::TooManyAttempts { .. })
    ) {
        guesses += 1;
        assert!(guesses < 10, "guesses are bounded");
    }
    assert!(guesses >= 5, "the three before are forgotten: {guesses}");
}
