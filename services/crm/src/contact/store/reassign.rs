//! Contacts that go from one owner to another: [`take`] locks them, [`give`] changes them, in one transaction. They are two
//! statements because ids are made here: those of entries and events, and those of contacts as the API writes them.

use rowhouse_context::Reach;
use rowhouse_db::{Sql, TenantTx};
use rowhouse_types::{ContactId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Record;
use super::condition::matching;
use super::row::{Id, Total};
use super::statement::GIVE;
use crate::contact::filter::Filter;
use crate::error::Result;

/// How many contacts are counted at most: of an owner all of whose contacts match, that is about as much work as giving 100, which
/// one statement does. It bounds what matches and not what is read (see [`left`]).
const COUNTED_MAX: i64 = 10_000;

/// Whose contacts are taken.
#[derive(Clone, Copy, Debug)]
pub(in crate::contact) struct Taking<'a> {
    /// Whose the caller may take.
    pub(in crate::contact) reach: &'a Reach,
    pub(in crate::contact) from: UserId,
    pub(in crate::contact) filter: &'a Filter,
}

/// What a hand-over did. Its names stand in rows that live for a day: change them additively.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reassigned {
    /// How many contacts were given.
    pub(crate) given: i64,
    /// How many there still are to give, counted up to 10,000; those that another call holds are among them.
    pub(crate) remaining: i64,
}

/// Locks the oldest `limit` contacts that nobody else holds.
pub(in crate::contact) async fn take(tx: &mut TenantTx, taking: Taking<'_>, limit: i64) -> Result<Vec<ContactId>> {
    let locked = tx.fetch_page(taken(taking, limit)).await?;
    Ok(locked.into_iter().map(|locked| locked.id).collect())
}

/// In the order of the index of owners, so that the database stops after `limit` matches. Rows that somebody else holds are
/// passed over, or simultaneous calls would wait for each other in all of the tenant's slots: the caller comes again for them.
fn taken(taking: Taking<'_>, limit: i64) -> Sql<Id> {
    let sql = Sql::new("SELECT id FROM contacts WHERE tenant_id = $1 AND deleted_at IS NULL AND owner_id = ");
    let sql = sql.named("contact.take").bind(taking.from);
    matching(sql, taking.reach, taking.filter)
        .push(" ORDER BY created_at, id LIMIT ")
        .bind(limit)
        .push(" FOR UPDATE SKIP LOCKED")
}

/// Gives contacts that [`take`] has locked to `to`, each with its audit entry and its event. Answers how many.
pub(in crate::contact) async fn give(
    tx: &mut TenantTx,
    contacts: &[ContactId],
    to: UserId,
    record: &Record,
) -> Result<i64> {
    let ids: Vec<Uuid> = contacts.iter().map(|id| id.uuid()).collect();
    let fresh = || -> Vec<Uuid> { contacts.iter().map(|_| Uuid::now_v7()).collect() };
    let names: Vec<String> = contacts.iter().map(ToString::to_string).collect();
    let changed = tx
        .fetch_one(
            &GIVE,
            &[
                &ids,
                &record.at,
                &fresh(),
                &fresh(),
                &record.actor,
                &record.on_behalf_of,
                &record.reason,
                &record.address,
                &record.request_id,
                &record.traceparent,
                &names,
                &to,
            ],
        )
        .await?;
    Ok(changed.total)
}

/// How many contacts there are to take, counted up to 10,000.
///
/// Asked after fewer than the limit were taken, too: those that somebody else holds remain, and a caller who is told of none
/// comes no more. Where a filter matches few, this and [`take`] read all of the owner's contacts that are of the times that the
/// filter names; only the deadline and the plan bound that.
pub(in crate::contact) async fn left(tx: &mut TenantTx, taking: Taking<'_>) -> Result<i64> {
    let sql = Sql::new(
        "SELECT count(*) AS total FROM (\
         SELECT id FROM contacts WHERE tenant_id = $1 AND deleted_at IS NULL AND owner_id = ",
    );
    let sql = sql.named("contact.left").bind(taking.from);
    let sql = matching(sql, taking.reach, taking.filter)
        .push(" LIMIT ")
        .bind(COUNTED_MAX)
        .push(") AS counted");
    let counted: Vec<Total> = tx.fetch_page(sql).await?;
    Ok(counted.first().map_or(0, |counted| counted.total))
}

/// The text that takes all of one member's contacts.
#[cfg(test)]
pub(in crate::contact) fn taken_of(owner: UserId) -> String {
    let taking = Taking {
        reach: &Reach::All,
        from: owner,
        filter: &Filter::default(),
    };
    taken(taking, 50).text().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OR binds tighter than AND in a filter and looser in SQL: without parentheses it would let go of the owner.
    #[test]
    fn owner_and_reach_hold_whatever_the_filter_says() {
        let [from, mate] = [(); 2].map(|()| UserId::generate());
        let filter = "email = x OR email = y".parse().unwrap();
        let taking = Taking {
            reach: &Reach::owners([from, mate]),
            from,
            filter: &filter,
        };
        assert_eq!(
            taken(taking, 2).text(),
            "SELECT id FROM contacts WHERE tenant_id = $1 AND deleted_at IS NULL AND owner_id = $2 AND owner_id = ANY ($3) \
             AND (email_key = lower($4) OR email_key = lower($5)) ORDER BY created_at, id LIMIT $6 \
             FOR UPDATE SKIP LOCKED"
        );
    }
}
