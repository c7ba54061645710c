//! Rows on their way out of a statement.

use chrono::{DateTime, NaiveDate, Utc};
use rowhouse_types::Id;
use tokio_postgres::types::{FromSqlOwned, Type};
use uuid::Uuid;

use crate::Error;

/// One row of an answer.
#[derive(Debug)]
pub struct Row {
    row: tokio_postgres::Row,
}

/// A type that is read from a row.
pub trait FromRow: Sized {
    /// Names and types of the columns, in the statement's order. [`crate::testing::check_statements`] compares them
    /// with what PostgreSQL says.
    const COLUMNS: &'static [(&'static str, Type)];

    /// Reads the row.
    ///
    /// # Errors
    /// [`Error::Fault`] when a column is missing or has another type, or its value is not what the code expects.
    fn from_row(row: &Row) -> Result<Self, Error>;
}

/// A type that is read from one column.
pub trait Field: Sized {
    /// Reads column `index`.
    ///
    /// # Errors
    /// The driver's, when the column does not fit.
    fn read(row: &tokio_postgres::Row, index: usize) -> Result<Self, tokio_postgres::Error>;
}

// === impl Row ===

impl Row {
    pub(crate) fn new(row: tokio_postgres::Row) -> Self {
        Self { row }
    }

    /// The column named `name`.
    ///
    /// # Errors
    /// [`Error::Fault`] when there is none, or its type or value does not fit.
    pub fn get<T: Field>(&self, name: &'static str) -> Result<T, Error> {
        let index = self.row.columns().iter().position(|column| column.name() == name);
        let index = index.ok_or_else(|| Error::Fault(format!("column {name} is missing")))?;
        self.at(index)
    }

    /// The column at `index`, counted from 0.
    ///
    /// # Errors
    /// As [`Row::get`].
    pub fn at<T: Field>(&self, index: usize) -> Result<T, Error> {
        // The driver's text names the column and the types, never a value.
        T::read(&self.row, index).map_err(|error| Error::Fault(format!("column {index}: {error}")))
    }
}

// === impl FromRow ===

/// A statement that returns no columns.
impl FromRow for () {
    const COLUMNS: &'static [(&'static str, Type)] = &[];

    fn from_row(_: &Row) -> Result<Self, Error> {
        Ok(())
    }
}

// === impl Field ===

macro_rules! fields {
    ($($rust:ty),* $(,)?) => {$(
        impl Field for $rust {
            fn read(row: &tokio_postgres::Row, index: usize) -> Result<Self, tokio_postgres::Error> {
                plain(row, index)
            }
        }
        impl Field for Option<$rust> {
            fn read(row: &tokio_postgres::Row, index: usize) -> Result<Self, tokio_postgres::Error> {
                plain(row, index)
            }
        }
        impl Field for Vec<$rust> {
            fn read(row: &tokio_postgres::Row, index: usize) -> Result<Self, tokio_postgres::Error> {
                plain(row, index)
            }
        }
    )*};
}

fields!(
    bool,
    i16,
    i32,
    i64,
    f64,
    String,
    Uuid,
    DateTime<Utc>,
    NaiveDate,
    serde_json::Value
);

impl Field for Vec<u8> {
    fn read(row: &tokio_postgres::Row, index: usize) -> Result<Self, tokio_postgres::Error> {
        plain(row, index)
    }
}

impl Field for Option<Vec<u8>> {
    fn read(row: &tokio_postgres::Row, index: usize) -> Result<Self, tokio_postgres::Error> {
        plain(row, index)
    }
}

impl<K> Field for Id<K> {
    fn read(row: &tokio_postgres::Row, index: usize) -> Result<Self, tokio_postgres::Error> {
        plain(row, index).map(Self::from_uuid)
    }
}

impl<K> Field for Option<Id<K>> {
    fn read(row: &tokio_postgres::Row, index: usize) -> Result<Self, tokio_postgres::Error> {
        plain::<Option<Uuid>>(row, index).map(|uuid| uuid.map(Id::from_uuid))
    }
}

fn plain<T: FromSqlOwned>(row: &tokio_postgres::Row, index: usize) -> Result<T, tokio_postgres::Error> {
    row.try_get(index)
}
