//! Lists: orders, pages, filters, tokens.

use rowhouse_status::{Failure, Reason};
use rowhouse_types::{ContactId, TenantId, Text};

use super::bench::{Bench, PLACEMENTS, named};
use crate::contact::actions::{Change, ListQuery, NewContact};
use crate::contact::{Contact, OptionalEmail};
use crate::error::Error;

/// What a list asks for, one row a page where nothing else is said.
fn query(filter: &str, order: &str) -> ListQuery {
    ListQuery {
        size: 100,
        token: String::new(),
        filter: filter.parse().unwrap(),
        order: order.parse().unwrap(),
        show_deleted: false,
    }
}

fn with_email(name: &str, email: &str) -> NewContact {
    let mut new = named(name);
    new.details.email = OptionalEmail::parse(email).unwrap();
    new
}

async fn fill(bench: &Bench, tenant: TenantId, contacts: &[(&str, &str)]) -> Vec<Contact> {
    let ctx = bench.ctx(tenant);
    let mut created = Vec::new();
    for (name, email) in contacts {
        created.push(bench.contacts.create(&ctx, with_email(name, email)).await.unwrap());
    }
    created
}

async fn names(bench: &Bench, query: ListQuery) -> Vec<String> {
    let page = bench.contacts.list(&bench.ctx(bench.one), &query).await.unwrap();
    assert_eq!(page.next_page_token, "");
    page.items
        .into_iter()
        .map(|contact| contact.details.display_name.to_string())
        .collect()
}

const PEOPLE: [(&str, &str); 7] = [
    ("bob", "bob@example.com"),
    ("Ada", "Ada@Example.com"),
    ("ada", ""),
    ("\u{c9}mile", "emile@example.org"),
    ("100% _x\\y", "percent@example.com"),
    ("Bob", "bob@example.com"),
    ("Zo\u{eb}", "zoe@example.com"),
];

#[tokio::test]
async fn every_order_leads_through_all_contacts_exactly_once_in_both_directions() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_orders", placement).await;
        // A neighbour has the same, in the same tables where the placement has them so.
        fill(&bench, bench.two, &PEOPLE).await;
        let created = fill(&bench, bench.one, &PEOPLE).await;
        let ctx = bench.ctx(bench.one);
        for field in ["email", "display_name", "create_time", "update_time"] {
            let mut seen: Vec<Vec<ContactId>> = Vec::new();
            for order in [field.to_owned(), format!("{field} desc")] {
                for size in [1, 2, 3, 100] {
                    let mut ids = Vec::new();
                    let mut page = ListQuery {
                        size,
                        ..query("", &order)
                    };
                    loop {
                        let answer = bench.contacts.list(&ctx, &page).await.unwrap();
                        assert!(answer.items.len() <= size as usize);
                        ids.extend(answer.items.iter().map(|contact| contact.id));
                        if answer.next_page_token.is_empty() {
                            break;
                        }
                        page.token = answer.next_page_token;
                    }
                    seen.push(ids);
                }
            }
            let (up, down) = seen.split_at(4);
            assert!(
                up.iter().all(|ids| *ids == up[0]) && up[0].len() == created.len(),
                "{field}"
            );
            let reversed: Vec<ContactId> = up[0].iter().rev().copied().collect();
            assert!(down.iter().all(|ids| *ids == reversed), "{field}");
        }
        assert_eq!(
            names(&bench, query("", "display_name")).await,
            ["100% _x\\y", "Ada", "ada", "bob", "Bob", "Zo\u{eb}", "\u{c9}mile"]
        );
        assert_eq!(names(&bench, query("", "")).await.first().unwrap(), "Zo\u{eb}");
    }
}

#[tokio::test]
async fn filters_mean_what_they_say() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_filters", placement).await;
        // A neighbour has the same, in the same tables where the placement has them so.
        fill(&bench, bench.two, &PEOPLE).await;
        let created = fill(&bench, bench.one, &PEOPLE).await;
        let third = created[2].created_at.to_rfc3339();
        let cases: [(&str, &[&str]); 15] = [
            ("email = \"ADA@example.COM\"", &["Ada"]),
            ("email = bob@example.com", &["bob", "Bob"]),
            ("email = \"\"", &["ada"]),
            ("display_name = ada*", &["Ada", "ada"]),
            ("display_name = \"100% _x*\"", &["100% _x\\y"]),
            (r#"display_name = "100% _x\\y""#, &["100% _x\\y"]),
            // LIKE's own wildcards are nothing special.
            ("display_name = \"%*\"", &[]),
            ("display_name = \"___*\"", &[]),
            ("display_name = \"\u{e9}m*\"", &["\u{c9}mile"]),
            (
                "email != bob* AND email != \"\"",
                &["100% _x\\y", "Ada", "Zo\u{eb}", "\u{c9}mile"],
            ),
            (
                "display_name = bob AND email = x OR display_name = bob",
                &["bob", "Bob"],
            ),
            (
                "(display_name = bob AND email = x) OR display_name = ada",
                &["Ada", "ada"],
            ),
            ("NOT (display_name < bob OR display_name > bob)", &["bob", "Bob"]),
            (&format!("create_time < {third}"), &["Ada", "bob"]),
            (&format!("create_time >= \"{third}\" AND display_name = ada"), &["ada"]),
        ];
        for (filter, expected) in cases {
            assert_eq!(names(&bench, query(filter, "display_name")).await, expected, "{filter}");
        }
    }
}

#[tokio::test]
async fn deleted_contacts_are_listed_only_when_asked_for() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_deleted", placement).await;
        let created = fill(&bench, bench.one, &PEOPLE[..2]).await;
        let gone = Change {
            id: created[0].id,
            etag: None,
        };
        bench.contacts.delete(&bench.ctx(bench.one), gone).await.unwrap();
        assert_eq!(names(&bench, query("", "display_name")).await, ["Ada"]);
        let all = ListQuery {
            show_deleted: true,
            ..query("", "display_name")
        };
        assert_eq!(names(&bench, all).await, ["Ada", "bob"]);
    }
}

#[tokio::test]
async fn another_tenants_contacts_are_not_listed() {
    for placement in PLACEMENTS {
        let bench = Bench::start_in("crm_list_foreign", placement).await;
        fill(&bench, bench.one, &PEOPLE).await;
        let theirs = bench.ctx(bench.two);
        for filter in ["", "email != \"\" OR email = \"\""] {
            let page = bench.contacts.list(&theirs, &query(filter, "email")).await.unwrap();
            assert_eq!((page.items.len(), page.next_page_token.as_str()), (0, ""));
        }
    }
}

#[tokio::test]
async fn a_page_token_is_good_for_its_list_only() {
    let bench = Bench::start("crm_tokens").await;
    fill(&bench, bench.one, &PEOPLE).await;
    let ctx = bench.ctx(bench.one);
    let first = ListQuery {
        size: 2,
        ..query("email != x", "email")
    };
    let token = bench.contacts.list(&ctx, &first).await.unwrap().next_page_token;
    let next = ListQuery {
        token: token.clone(),
        ..first.clone()
    };
    assert!(bench.contacts.list(&ctx, &next).await.is_ok());
    let larger = ListQuery {
        size: 3,
        ..next.clone()
    };
    assert!(bench.contacts.list(&ctx, &larger).await.is_ok());

    let elsewhere = [
        ListQuery {
            token: token.clone(),
            ..query("", "email")
        },
        ListQuery {
            token: token.clone(),
            ..query("email != x", "email desc")
        },
        ListQuery {
            token: token.clone(),
            ..query("email != x", "display_name")
        },
        ListQuery {
            show_deleted: true,
            ..next.clone()
        },
        ListQuery {
            token: format!("{token}A"),
            ..first.clone()
        },
        ListQuery {
            token: "\u{0}forged".to_owned(),
            ..first.clone()
        },
        ListQuery {
            token: "x".repeat(1 << 20),
            ..first
        },
    ];
    for query in elsewhere {
        let refused = bench.contacts.list(&ctx, &query).await.unwrap_err();
        assert!(matches!(refused, Error::PageToken), "{query:?}");
        let refused = Failure::from(refused);
        assert_eq!(refused.reason(), Reason::PageTokenInvalid);
        assert_eq!(refused.violations()[0].field, "page_token");
    }
    // Another user of the tenant, and another tenant.
    for ctx in [bench.ctx(bench.one), bench.ctx(bench.two)] {
        assert!(matches!(bench.contacts.list(&ctx, &next).await, Err(Error::PageToken)));
    }
}

#[tokio::test]
async fn the_longest_names_make_tokens_that_are_taken_back() {
    let bench = Bench::start("crm_long_tokens").await;
    let ctx = bench.ctx(bench.one);
    // The longest name in bytes, and the longest one once JSON has escaped it.
    for name in ["\u{1f469}".repeat(200), "\"".repeat(200)] {
        for _ in 0..2 {
            let mut new = named("x");
            new.details.display_name = Text::parse_required(&name).unwrap();
            bench.contacts.create(&ctx, new).await.unwrap();
        }
    }
    let mut page = ListQuery {
        size: 1,
        ..query("", "display_name")
    };
    for remaining in (0..4).rev() {
        let answer = bench.contacts.list(&ctx, &page).await.unwrap();
        assert_eq!(answer.next_page_token.is_empty(), remaining == 0);
        page.token = answer.next_page_token;
    }
}
