//! Who may name what: the walls that the compiler does not see.

use super::{assert_none, sources};

/// A word that only some files may use.
struct Wall {
    rule: &'static str,
    reason: &'static str,
    word: fn(&str) -> bool,
    allowed: fn(&str) -> bool,
}

const WALLS: &[Wall] = &[
    Wall {
        rule: "only rpc, wire, app and the libs that speak gRPC name tonic",
        reason: "tonic is being succeeded by another crate; domain code must outlive it",
        word: |line| line.contains("tonic::") || line.contains("use tonic"),
        allowed: |path| {
            let libs = [
                "libs/proto/",
                "libs/status/",
                "libs/middleware/",
                "libs/server/",
                "libs/client/",
                "libs/devkit/",
                "libs/xtask/",
                "tests/",
            ];
            let files = ["/rpc.rs", "/wire.rs", "/app.rs", "/tests.rs"];
            libs.iter().any(|lib| path.starts_with(lib))
                || files.iter().any(|file| path.ends_with(file))
                || path.contains("/rpc/")
                || path.contains("/wire/")
                || path.contains("/tests/")
                || path.contains("/peer")
        },
    },
    Wall {
        rule: "only libs/db opens a connection to PostgreSQL",
        reason: "a connection made elsewhere has entered no tenant's home",
        word: |line| {
            [
                "PgPool::connect",
                "PgPoolOptions::new",
                "PgConnection::connect",
                "tokio_postgres::connect",
                "PgConnectOptions",
            ]
            .iter()
            .any(|call| line.contains(call))
        },
        allowed: |path| path.starts_with("libs/db/") || path.starts_with("libs/devkit/") || is_test(path),
    },
    Wall {
        rule: "only libs/db names the driver of tenants' data",
        reason: "stores see TenantTx, which supplies the tenant, and nothing beneath it",
        word: |line| line.contains("tokio_postgres"),
        allowed: |path| {
            path.starts_with("libs/db/")
                || path.starts_with("libs/devkit/")
                || path.starts_with("libs/xtask/")
                || is_test(path)
        },
    },
    Wall {
        rule: "only stores hold SQL",
        reason: "who reads a statement must find the others beside it",
        word: |line| {
            let line = line.trim_start().trim_start_matches(['"', 'r', '#']);
            ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "WITH "]
                .iter()
                .any(|verb| line.starts_with(verb))
        },
        allowed: |path| {
            path.contains("store")
                || path.starts_with("libs/db/")
                || path.starts_with("libs/mq/")
                || path.starts_with("libs/xtask/src/bench/")
                || path.starts_with("libs/devkit/")
                || is_test(path)
        },
    },
    Wall {
        rule: "nobody sets a session's state or a search path outside libs/db",
        reason: "behind a pooler a session's state belongs to whoever comes next",
        word: |line| {
            // `SET role = $2` in an UPDATE is a column's new value.
            let upper = line.to_uppercase().replace("SET ROLE =", "");
            ["SET SEARCH_PATH", "SET SESSION", "SET ROLE", "SET LOCAL", "DISCARD ALL"]
                .iter()
                .any(|word| upper.contains(word))
        },
        allowed: |path| {
            path.starts_with("libs/db/")
                || path.starts_with("libs/devkit/")
                // The bare DDL that libs/db's is measured against, on a connection that is the bench's alone.
                || path == "libs/xtask/src/bench/provision/ddl.rs"
                || is_test(path)
        },
    },
];

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("tests.rs") || path.contains("/tests/")
}

/// Lines of code of a file with their numbers, without comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
}

fn breaches(wall: &Wall, sources: &[(String, String)]) -> Vec<String> {
    let outside = sources
        .iter()
        .filter(|(path, _)| !(wall.allowed)(path) && path != "tests/house/walls.rs");
    outside
        .flat_map(|(path, text)| {
            code_lines(text)
                .filter(|(_, line)| (wall.word)(line))
                .map(move |(n, line)| format!("{path}:{n}: {}", line.trim()))
        })
        .collect()
}

#[test]
fn every_word_stays_behind_its_wall() {
    let sources = sources();
    for wall in WALLS {
        assert_none(wall.rule, wall.reason, &breaches(wall, &sources));
    }
}

/// The control: each wall notices a breach.
#[test]
fn a_breach_is_noticed() {
    let line = "use tonic::Status; PgPool::connect(url) tokio_postgres::Row SET LOCAL ROLE x\n\"SELECT 1\"";
    let planted = [("services/crm/src/contact.rs".to_owned(), line.to_owned())];
    for wall in WALLS {
        assert!(!breaches(wall, &planted).is_empty(), "{} notices nothing", wall.rule);
    }
}

/// No service imports another; a lib never knows a service.
#[test]
fn services_do_not_know_each_other() {
    let names = ["rowhouse_tenant", "rowhouse_auth", "rowhouse_crm", "rowhouse_worker"];
    let mut found = Vec::new();
    for (path, text) in sources()
        .iter()
        .filter(|(path, _)| path.starts_with("libs/") || path.starts_with("services/"))
    {
        for name in names {
            let own = format!("services/{}/", name.trim_start_matches("rowhouse_"));
            let names_it = |line: &str| line.contains(&format!("{name}::")) || line.contains(&format!("use {name};"));
            // Names of database roles look the same and end differently; `::` tells a crate.
            if !path.starts_with(&own) && !path.starts_with("libs/devkit/") {
                found.extend(
                    code_lines(text)
                        .filter(|(_, line)| names_it(line))
                        .map(|(n, line)| format!("{path}:{n}: {}", line.trim())),
                );
            }
        }
    }
    assert_none(
        "no service imports another",
        "it calls the generated client, or reacts to an event",
        &found,
    );
}
