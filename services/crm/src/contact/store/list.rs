//! A page of a list: filter, order and cursor as SQL, put together from fixed pieces and binds.

use chrono::{DateTime, Utc};
use rowhouse_context::Reach;
use rowhouse_db::{Sql, TenantTx};
use rowhouse_types::ContactId;
use serde::{Deserialize, Serialize};

use super::condition::matching;
use crate::contact::Contact;
use crate::contact::filter::Filter;
use crate::contact::order::{Order, OrderField};
use crate::error::Result;

/// Which contacts to list.
#[derive(Clone, Debug)]
pub(in crate::contact) struct ListScope<'a> {
    /// Whose.
    pub(in crate::contact) reach: &'a Reach,
    pub(in crate::contact) filter: &'a Filter,
    pub(in crate::contact) order: Order,
    pub(in crate::contact) show_deleted: bool,
    /// The contact before the first one.
    pub(in crate::contact) after: Option<Cursor>,
    pub(in crate::contact) limit: i64,
}

/// A place in a list: what its order compares, and the id that tells equals apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::contact) enum Cursor {
    /// In an order of texts.
    #[serde(rename = "t")]
    Text(String, ContactId),
    /// In an order of times.
    #[serde(rename = "d")]
    Time(DateTime<Utc>, ContactId),
}

// === impl Cursor ===

impl Cursor {
    /// The place of a contact.
    pub(in crate::contact) fn of(contact: &Contact, field: OrderField) -> Self {
        match field {
            OrderField::Email => Self::Text(contact.details.email.as_str().to_owned(), contact.id),
            OrderField::DisplayName => Self::Text(contact.details.display_name.to_string(), contact.id),
            OrderField::CreateTime => Self::Time(contact.created_at, contact.id),
            OrderField::UpdateTime => Self::Time(contact.updated_at, contact.id),
        }
    }
}

/// A page of contacts.
pub(in crate::contact) async fn list(tx: &mut TenantTx, scope: ListScope<'_>) -> Result<Vec<Contact>> {
    Ok(tx.fetch_page(statement(scope)).await?)
}

/// The statement of a page. Its index gives the rows in order, so that the database stops after `limit` of them.
fn statement(scope: ListScope<'_>) -> Sql<Contact> {
    let mut sql = Sql::new(
        "SELECT id, display_name, email, phone, company, job_title, owner_id, revision, created_at, updated_at, \
         deleted_at FROM contacts WHERE tenant_id = $1",
    )
    .named("contact.list");
    if !scope.show_deleted {
        sql = sql.push(" AND deleted_at IS NULL");
    }
    sql = matching(sql, scope.reach, scope.filter);
    if let Some(after) = scope.after {
        sql = follows(sql, scope.order, after);
    }
    let order = match (scope.order.field, scope.order.descending) {
        (OrderField::Email, false) => " ORDER BY email_key, id LIMIT ",
        (OrderField::Email, true) => " ORDER BY email_key DESC, id DESC LIMIT ",
        (OrderField::DisplayName, false) => " ORDER BY name_key, id LIMIT ",
        (OrderField::DisplayName, true) => " ORDER BY name_key DESC, id DESC LIMIT ",
        (OrderField::CreateTime, false) => " ORDER BY created_at, id LIMIT ",
        (OrderField::CreateTime, true) => " ORDER BY created_at DESC, id DESC LIMIT ",
        (OrderField::UpdateTime, false) => " ORDER BY updated_at, id LIMIT ",
        (OrderField::UpdateTime, true) => " ORDER BY updated_at DESC, id DESC LIMIT ",
    };
    sql.push(order).bind(scope.limit)
}

/// That a row comes after the cursor: one comparison of both columns, which the index answers.
fn follows(sql: Sql<Contact>, order: Order, after: Cursor) -> Sql<Contact> {
    let columns = match order.field {
        OrderField::Email => " AND (email_key, id) ",
        OrderField::DisplayName => " AND (name_key, id) ",
        OrderField::CreateTime => " AND (created_at, id) ",
        OrderField::UpdateTime => " AND (updated_at, id) ",
    };
    let sql = sql.push(columns).push(if order.descending { "< (" } else { "> (" });
    let (sql, id) = match after {
        // Folded by the function that folds the column, so that it is the same key.
        Cursor::Text(text, id) => (sql.push("lower(").bind(text).push(")"), id),
        Cursor::Time(time, id) => (sql.bind(time), id),
    };
    sql.push(", ").bind(id).push(")")
}

/// The text of a list of one member's own contacts, the newest first.
#[cfg(test)]
pub(in crate::contact) fn own_list(owner: rowhouse_types::UserId) -> String {
    let scope = ListScope {
        filter: &Filter::default(),
        reach: &Reach::owners([owner]),
        order: Order::default(),
        show_deleted: false,
        after: None,
        limit: 50,
    };
    statement(scope).text().to_owned()
}

#[cfg(test)]
mod tests {
    use rowhouse_types::UserId;

    use super::*;

    fn text(filter: &str, order: &str, after: Option<Cursor>) -> String {
        reaching(&Reach::All, filter, order, after)
    }

    fn reaching(reach: &Reach, filter: &str, order: &str, after: Option<Cursor>) -> String {
        let filter = filter.parse().unwrap();
        let scope = ListScope {
            reach,
            filter: &filter,
            order: order.parse().unwrap(),
            show_deleted: false,
            after,
            limit: 51,
        };
        let sql = statement(scope);
        let (_, rest) = sql.text().split_once("deleted_at IS NULL").unwrap();
        rest.to_owned()
    }

    #[test]
    fn a_filter_becomes_pieces_and_binds() {
        assert_eq!(
            text(
                "email = ada* AND create_time > 2026-01-01T00:00:00Z OR NOT display_name != x",
                "email",
                None
            ),
            " AND (email_key LIKE lower($2) AND (created_at > $3 OR NOT (name_key <> lower($4)))) ORDER BY email_key, id LIMIT $5"
        );
        assert_eq!(text("", "", None), " ORDER BY created_at DESC, id DESC LIMIT $2");
    }

    #[test]
    fn whose_contacts_they_are_comes_before_what_is_asked_for() {
        let [one, other] = [(); 2].map(|()| UserId::generate());
        assert_eq!(
            reaching(&Reach::owners([one]), "email = x OR email = y", "", None),
            " AND owner_id = $2 AND (email_key = lower($3) OR email_key = lower($4)) \
             ORDER BY created_at DESC, id DESC LIMIT $5"
        );
        for reach in [Reach::owners([one, other]), Reach::nobody()] {
            assert_eq!(
                reaching(&reach, "", "", None),
                " AND owner_id = ANY ($2) ORDER BY created_at DESC, id DESC LIMIT $3"
            );
        }
    }

    #[test]
    fn a_cursor_follows_the_order_in_both_directions() {
        let id = ContactId::generate();
        assert_eq!(
            text("", "display_name", Some(Cursor::Text("Ada".to_owned(), id))),
            " AND (name_key, id) > (lower($2), $3) ORDER BY name_key, id LIMIT $4"
        );
        assert_eq!(
            text("", "update_time desc", Some(Cursor::Time(Utc::now(), id))),
            " AND (updated_at, id) < ($2, $3) ORDER BY updated_at DESC, id DESC LIMIT $4"
        );
    }
}
