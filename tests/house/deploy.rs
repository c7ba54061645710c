//! The manifests configure what the processes read: no more, no less.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use rowhouse_devkit::checkout::Checkout;

use super::{assert_none, root};

/// Variables that a service's binary reads, as (plain, secret), over all its subcommands.
fn variables(service: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let binary = Checkout::find()
        .and_then(|checkout| checkout.binary(&format!("rowhouse-{service}"), false))
        .expect("built by `cargo xtask test`");
    let output = Command::new(binary).arg("variables").output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut plain, mut secret) = (BTreeSet::new(), BTreeSet::new());
    for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, _, kind, ..] = words.as_slice() else {
            panic!("{service} variables printed {line:?}")
        };
        if *kind == "secret" {
            secret.insert((*name).to_owned())
        } else {
            plain.insert((*name).to_owned())
        };
    }
    assert!(
        plain.contains("ROWHOUSE_ADMIN_LISTEN"),
        "{service} variables printed {plain:?}"
    );
    (plain, secret)
}

fn manifest(service: &str, file: &str) -> String {
    fs::read_to_string(root().join("deploy/kubernetes/base").join(service).join(file)).unwrap_or_default()
}

/// Names of variables at the beginning of lines, as in a ConfigMap's data.
fn keys(config: &str) -> BTreeSet<String> {
    let keys = config
        .lines()
        .filter_map(|line| line.trim().split_once(':'))
        .map(|(key, _)| key.to_owned());
    keys.filter(|key| key.starts_with("ROWHOUSE_")).collect()
}

/// Secrets given by file, anywhere in a manifest.
fn secrets(manifest: &str) -> BTreeSet<String> {
    let words = manifest.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
    words
        .filter_map(|word| word.strip_suffix("_FILE"))
        .filter(|name| name.starts_with("ROWHOUSE_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_manifests_set_what_the_services_read() {
    let mut faults = Vec::new();
    for service in ["tenant", "auth", "crm", "worker"] {
        let (plain, secret) = variables(service);
        let config = keys(&manifest(service, "config.yaml"));
        let mounted: BTreeSet<String> = ["serve.yaml", "migrate.yaml", "provision.yaml"]
            .iter()
            .flat_map(|file| secrets(&manifest(service, file)))
            .collect();
        faults.extend(
            config
                .symmetric_difference(&plain)
                .map(|name| format!("{service}: {name} is in one of ConfigMap and config struct only")),
        );
        faults.extend(
            mounted
                .symmetric_difference(&secret)
                .map(|name| format!("{service}: secret {name} is in one of manifests and config struct only")),
        );
    }
    assert_none(
        "ConfigMaps hold what the config structs read, secrets come by file",
        "a variable that nobody reads is a setting that does nothing",
        &faults,
    );
}

#[test]
fn the_component_of_mutual_tls_changes_every_address() {
    let component = root().join("deploy/kubernetes/components/mutual-tls/kustomization.yaml");
    let component = fs::read_to_string(component).expect("the component");
    let mut faults = Vec::new();
    for service in ["tenant", "auth", "crm", "worker"] {
        let begin = format!("      name: {service}-config\n");
        let part = component.split(&begin).nth(1).unwrap_or_default();
        let part = part.split("- target:").next().unwrap_or_default();
        let config = manifest(service, "config.yaml");
        for line in config.lines().filter(|line| line.contains("http://")) {
            let (name, address) = line.trim().split_once(": ").expect("a variable");
            let address = address.trim_matches('"').replace("http://", "https://");
            let wanted = format!("path: /data/{name}\n        value: {address}");
            if !part.contains(&wanted) {
                faults.push(format!("{service}: {name} is not {address}"));
            }
        }
        if !part.contains("path: /data/ROWHOUSE_TLS_DIR") {
            faults.push(format!("{service} is not told of its certificates"));
        }
    }
    let deployments = ["tenant", "auth", "crm", "crm-provision", "worker"];
    for (deployment, service) in deployments.map(|name| (name, name.trim_end_matches("-provision"))) {
        let begin = format!("      kind: Deployment\n      name: {deployment}\n");
        let part = component.split(&begin).nth(1).unwrap_or_default();
        let part = part.split("- target:").next().unwrap_or_default();
        if !part.contains(&format!("name: {service}-tls")) || !part.contains("mountPath: /run/secrets/tls") {
            faults.push(format!("{deployment} is given no certificates"));
        }
    }
    assert_none(
        "with mutual TLS no service calls another without it",
        "a listener that takes certificates alone answers nobody else",
        &faults,
    );
}

/// What a manifest's one container requests of a node's cores, in thousandths.
fn cpu_requested(manifest: &str) -> u32 {
    let requests = manifest.split("requests:").nth(1).unwrap_or_default();
    let line = requests.lines().find_map(|line| line.trim().strip_prefix("cpu: "));
    let value = line.unwrap_or_default().trim_matches('"');
    let thousandths = match value.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().ok(),
        None => value.parse().ok().map(|cores: u32| cores * 1_000),
    };
    thousandths.unwrap_or_else(|| panic!("{value:?} is no number of cores"))
}

#[test]
fn auth_requests_half_of_the_cores_that_crm_does() {
    let [auth, crm] = ["auth", "crm"].map(|service| cpu_requested(&manifest(service, "serve.yaml")));
    assert_eq!(
        auth * 2,
        crm,
        "who floods log-ins, 20 ms of hashing each, slows log-ins before anybody's calls"
    );
}

/// A variable's value in a ConfigMap.
fn number(config: &str, name: &str) -> usize {
    let line = config
        .lines()
        .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
    let value = line.and_then(|value| value.trim_matches('"').parse().ok());
    value.unwrap_or_else(|| panic!("{name} is no number"))
}

#[test]
fn the_pooler_has_an_alias_for_every_lane_and_a_connection_for_every_neighbour() {
    let (config, pooler) = (manifest("crm", "config.yaml"), manifest("pgbouncer", "pgbouncer.ini"));
    let (lanes, slots, connections) = (
        number(&config, "ROWHOUSE_DATA_LANES"),
        number(&config, "ROWHOUSE_DATA_TENANT_SLOTS"),
        number(&config, "ROWHOUSE_DATA_LANE_SERVER_CONNECTIONS"),
    );
    assert_eq!(connections, slots + 1, "one of a lane is every neighbour's");
    let alias =
        |name: &str| format!("rowhouse_data1_{name} = host=postgres port=5432 dbname=rowhouse_data1 pool_size=");
    let wanted: Vec<String> = (0..lanes)
        .map(|lane| format!("{}{}", alias(&format!("lane_{lane:02}")), connections))
        .collect();
    let found: Vec<&str> = pooler.lines().filter(|line| line.contains("_lane_")).collect();
    assert_eq!(found, wanted, "without its alias a lane's tenants are not served");
    assert!(pooler.contains(&alias("bulk")));
}

/// The number behind `name=` in a line of PgBouncer's file.
fn of_entry(line: &str, name: &str) -> Option<usize> {
    line.split(' ')
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// A setting of PgBouncer's file that is a number.
fn setting(pooler: &str, name: &str) -> usize {
    let lines = pooler.lines().filter_map(|line| line.split_once(" = "));
    let mut values = lines
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.parse().ok());
    values.next().flatten().unwrap_or_else(|| panic!("{name} is no number"))
}

fn replicas(deployment: &str) -> usize {
    number(deployment, "replicas")
}

#[test]
fn what_the_manifests_take_of_postgresql_is_added_up_in_the_readme() {
    let (config, pooler) = (manifest("crm", "config.yaml"), manifest("pgbouncer", "pgbouncer.ini"));
    let entries = pooler
        .lines()
        .filter(|line| line.contains(" = host=") && !line.starts_with('*'));
    let entries: usize = entries
        .map(|line| of_entry(line, "pool_size").expect("a pool of its own"))
        .sum();
    let users = pooler.lines().find_map(|line| of_entry(line, "max_user_connections"));
    let each_pooler = entries + users.expect("a bound on rowhouse_pooler");
    let each_process = number(&config, "ROWHOUSE_DATA_OWN_SERVER_CONNECTIONS_MAX");
    let (poolers, processes) = (
        replicas(&manifest("pgbouncer", "pgbouncer.yaml")),
        replicas(&manifest("crm", "serve.yaml")),
    );
    let readme = fs::read_to_string(root().join("deploy/README.md")).expect("the README");
    let says = |poolers: usize, processes: usize, rest: &str| {
        let sum = poolers * each_pooler + processes * each_process;
        let said = format!("{poolers} * {each_pooler} + {processes} * {each_process} = **{sum}**{rest}");
        assert!(readme.contains(&said), "{said}");
        sum
    };
    says(poolers, processes, " connections");
    // A Deployment that is rolled out has one pod more, and PgBouncer keeps for a while what each pod of crm had that has ended.
    let rolled_out = says(poolers + 1, 2 * processes, " while both are rolled out");
    assert!(
        readme.contains(&format!("- *Each replica of crm* {each_process} to tenants' own")),
        "{each_process}"
    );
    let server = fs::read_to_string(root().join("deploy/kubernetes/components/dev-servers/postgres/postgres.yaml"));
    let server = server.expect("a server for development");
    let most = server
        .split("max_connections=")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let most: usize = most.and_then(|most| most.parse().ok()).expect("its max_connections");
    // As much again is for those who come to it directly, and the control database.
    assert!(most >= 2 * rolled_out, "{most} of {rolled_out}");
}

#[test]
fn crm_counts_its_connections_to_tenants_own_databases_as_the_pooler_keeps_them() {
    let (config, pooler) = (manifest("crm", "config.yaml"), manifest("pgbouncer", "pgbouncer.ini"));
    let of_crm = |name: &str| number(&config, &format!("ROWHOUSE_DATA_OWN_{name}"));
    let idle_ms = 1_000 * (setting(&pooler, "server_idle_timeout") + 1);
    assert_eq!(
        of_crm("POOLER_IDLE_MS"),
        idle_ms,
        "PgBouncer looks three times a second"
    );
    let own = pooler
        .lines()
        .find(|line| line.starts_with("* = "))
        .expect("an entry for all of them");
    let each = of_entry(own, "pool_size").expect("a bound on each");
    assert_eq!(of_crm("CONNECTIONS_MAX"), each, "a replica fills one pool at most");
    let poolers = replicas(&manifest("pgbouncer", "pgbouncer.yaml")) + 1;
    assert!(
        of_crm("LOGIN_CONNECTIONS_MAX") >= poolers * each,
        "a pooler that PostgreSQL refuses a connection serves its clients badly"
    );
    assert!(
        of_crm("OPEN_MAX") >= of_crm("SERVER_CONNECTIONS_MAX"),
        "the narrower bound is PostgreSQL's"
    );
}

/// PgBouncer before 1.21 mixes up what several processes have prepared, and nothing says so.
#[test]
fn statements_are_kept_where_the_pooler_keeps_them() {
    let (config, pooler) = (manifest("crm", "config.yaml"), manifest("pgbouncer", "pgbouncer.ini"));
    assert!(config.contains("ROWHOUSE_DATA_KEEPS_STATEMENTS: \"true\""));
    let kept = fs::read_to_string(root().join("libs/db/src/wire/kept.rs")).expect("what crm keeps");
    let most = kept
        .lines()
        .find_map(|line| line.strip_prefix("pub(crate) const KEPT_MAX: usize = "));
    let most: usize = most
        .and_then(|most| most.trim_end_matches(';').parse().ok())
        .expect("a number");
    assert!(
        setting(&pooler, "max_prepared_statements") >= 2 * most,
        "two versions of crm side by side"
    );
    let images = fs::read_to_string(root().join("deploy/Dockerfile")).expect("the images");
    assert!(
        images.contains("ARG POOLER_IMAGE=docker.io/library/debian:trixie-slim\n")
            && images.contains("FROM ${POOLER_IMAGE} AS pgbouncer\n"),
        "Debian 12's is 1.18"
    );
    let tools = fs::read_to_string(root().join("libs/devkit/src/servers/pgbouncer.rs")).expect("a laptop's pooler");
    let line = format!(
        "max_prepared_statements = {}",
        setting(&pooler, "max_prepared_statements")
    );
    assert!(tools.contains(&line), "what runs on a laptop is what runs in a cluster");
}

/// crm's ConfigMap says that statements are kept, and a pod of crm may start at any time and read it.
#[test]
fn crm_is_told_of_a_pooler_when_its_last_older_pod_has_gone() {
    let component = "app.kubernetes.io/component";
    let config = manifest("crm", "config.yaml");
    assert!(config.contains(&format!("    {component}: configuration\n")));
    let pooler = manifest("pgbouncer", "pgbouncer.yaml");
    assert!(pooler.contains(&format!("    {component}: pooler\n")));
    let readme = fs::read_to_string(root().join("deploy/README.md")).expect("the README");
    let recipe = readme.split("## To roll out a new version").nth(1);
    let recipe = recipe.expect("how to roll out a new version");
    let steps = [
        format!("apply -l '{component} notin (service,migrate,configuration)'"),
        format!("rollout status deployment -l {component}=pooler"),
        format!("apply -l '{component}!=service'"),
    ];
    let at: Vec<usize> = steps
        .iter()
        .map(|step| recipe.find(step.as_str()).unwrap_or_else(|| panic!("{step}")))
        .collect();
    assert!(at.is_sorted(), "an older PgBouncer mixes up what is kept");
}

#[test]
fn the_pooler_of_the_second_data_server_is_the_first_before_another_host() {
    let file = "deploy/kubernetes/components/second-data-server/pooler/pgbouncer.ini";
    let second = fs::read_to_string(root().join(file)).expect("the component");
    let first = manifest("pgbouncer", "pgbouncer.ini");
    let expected = first
        .replace("host=postgres ", "host=postgres-data2 ")
        .replace("data1", "data2");
    assert_eq!(second, expected, "what is learnt of one pooler holds for the other");
    let hosts: BTreeSet<&str> = second
        .split("host=")
        .skip(1)
        .filter_map(|rest| rest.split(' ').next())
        .collect();
    assert_eq!(
        hosts,
        BTreeSet::from(["postgres-data2"]),
        "tenants' own databases, by its entry `*`, are where their server is"
    );
}

#[test]
fn the_pooler_asks_tenants_own_databases_for_their_logins() {
    let pooler = manifest("pgbouncer", "pgbouncer.ini");
    let asked = |line: &str| line.contains("auth_user=rowhouse_pooler");
    let entries: Vec<&str> = pooler.lines().filter(|line| asked(line)).collect();
    assert!(
        matches!(entries.as_slice(), [all] if all.starts_with("* = ")),
        "who is unknown is looked for in tenants' own databases and nowhere else: {entries:?}"
    );
    let query = "auth_query = SELECT name, verifier FROM rowhouse.pooled_login($1)";
    assert!(pooler.lines().any(|line| line == query), "{query}");
    let tools = fs::read_to_string(root().join("libs/devkit/src/servers/pgbouncer.rs")).expect("a laptop's pooler");
    assert!(tools.contains(query), "what runs on a laptop is what runs in a cluster");
}

#[test]
fn the_owners_credentials_are_where_homes_are_built_only() {
    let mut faults = Vec::new();
    for service in ["tenant", "auth", "crm", "worker"] {
        let named = secrets(&manifest(service, "serve.yaml"));
        faults.extend(
            named
                .into_iter()
                .filter(|name| name.contains("OWNER"))
                .map(|name| format!("{service}: {name}")),
        );
    }
    assert_none(
        "no serving process has the owner's credentials",
        "whoever takes one over must not own the tables",
        &faults,
    );
}

#[test]
fn a_process_that_shares_secrets_with_others_is_given_those_that_it_reads() {
    let provision = manifest("crm", "provision.yaml");
    let count = |line: &str| provision.lines().filter(|found| found.trim() == line).count();
    assert!(count("- secret:") > 0);
    assert_eq!(
        count("- secret:"),
        count("items:"),
        "a Secret without items lies in the pod as a whole"
    );
    let keys = provision.lines().filter_map(|line| line.trim().strip_prefix("- key: "));
    let keys: BTreeSet<String> = keys.map(str::to_owned).collect();
    assert_eq!(keys, secrets(&provision));
    assert!(
        !keys.contains("ROWHOUSE_DATA_MASTER_KEYS_PREVIOUS"),
        "whoever takes provision over opens nothing that an older key has sealed"
    );
}
