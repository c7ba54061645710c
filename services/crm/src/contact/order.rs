//! `order_by` of ListContacts: one field, ascending or followed by `desc` (AIP-132).

use std::str::FromStr;

/// An order of contacts. Contacts that are equal in it follow their ids, in the same direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) field: OrderField,
    pub(crate) descending: bool,
}

/// What contacts can be ordered by. Each has an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderField {
    Email,
    DisplayName,
    CreateTime,
    UpdateTime,
}

/// The text is not an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of email, display_name, create_time, update_time, optionally followed by desc")]
pub(crate) struct ParseOrderError;

// === impl Order ===

impl Default for Order {
    /// The newest first.
    fn default() -> Self {
        Self {
            field: OrderField::CreateTime,
            descending: true,
        }
    }
}

impl FromStr for Order {
    type Err = ParseOrderError;

    fn from_str(text: &str) -> Result<Self, ParseOrderError> {
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let field = match words.next() {
            None => return Ok(Self::default()),
            Some("email") => OrderField::Email,
            Some("display_name") => OrderField::DisplayName,
            Some("create_time") => OrderField::CreateTime,
            Some("update_time") => OrderField::UpdateTime,
            Some(_) => return Err(ParseOrderError),
        };
        let descending = match words.next() {
            None => false,
            Some("desc") => true,
            Some(_) => return Err(ParseOrderError),
        };
        match words.next() {
            None => Ok(Self { field, descending }),
            Some(_) => Err(ParseOrderError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_with_or_without_desc_is_read() {
        let order = |field, descending| Ok(Order { field, descending });
        assert_eq!("email".parse(), order(OrderField::Email, false));
        assert_eq!("  display_name   desc ".parse(), order(OrderField::DisplayName, true));
        assert_eq!("update_time".parse(), order(OrderField::UpdateTime, false));
        assert_eq!("".parse(), Ok(Order::default()));
        assert_eq!("create_time desc".parse(), Ok(Order::default()));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "phone",
            "email DESC",
            "email asc desc",
            "email, display_name",
            "email desc desc",
            "email;drop",
            "email\0",
            "email\tdesc",
            "tenant_id",
        ] {
            assert_eq!(text.parse::<Order>(), Err(ParseOrderError), "{text:?}");
        }
    }
}
