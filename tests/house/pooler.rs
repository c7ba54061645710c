//! TLS of the pooler in the manifests: its parts lie in several files and fit together. That they work is shown in libs/db.

use std::fs;

use super::{assert_none, root};

fn kubernetes(file: &str) -> String {
    let path = root().join("deploy/kubernetes").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A setting of one of PgBouncer's files.
fn setting<'a>(file: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = file.lines().filter_map(|line| line.split_once(" = "));
    lines.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Whether a manifest says this in one line of its own.
fn says(manifest: &str, line: &str) -> bool {
    manifest.lines().any(|found| found.trim() == line)
}

#[test]
fn what_the_poolers_configuration_includes_is_there_and_begins_no_section() {
    let mut faults = Vec::new();
    let generator = kubernetes("base/pgbouncer/kustomization.yaml");
    for (file, component) in [("client-tls.ini", "pooler-tls"), ("server-tls.ini", "postgres-tls")] {
        let include = format!("%include /etc/pgbouncer/{file}");
        if !says(&kubernetes("base/pgbouncer/pgbouncer.ini"), &include) {
            faults.push(format!("pgbouncer.ini does not include {file}"));
        }
        let replaces = kubernetes(&format!("components/{component}/kustomization.yaml"));
        for (manifest, of) in [(&generator, "base"), (&replaces, component)] {
            if !says(manifest, &format!("- {file}")) {
                faults.push(format!("{of} does not put {file} into the pod"));
            }
        }
        for place in ["base/pgbouncer", &format!("components/{component}")] {
            if kubernetes(&format!("{place}/{file}"))
                .lines()
                .any(|line| line.starts_with('['))
            {
                faults.push(format!("{place}/{file} begins a section"));
            }
        }
    }
    assert_none(
        "pgbouncer.ini is one section in three files",
        "PgBouncer does not start without a file that it includes, and a section that begins again sets all back to defaults",
        &faults,
    );
}

#[test]
fn the_pooler_shows_and_renews_the_certificate_that_it_is_given() {
    let (manifest, settings) = (
        kubernetes("components/pooler-tls/kustomization.yaml"),
        kubernetes("components/pooler-tls/client-tls.ini"),
    );
    assert_eq!(setting(&settings, "client_tls_sslmode"), Some("require"));
    assert!(says(&manifest, "mountPath: /run/secrets/tls"));
    for (name, file) in [
        ("client_tls_cert_file", "tls.crt"),
        ("client_tls_key_file", "tls.key"),
        ("client_tls_ca_file", "ca.crt"),
    ] {
        assert_eq!(
            setting(&settings, name),
            Some(format!("/run/secrets/tls/{file}").as_str())
        );
    }
    assert!(says(&manifest, "- reload-renewed.sh"), "the probe is in the pod");
    let probe =
        r#"command: ["/bin/sh", "/etc/pgbouncer/reload-renewed.sh", "/run/secrets/tls", "/run/pgbouncer/seen", "1"]"#;
    assert!(
        says(&manifest, probe),
        "without it a pooler shows a certificate of yesterday"
    );
    assert!(
        says(&manifest, "mountPath: /run/pgbouncer"),
        "the probe may write there"
    );
}

#[test]
fn who_changes_over_has_a_pooler_that_takes_both_and_is_the_same_else() {
    let settings = |component: &str| -> Vec<String> {
        let file = kubernetes(&format!("components/{component}/client-tls.ini"));
        let lines = file.lines().filter(|line| !line.starts_with(";;"));
        lines.map(str::to_owned).collect()
    };
    let both: Vec<String> = settings("pooler-tls")
        .iter()
        .map(|line| line.replace("= require", "= allow"))
        .collect();
    assert!(both.iter().any(|line| line == "client_tls_sslmode = allow"));
    assert_eq!(settings("pooler-tls-permissive"), both);
    let manifest = kubernetes("components/pooler-tls-permissive/kustomization.yaml");
    assert!(says(&manifest, "- client-tls.ini"), "it is in the pod");
    // Merged, it takes the place of the file of the component before it.
    assert!(says(&manifest, "behavior: merge"));
}

#[test]
fn crm_verifies_the_pooler_by_the_name_in_its_certificate() {
    let overlay = kubernetes("overlays/dev-mutual-tls/kustomization.yaml");
    assert!(says(&overlay, "- ../../components/pooler-tls"));
    assert!(says(&overlay, "- ROWHOUSE_DATA_URLS=secrets/data-urls.dev"));
    let url = kubernetes("overlays/dev-mutual-tls/secrets/data-urls.dev");
    let (address, query) = url.trim().split_once('?').expect("a URL with parameters");
    assert_eq!(query, "sslmode=verify-full&sslrootcert=/run/secrets/tls/ca.crt");
    let host = address.split_once('@').and_then(|(_, rest)| rest.split_once(':'));
    let (host, _) = host.expect("a host and a port");
    let certificate = kubernetes("components/pooler-tls/certificate.yaml");
    let (_, names) = certificate.split_once("dnsNames:\n").expect("names");
    let names = names.lines().map_while(|line| line.trim().strip_prefix("- "));
    assert!(
        names.into_iter().any(|name| name == host),
        "{host} is not in the certificate"
    );
}

#[test]
fn the_pooler_verifies_postgresql() {
    let (manifest, settings) = (
        kubernetes("components/postgres-tls/kustomization.yaml"),
        kubernetes("components/postgres-tls/server-tls.ini"),
    );
    assert_eq!(setting(&settings, "server_tls_sslmode"), Some("verify-full"));
    let authority = setting(&settings, "server_tls_ca_file");
    assert_eq!(authority, Some("/run/secrets/postgres-ca/ca.crt"));
    assert!(says(&manifest, "mountPath: /run/secrets/postgres-ca"));
}
