//! Every action that the log may name: what its entry says, compared with the sources and with what a scenario leaves in the log.

mod scenario;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use scenario::Entry as Told;

/// An action, the names of the facts in `before` and in `after` of its entry, and the kind of its target: that of its id, `name`
/// for what has none, or nothing. Where an action is told in several ways, each has a line.
type Line = (&'static str, Option<&'static str>, Option<&'static str>, &'static str);

const ENDED: &str = "invitations_ended invitations_ended_count keys_ended keys_ended_count";
const TEAM: &str = "display_name parent_id";
const IN_TEAM: &str = "manager user_id";
const POLICY: &str = "mail_domains password_length_min second_factor_required session_lifetime_s";
const PROGRAM: &str = "display_name role state";

/// What the scenario leaves, and nothing else.
const TOLD: &[Line] = &[
    ("account.break_glass", None, Some("reason sessions_ended"), "user"),
    ("account.break_glass", None, Some("sessions_ended"), "user"),
    (
        "account.disable",
        None,
        Some("api_keys_ended invitations_ended sessions_ended"),
        "user",
    ),
    ("account.disable", None, Some("sessions_ended"), "user"),
    ("account.enable", None, None, "user"),
    ("api_key.create", None, Some("expires service_account"), "api_key"),
    ("api_key.revoke", None, None, "api_key"),
    ("api_key.revoke", Some("service_account"), None, "api_key"),
    ("audit.export", None, Some("after_number"), "name"),
    ("delegation.issue", None, Some("platform user"), "report"),
    ("identity.create", None, None, "user"),
    ("impersonation.end", None, Some("session"), "user"),
    ("impersonation.start", None, Some("ends session"), "user"),
    ("invitation.accept", None, Some("role user"), "invitation"),
    ("invitation.create", None, Some("role"), "invitation"),
    ("invitation.revoke", None, None, "invitation"),
    ("invitation.revoke", Some("role"), None, "invitation"),
    ("login_policy.update", Some(POLICY), Some(POLICY), "tenant"),
    ("master_key.reseal", None, Some("resealed secrets unopened"), ""),
    ("member.leave", Some("role state"), Some(ENDED), "user"),
    ("member.remove", Some("role state"), Some(ENDED), "user"),
    (
        "member.update",
        Some("role state"),
        Some("invitations_ended invitations_ended_count keys_ended keys_ended_count role state"),
        "user",
    ),
    ("password.change", None, Some("sessions_ended"), "user"),
    ("platform.grant", None, Some("role"), "user"),
    (
        "platform.revoke",
        Some("role"),
        Some("api_keys_ended invitations_ended sessions_ended"),
        "user",
    ),
    ("role.create", None, Some("permissions"), "name"),
    ("role.delete", Some("permissions"), None, "name"),
    (
        "role.update",
        Some("permissions"),
        Some("invitations_ended invitations_ended_count keys_ended keys_ended_count permissions service_accounts"),
        "name",
    ),
    ("second_factor.confirm", None, None, "user"),
    ("second_factor.remove", None, None, "user"),
    ("second_factor.renew_codes", None, None, "user"),
    ("second_factor.set_up", None, None, "user"),
    ("service_account.create", None, Some(PROGRAM), "service_account"),
    ("service_account.delete", Some(PROGRAM), Some(ENDED), "service_account"),
    (
        "service_account.update",
        Some(PROGRAM),
        Some("display_name invitations_ended invitations_ended_count keys_ended keys_ended_count role state"),
        "service_account",
    ),
    ("session.end", None, None, "session"),
    ("session.end", None, Some("reason"), "session"),
    ("session.open", None, None, "session"),
    ("session.open", None, Some("from"), "session"),
    ("session.revoke", None, None, "session"),
    ("session.revoke_all", None, Some("scope sessions"), "user"),
    ("signing_key.revoke", Some("state"), Some("reason state"), "name"),
    ("signing_key.rotate", None, None, "name"),
    ("team.create", None, Some(TEAM), "team"),
    ("team.delete", Some(TEAM), None, "team"),
    ("team.remove_member", Some(IN_TEAM), None, "team"),
    ("team.set_member", None, Some(IN_TEAM), "team"),
    ("team.set_member", Some(IN_TEAM), Some(IN_TEAM), "team"),
    ("team.update", Some(TEAM), Some(TEAM), "team"),
    ("tenant.purge", None, Some("operation"), "tenant"),
    ("tenant.set_access", Some("access"), Some("access operation"), "tenant"),
];

/// Actions that need links out of mails: the file, and the test in it that asserts them.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "email.change",
        "account/tests/logs.rs",
        "a_new_address_is_told_to_every_tenant_and_stands_in_no_log",
    ),
    (
        "email.request_change",
        "account/tests/logs.rs",
        "a_new_address_is_told_to_every_tenant_and_stands_in_no_log",
    ),
    (
        "password.reset",
        "account/tests/logs.rs",
        "a_new_password_is_told_to_every_tenant_that_lets_the_person_in_by_it",
    ),
];

/// Texts of the same form that are no actions: paths of fields that actions refuse.
const PATHS: &[&str] = &[
    "member.role",
    "member.user_id",
    "role.name",
    "service_account.display_name",
    "service_account.id",
    "service_account.role",
    "team.display_name",
];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Rust files in a folder and those in it, but for tests, and for `wire.rs`, which names fields and records nothing.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        match (path.is_dir(), name.as_str()) {
            (_, "tests") | (false, "wire") => {}
            (true, _) => found.extend(files(&path)),
            (false, _) => found.push(path),
        }
    }
    found
}

/// What a source says before its tests, where they stand in it.
fn without_tests(source: &str) -> &str {
    let mut lines = source.match_indices("#[cfg(test)]\nmod ");
    let inline = lines.find(|(at, _)| source[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{')));
    inline.map_or(source, |(at, _)| &source[..at])
}

/// Whether a text has the form of an action: `noun.verb`.
fn is_action(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    text.split_once('.')
        .is_some_and(|(noun, verb)| is_word(noun) && is_word(verb))
}

/// The kind of an entry's target.
fn kind(target: &str) -> &str {
    let is_id =
        |suffix: &str| suffix.len() == 26 && suffix.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    match target.rsplit_once('_') {
        Some((kind, suffix)) if is_id(suffix) => kind,
        _ if target.is_empty() => "",
        _ => "name",
    }
}

/// The names of the facts.
fn facts(value: Option<&Value>) -> Option<String> {
    let facts: BTreeSet<&str> = value?.as_object().unwrap().keys().map(String::as_str).collect();
    Some(facts.into_iter().collect::<Vec<_>>().join(" "))
}

#[test]
fn every_action_of_the_sources_has_a_line_and_every_line_an_action() {
    let mut named = BTreeSet::new();
    for file in files(&sources()) {
        let source = std::fs::read_to_string(&file).unwrap();
        let texts = without_tests(&source).split('"');
        named.extend(texts.filter(|text| is_action(text)).map(str::to_owned));
    }
    let told: BTreeSet<&str> = TOLD.iter().map(|(action, ..)| *action).collect();
    let elsewhere: BTreeSet<&str> = ELSEWHERE.iter().map(|(action, ..)| *action).collect();
    assert_eq!(told.intersection(&elsewhere).count(), 0, "one place is enough");
    let lines = told.iter().chain(&elsewhere).chain(PATHS);
    let lines: BTreeSet<String> = lines.map(|line| (*line).to_owned()).collect();
    let (missing, dead): (Vec<_>, Vec<_>) = (named.difference(&lines).collect(), lines.difference(&named).collect());
    assert!(missing.is_empty(), "without a line: {missing:?}");
    assert!(dead.is_empty(), "without an action: {dead:?}");
}

#[test]
fn what_is_asserted_elsewhere_is() {
    for (action, file, test) in ELSEWHERE {
        let source = std::fs::read_to_string(sources().join(file)).unwrap();
        let (_, body) = source.split_once(&format!("fn {test}()")).unwrap();
        let body = body.split("\n}").next().unwrap();
        assert!(body.contains(action), "{action}: {file}");
    }
}

#[tokio::test]
async fn what_is_done_stands_in_the_log_with_what_was_before_and_after() {
    let bench = Bench::start("auth_audit_actions").await;
    let expected = scenario::play(&bench).await;
    let entries = "SELECT action, target, before, after FROM auth.audit WHERE outcome = 'done'";
    let entries: Vec<Told> = sqlx::query_as(entries).fetch_all(&bench.superuser).await.unwrap();
    let told: BTreeSet<_> = entries
        .iter()
        .map(|(action, target, before, after)| {
            let (before, after) = (facts(before.as_ref()), facts(after.as_ref()));
            (action.as_str(), before, after, kind(target))
        })
        .collect();
    let lines: BTreeSet<_> = TOLD
        .iter()
        .map(|(action, before, after, kind)| (*action, before.map(str::to_owned), after.map(str::to_owned), *kind))
        .collect();
    let (other, missing): (Vec<_>, Vec<_>) = (told.difference(&lines).collect(), lines.difference(&told).collect());
    assert!(
        other.is_empty() && missing.is_empty(),
        "told otherwise: {other:#?}, not told: {missing:#?}"
    );
    for entry in expected {
        let alike: Vec<&Told> = entries
            .iter()
            .filter(|told| told.0 == entry.0 && told.1 == entry.1)
            .collect();
        assert!(alike.contains(&&entry), "{entry:#?} is not among {alike:#?}");
    }
}
