//! Values on their way into a statement. Built-in types only: the driver asks the catalogue about any other.

use std::fmt;

use bytes::BytesMut;
use chrono::{DateTime, NaiveDate, Utc};
use rowhouse_types::Id;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use uuid::Uuid;

/// Why a value cannot be bound: the statement's declared type is another one.
type BindError = Box<dyn std::error::Error + Sync + Send>;

/// A value that can be bound to `$2` and following. Implemented for `bool`, `i16`, `i32`, `i64`, `f64`, text, `Uuid`,
/// `DateTime<Utc>`, `NaiveDate`, `serde_json::Value`, bytes, typed ids, and `Option`, `Vec` and `&[]` of these.
pub trait Bind: Sync {
    /// Writes the value as PostgreSQL's binary form of `kind`.
    ///
    /// # Errors
    /// When the value's type does not fit `kind`.
    fn write(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, BindError>;
}

/// An owned value whose PostgreSQL type follows from its Rust type: what [`crate::Sql`] binds.
pub trait Value: Bind + Send + 'static {
    /// The type.
    const TYPE: Type;
}

/// A value as the driver wants it.
pub(crate) struct Wire<'a> {
    pub(crate) value: &'a dyn Bind,
}

macro_rules! binds {
    ($($rust:ty),* $(,)?) => {$(
        impl Bind for $rust {
            fn write(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, BindError> {
                self.to_sql_checked(kind, out)
            }
        }
    )*};
}

macro_rules! values {
    ($($rust:ty, $kind:ident, $array:ident;)*) => {$(
        impl Value for $rust {
            const TYPE: Type = Type::$kind;
        }
        impl Value for Vec<$rust> {
            const TYPE: Type = Type::$array;
        }
        binds!($rust, Vec<$rust>, [$rust], Vec<Option<$rust>>);
    )*};
}

binds!(str, [&str], Vec<&str>, Vec<u8>, [u8]);

values! {
    bool, BOOL, BOOL_ARRAY;
    i16, INT2, INT2_ARRAY;
    i32, INT4, INT4_ARRAY;
    i64, INT8, INT8_ARRAY;
    f64, FLOAT8, FLOAT8_ARRAY;
    String, TEXT, TEXT_ARRAY;
    Uuid, UUID, UUID_ARRAY;
    DateTime<Utc>, TIMESTAMPTZ, TIMESTAMPTZ_ARRAY;
    NaiveDate, DATE, DATE_ARRAY;
    serde_json::Value, JSONB, JSONB_ARRAY;
}

impl Value for Vec<u8> {
    const TYPE: Type = Type::BYTEA;
}

impl<K> Bind for Id<K> {
    fn write(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, BindError> {
        self.uuid().to_sql_checked(kind, out)
    }
}

impl<K: 'static> Value for Id<K> {
    const TYPE: Type = Type::UUID;
}

impl<K> Bind for Vec<Id<K>> {
    fn write(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, BindError> {
        let uuids: Vec<Uuid> = self.iter().map(Id::uuid).collect();
        uuids.to_sql_checked(kind, out)
    }
}

impl<K: 'static> Value for Vec<Id<K>> {
    const TYPE: Type = Type::UUID_ARRAY;
}

impl<T: Bind> Bind for Option<T> {
    fn write(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, BindError> {
        match self {
            Some(value) => value.write(kind, out),
            None => Ok(IsNull::Yes),
        }
    }
}

impl<T: Value> Value for Option<T> {
    const TYPE: Type = T::TYPE;
}

impl<T: Bind + ?Sized> Bind for &T {
    fn write(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, BindError> {
        (**self).write(kind, out)
    }
}

// === impl Wire ===

impl fmt::Debug for Wire<'_> {
    /// Without the value: the driver logs binds at debug level.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bind")
    }
}

impl ToSql for Wire<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, BindError> {
        self.value.write(kind, out)
    }

    fn accepts(_: &Type) -> bool {
        // The value itself checks, in `Bind::write`.
        true
    }

    fn to_sql_checked(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, BindError> {
        self.value.write(kind, out)
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Binary
    }
}
