//! What the filter language accepts, means and refuses.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Expression {
    text.parse::<Filter>().unwrap().expression.unwrap()
}

fn refusal(text: &str) -> (usize, Fault) {
    let error = text.parse::<Filter>().unwrap_err();
    (error.at, error.fault)
}

fn email(value: &str) -> Expression {
    Expression::Text {
        field: TextField::Email,
        operator: Operator::Equal,
        value: value.to_owned(),
    }
}

#[test]
fn an_empty_filter_lets_everything_through() {
    for text in ["", "   ", "\n\t"] {
        assert_eq!(text.parse::<Filter>().unwrap().expression, None, "{text:?}");
    }
}

#[test]
fn or_binds_tighter_than_and() {
    let expected = Expression::And(vec![email("a"), Expression::Or(vec![email("b"), email("c")])]);
    assert_eq!(parse("email = a AND email = b OR email = c"), expected);
    assert_eq!(parse("email=a AND (email=b OR email=c)"), expected);
    let other = Expression::Or(vec![Expression::And(vec![email("a"), email("b")]), email("c")]);
    assert_eq!(parse("(email=a AND email=b) OR email=c"), other);
}

#[test]
fn not_takes_one_term() {
    let expected = Expression::Or(vec![Expression::Not(Box::new(email("a"))), email("b")]);
    assert_eq!(parse("NOT email=a OR email=b"), expected);
}

#[test]
fn every_operator_is_read() {
    let operators = [
        ("=", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<", Operator::Less),
        ("<=", Operator::LessOrEqual),
        (">", Operator::Greater),
        (">=", Operator::GreaterOrEqual),
    ];
    for (sign, operator) in operators {
        let value = "2026-01-31T12:00:00Z".parse().unwrap();
        let expected = Expression::Time {
            field: TimeField::UpdateTime,
            operator,
            value,
        };
        assert_eq!(parse(&format!("update_time{sign}2026-01-31T13:00:00+01:00")), expected);
    }
}

#[test]
fn a_star_at_the_end_makes_a_prefix_and_an_escaped_one_does_not() {
    let prefix = |negated, prefix: &str| Expression::Prefix {
        field: TextField::Email,
        negated,
        prefix: prefix.to_owned(),
    };
    assert_eq!(parse(r#"email = "ada@*""#), prefix(false, "ada@"));
    assert_eq!(parse("email != ada*"), prefix(true, "ada"));
    assert_eq!(parse("email = *"), prefix(false, ""));
    assert_eq!(parse(r#"email = "a\*""#), email("a*"));
    assert_eq!(parse(r#"email = "a\"b\\c'd""#), email(r#"a"b\c'd"#));
    assert_eq!(parse(r#"email = 'AND'"#), email("AND"));
}

#[test]
fn faults_are_named_with_their_position() {
    assert_eq!(refusal(r#"email = "*@example.com""#), (11, Fault::Star));
    assert_eq!(refusal("email > a*"), (9, Fault::StarOperator));
    assert_eq!(refusal("create_time = 2026*"), (15, Fault::Star));
    assert_eq!(refusal("phone = 1"), (1, Fault::UnknownField));
    assert_eq!(refusal("tenant_id = 1"), (1, Fault::UnknownField));
    assert_eq!(refusal(r#""email" = 1"#), (1, Fault::UnknownField));
    assert_eq!(refusal("create_time > yesterday"), (15, Fault::Time));
    assert_eq!(refusal("email = \"a"), (9, Fault::Unterminated));
    assert_eq!(refusal(r#"email = "\n""#), (10, Fault::Escape));
    assert_eq!(refusal("email = \"a\0\""), (11, Fault::Character));
    assert_eq!(refusal("email = a\0"), (10, Fault::Character));
    assert_eq!(refusal("email ! a"), (7, Fault::Character));
    assert_eq!(refusal("email"), (6, Fault::Expected("an operator")));
    assert_eq!(refusal("email ="), (8, Fault::Expected("a value")));
    assert_eq!(refusal("email = AND"), (9, Fault::Expected("a value")));
    assert_eq!(refusal("(email = a"), (11, Fault::Expected("a closing parenthesis")));
    assert_eq!(refusal("email = a AND"), (14, Fault::Expected("a comparison")));
    let capitals = Fault::Expected("AND or OR, in capitals");
    assert_eq!(refusal("email = a and email = b"), (11, capitals));
    assert_eq!(refusal("email = a)"), (10, capitals));
    let text = "email = a)".parse::<Filter>().unwrap_err().to_string();
    assert_eq!(text, "lacks AND or OR, in capitals (at character 10)");
}

#[test]
fn length_count_and_depth_are_bounded() {
    let terms = |count: usize| vec!["email=a"; count].join(" OR ");
    assert!(terms(COMPARISONS_MAX).parse::<Filter>().is_ok());
    assert_eq!(refusal(&terms(COMPARISONS_MAX + 1)).1, Fault::TooManyComparisons);
    assert_eq!(refusal(&terms(10_000)), (FILTER_CHARS_MAX + 1, Fault::TooLong));
    let nested = |depth: usize| format!("{}email=a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(nested(DEPTH_MAX).parse::<Filter>().is_ok());
    assert_eq!(refusal(&nested(DEPTH_MAX + 1)), (DEPTH_MAX + 2, Fault::TooDeep));
    assert_eq!(refusal(&"(".repeat(1_000)).1, Fault::TooDeep);
    assert_eq!(refusal(&"NOT ".repeat(400)).1, Fault::TooDeep);
    let long = format!("email={}", "\u{e4}".repeat(FILTER_CHARS_MAX - 6));
    assert!(long.parse::<Filter>().is_ok());
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        let _ = text.parse::<Filter>();
    }

    #[test]
    fn no_mixture_of_tokens_makes_the_parser_panic(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "email", "display_name", "create_time", "AND", "OR", "NOT", "(", ")", "=", "!=", "<", ">=",
                "\"a*\"", "'", "\"", "\\", "*", "2026-01-01T00:00:00Z", "\0", "!",
            ]),
            0..60,
        ),
    ) {
        if let Err(error) = words.join(" ").parse::<Filter>() {
            prop_assert!(error.at >= 1);
        }
    }

    #[test]
    fn any_value_can_be_quoted(value in "[^\\p{Cc}]{0,60}") {
        let mut quoted = String::new();
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '*') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        prop_assert_eq!(parse(&format!("email = \"{quoted}\"")), email(&value));
    }
}
