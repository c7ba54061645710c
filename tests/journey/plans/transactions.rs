//! `concurrent_transactions`: who comes too many waits for those before, and is refused where too many wait.

use anyhow::{Context as _, Result};
use rowhouse_devkit::caller::Caller;
use rowhouse_devkit::journey::{self, BACKGROUND_MAX};
use rowhouse_devkit::suite::Process;
use rowhouse_devkit::wait;
use rowhouse_proto::common::v1::{Limits, Placement};
use rowhouse_proto::crm::v1::{Contact, GetContactRequest, ListContactsRequest, UpdateContactRequest};
use rowhouse_proto::well_known::FieldMask;
use rowhouse_types::TenantId;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tonic::Status;

use super::{anew, assert_refused, forget, raise, tenant_with};
use crate::support::database;
use crate::support::world::{Member, PLACEMENTS, World};

/// Transactions of one tenant that may wait in a process: `WAITING_MAX` of libs/db.
const WAITING_MAX: usize = 256;
/// Calls that come when so many wait.
const BEYOND: usize = 4;
/// Connections over which the calls come: a server takes 256 calls at once on each.
const CONNECTIONS: usize = 3;
/// How long whoever changes a held row waits for it here, as PostgreSQL reads it: longer than all that happens meanwhile takes
/// on a machine that runs other tests beside it.
const LOCK_WAIT_MAX: &str = "60s";

fn limits(concurrent_transactions: i32) -> Limits {
    Limits {
        concurrent_transactions: Some(concurrent_transactions),
        ..Limits::default()
    }
}

/// A tenant's two contacts, whose rows a transaction of the test holds. Whoever changes one waits for it inside a transaction of
/// their own, for longer than the 5 s that the services' logins have elsewhere ([`patient`]).
pub(super) struct Rows {
    database: Client,
    hold: String,
    ids: [String; 2],
}

// === impl Rows ===

impl Rows {
    pub(super) async fn of(world: &World, placement: Placement, member: &Member) -> Result<Self> {
        let tenant: TenantId = member.tokens.tenant_id.parse()?;
        let (database, schema) = database::home(world.suite.databases(), placement, tenant).await?;
        let login = match placement {
            // A tenant's own database and its login are named like its schema.
            Placement::Database => schema.as_str(),
            _ => "rowhouse_app",
        };
        patient(&database, login).await?;
        until_served(&member.caller).await?;
        let one = journey::create_contact(&member.caller, "One", "one@example.com").await?;
        let other = journey::create_contact(&member.caller, "Other", "other@example.com").await?;
        let tenant = tenant.uuid();
        Ok(Self {
            database,
            hold: format!("BEGIN; SELECT FROM {schema}.contacts WHERE tenant_id = '{tenant}' FOR UPDATE"),
            ids: [one.id, other.id],
        })
    }

    pub(super) async fn hold(&self) -> Result<()> {
        Ok(self.database.batch_execute(&self.hold).await?)
    }

    pub(super) async fn release(&self) -> Result<()> {
        Ok(self.database.batch_execute("ROLLBACK").await?)
    }

    /// How many transactions wait for the rows.
    pub(super) async fn waiting(&self) -> Result<usize> {
        Ok(database::held(&self.database).await?.len())
    }

    pub(super) async fn until_waiting(&self, count: usize) -> Result<()> {
        wait::until("transactions that wait for the rows", BACKGROUND_MAX, || async {
            Ok(self.waiting().await? == count)
        })
        .await
    }

    /// Changes both contacts at once.
    pub(super) fn change(&self, caller: &Caller, calls: &mut JoinSet<Result<(), Status>>) {
        for id in &self.ids {
            let (mut contacts, id) = (caller.contacts(), id.clone());
            calls.spawn(async move {
                let contact = Contact {
                    id,
                    company: "Analytical Engines".to_owned(),
                    ..Contact::default()
                };
                let request = UpdateContactRequest {
                    contact: Some(contact),
                    update_mask: Some(FieldMask {
                        paths: vec!["company".to_owned()],
                    }),
                };
                contacts.update_contact(request).await.map(drop)
            });
        }
    }

    /// Reads a contact so many times at once.
    fn read(&self, callers: &[Caller], count: usize, calls: &mut JoinSet<Result<(), Status>>) {
        for caller in callers.iter().cycle().take(count) {
            let mut contacts = caller.contacts();
            let request = GetContactRequest {
                id: self.ids[0].clone(),
            };
            calls.spawn(async move { contacts.get_contact(request).await.map(drop) });
        }
    }
}

/// Lets a login wait longer for locks in the database of this connection, and nowhere else: what is set for a role in one
/// database goes with either of them. Sessions that have begun keep what they began with, so they are ended.
async fn patient(superuser: &Client, login: &str) -> Result<()> {
    let name = superuser
        .query_one("SELECT quote_ident(current_database())", &[])
        .await?;
    let name: String = name.get(0);
    let set = format!("ALTER ROLE {login} IN DATABASE {name} SET lock_timeout = '{LOCK_WAIT_MAX}'");
    superuser.batch_execute(&set).await?;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE usename::text = $1 AND datname = current_database()";
    wait::until("the end of sessions that began before", BACKGROUND_MAX, || async {
        Ok(superuser.execute(end, &[&login]).await? == 0)
    })
    .await
}

/// Reads until crm answers: it may find the connection gone that it had.
pub(super) async fn until_served(caller: &Caller) -> Result<()> {
    wait::until("crm on a new session", BACKGROUND_MAX, || async {
        let mut contacts = caller.contacts();
        contacts.list_contacts(ListContactsRequest::default()).await?;
        Ok(true)
    })
    .await
}

/// All that is left is let through.
pub(super) async fn all_pass(mut calls: JoinSet<Result<(), Status>>) -> Result<()> {
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    Ok(())
}

#[tokio::test]
async fn a_plan_bounds_transactions_at_once_and_who_comes_too_many_waits() -> Result<()> {
    let world = World::start("plan-transactions").await?;
    let mut bounded = Vec::new();
    for placement in PLACEMENTS {
        let member = tenant_with(&world, placement, "bounded", limits(1)).await?;
        let neighbour = tenant_with(&world, placement, "neighbour", Limits::default()).await?;
        let rows = Rows::of(&world, placement, &member).await?;
        one_at_once(&world, &member, &neighbour, &rows).await?;
        bounded.push((placement, member, rows));
    }
    for (placement, member, _) in &bounded {
        raise(&world, *placement, "bounded", member, limits(2)).await?;
    }
    forget(&world, Process::Crm).await?;
    for (_, member, rows) in &bounded {
        let mut calls = JoinSet::new();
        let caller = anew(&world, member)?;
        // crm has just begun, and has asked nobody yet who this is and where they live.
        until_served(&caller).await?;
        rows.hold().await?;
        rows.change(&caller, &mut calls);
        rows.until_waiting(2).await?;
        rows.release().await?;
        all_pass(calls).await?;
    }
    Ok(())
}

/// Of two that change, one has a transaction; the other waits for its end like the readers, and so many may.
async fn one_at_once(world: &World, member: &Member, neighbour: &Member, rows: &Rows) -> Result<()> {
    let callers = (0..CONNECTIONS)
        .map(|_| anew(world, member))
        .collect::<Result<Vec<_>>>()?;
    for caller in &callers {
        until_served(caller).await?;
    }
    let mut calls = JoinSet::new();
    rows.hold().await?;
    rows.change(&member.caller, &mut calls);
    rows.until_waiting(1).await?;
    // The second change is one of those who wait.
    rows.read(&callers, WAITING_MAX - 1 + BEYOND, &mut calls);
    for _ in 0..BEYOND {
        let refused = calls.join_next().await.context("nobody is left")??.unwrap_err();
        assert_refused(&refused, member, "concurrent_transactions: at most 1");
    }
    journey::create_contact(&neighbour.caller, "A Neighbour", "neighbour@example.com").await?;
    assert_eq!(rows.waiting().await?, 1);
    rows.release().await?;
    all_pass(calls).await
}
