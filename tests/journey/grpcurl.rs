//! A session of the real grpcurl, as an operator has it: list, describe, health, a call that succeeds, one that is
//! refused and prints its details decoded, and the fleet migrated as the README of the tenant service says it, to the end of
//! the stream.

use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::suite::{Listener, Process};
use serde_json::{Deserializer, Value, json};
use tokio::process::Command;

use crate::support::world::World;

struct Grpcurl<'a> {
    world: &'a World,
    token: String,
}

impl Grpcurl<'_> {
    /// Runs grpcurl against the public listener of a process.
    async fn run(&self, process: Process, flags: &[&str], what: &[&str]) -> Result<Output> {
        let tools = Checkout::find()?.rowhouse().join("tools");
        let address = self.world.suite.address(process, Listener::Public).to_string();
        let mut command = Command::new(tools.join("bin/grpcurl"));
        command
            .env("PYTHONPATH", &tools)
            .arg("-plaintext")
            .args(flags)
            .arg(address)
            .args(what);
        command
            .output()
            .await
            .context("grpcurl is fetched by `cargo xtask test`")
    }

    /// What a run prints that must succeed.
    async fn prints(&self, process: Process, flags: &[&str], what: &[&str]) -> Result<String> {
        let output = self.run(process, flags, what).await?;
        let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        ensure!(output.status.success(), "grpcurl {what:?}: {err}");
        Ok(out)
    }

    /// What a call of the migration service answers; of a stream, each message, and it must have ended without an error.
    async fn migrations(&self, method: &str, request: Value) -> Result<Vec<Value>> {
        let (authorization, request) = (self.authorization(), request.to_string());
        // Ends a stream that does not end by itself, with an error.
        let flags = ["-max-time", "30", "-H", authorization.as_str(), "-d", request.as_str()];
        let method = format!("rowhouse.tenant.v1.MigrationService/{method}");
        let printed = self.prints(Process::Tenant, &flags, &[method.as_str()]).await?;
        let messages = Deserializer::from_str(&printed).into_iter();
        messages
            .collect::<serde_json::Result<_>>()
            .with_context(|| format!("{method} prints:\n{printed}"))
    }

    fn authorization(&self) -> String {
        format!("authorization: Bearer {}", self.token)
    }
}

#[tokio::test]
async fn an_operator_looks_around_and_calls() -> Result<()> {
    let world = World::start("grpcurl").await?;
    let token = world.operator_tokens().await?.access_token;
    let grpcurl = Grpcurl { world: &world, token };

    for (process, service) in [
        (Process::Tenant, "rowhouse.tenant.v1.TenantService"),
        (Process::Auth, "rowhouse.auth.v1.AuthService"),
        (Process::Crm, "rowhouse.crm.v1.ContactService"),
        (Process::Worker, "rowhouse.worker.v1.ReportService"),
    ] {
        let listed = grpcurl.prints(process, &[], &["list"]).await?;
        assert!(
            listed.lines().any(|line| line == service),
            "{process:?} lists:\n{listed}"
        );
        let described = grpcurl.prints(process, &[], &["describe", service]).await?;
        assert!(
            described.contains(&format!("service {}", service.rsplit('.').next().unwrap())),
            "{described}"
        );
        let health = grpcurl
            .prints(
                process,
                &["-d", &format!("{{\"service\": \"{service}\"}}")],
                &["grpc.health.v1.Health/Check"],
            )
            .await?;
        assert!(health.contains("\"SERVING\""), "{process:?}: {health}");
    }

    let create =
        r#"{"tenant": {"slug": "acme", "display_name": "Acme Ltd"}, "administrator_email": "ada@acme.example"}"#;
    let authorization = grpcurl.authorization();
    let flags = ["-H", authorization.as_str(), "-d", create];
    let created = grpcurl
        .prints(
            Process::Tenant,
            &flags,
            &["rowhouse.tenant.v1.TenantService/CreateTenant"],
        )
        .await?;
    assert!(created.contains("TENANT_STATE_ACTIVE"), "{created}");

    let refused = grpcurl
        .run(
            Process::Tenant,
            &flags,
            &["rowhouse.tenant.v1.TenantService/CreateTenant"],
        )
        .await?;
    let printed = String::from_utf8(refused.stderr)?;
    assert!(!refused.status.success());
    for part in [
        "AlreadyExists",
        "google.rpc.ErrorInfo",
        "RESOURCE_ALREADY_EXISTS",
        "google.rpc.RequestInfo",
    ] {
        assert!(printed.contains(part), "{part} should be printed decoded:\n{printed}");
    }

    let created: Value = serde_json::from_str(&created)?;
    let canary = created["id"].as_str().context("the tenant has no id")?;
    an_operator_migrates(&grpcurl, canary).await
}

/// A run with canaries whose houses are at the newest version: each wave is through when it was counted.
async fn an_operator_migrates(grpcurl: &Grpcurl<'_>, canary: &str) -> Result<()> {
    let planned = grpcurl
        .migrations("PlanMigration", json!({ "participant": "crm" }))
        .await?;
    let newest = planned[0]["newestVersion"].as_i64().context("no version")?;
    let fleet = &planned[0]["servers"][0];
    assert_eq!(fleet["server"], "data1", "{planned:?}");
    assert_eq!(fleet["versions"][0]["version"], newest, "{planned:?}");

    let order = json!({
        "participant": "crm", "failure_budget": 3, "parallelism": 2, "reason": "colours",
        "waves": [{ "tenant_ids": [canary] }, { "percent": 10 }, { "percent": 100 }],
    });
    let started = grpcurl.migrations("StartMigration", order).await?;
    assert_eq!(started[0]["state"], "MIGRATION_STATE_RUNNING", "{started:?}");
    let id = started[0]["id"].as_str().context("the run has no id")?;

    let seen = grpcurl.migrations("WatchMigration", json!({ "id": id })).await?;
    assert!(seen.iter().all(|run| run["id"] == id), "{seen:?}");
    let last = seen.last().context("nothing was seen")?;
    // grpcurl leaves out what is 0.
    assert_eq!(
        (&last["state"], &last["wave"], &last["targetVersion"], &last["failed"]),
        (&json!("MIGRATION_STATE_DONE"), &json!(3), &json!(newest), &Value::Null),
        "{seen:?}"
    );
    Ok(())
}
