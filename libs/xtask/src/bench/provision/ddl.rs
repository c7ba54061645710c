//! The DDL of a home of crm by itself: no service, no registry, one transaction and one message each. Deferred steps are left out:
//! that is an index less than a home has.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::cluster;
use rowhouse_devkit::servers::Login;
use rowhouse_devkit::suite::Suite;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bench::load::Measured;

/// What a home consists of.
pub(super) struct Ddl {
    migrations: String,
}

// === impl Ddl ===

impl Ddl {
    /// Reads crm's migrations.
    pub(super) fn read(checkout: &Checkout) -> Result<Self> {
        let folder = checkout.root().join("services/crm/migrations/tenant");
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
        let texts: Vec<String> = files
            .iter()
            .map(|file| Ok(fs::read_to_string(file)?))
            .collect::<Result<_>>()?;
        Ok(Self {
            migrations: texts.join("\n"),
        })
    }

    /// Builds `count` homes over `connections`, one after the other on each.
    pub(super) async fn build(&self, suite: &Suite, count: usize, connections: usize) -> Result<Measured> {
        let begun = Instant::now();
        let mut building = JoinSet::new();
        for _ in 0..connections {
            let url = suite.databases().data_url(Login::Owner);
            let homes: Vec<String> = (0..count / connections.max(1))
                .map(|_| self.home(Uuid::now_v7()))
                .collect();
            building.spawn(async move {
                let client = cluster::connect(&url).await?;
                let mut calls = Vec::new();
                for home in homes {
                    let call = Instant::now();
                    client.batch_execute(&home).await?;
                    calls.push(call.elapsed());
                }
                anyhow::Ok(calls)
            });
        }
        let mut calls = Vec::new();
        while let Some(done) = building.join_next().await {
            calls.extend(done??);
        }
        Ok(Measured::new(calls, begun.elapsed()))
    }

    /// One home: its schema, its tables, and the CHECK of the house's number on each, as every home has them.
    fn home(&self, tenant: Uuid) -> String {
        let schema = format!("bare_{}", tenant.simple());
        format!(
            "BEGIN; CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO rowhouse_tenant;
             SET LOCAL search_path = {schema}, ext; {migrations};
             DO $$ DECLARE part record; BEGIN
                 FOR part IN SELECT relname FROM pg_catalog.pg_depend
                             JOIN pg_catalog.pg_class ON pg_class.oid = objid AND relkind = 'r'
                             WHERE classid = 'pg_catalog.pg_class'::regclass
                                 AND refclassid = 'pg_catalog.pg_namespace'::regclass
                                 AND refobjid = to_regnamespace('{schema}') LOOP
                     EXECUTE format('ALTER TABLE {schema}.%I ADD CONSTRAINT %I CHECK (tenant_id = ''{tenant}''::uuid)',
                         part.relname, part.relname || '_house');
                 END LOOP;
             END $$; COMMIT",
            migrations = self.migrations
        )
    }
}
