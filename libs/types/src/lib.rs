//! Ids, addresses and names: parsed once at the edge, trusted inside. No I/O.
//!
//! - [`id`]: TypeIDs, one type per resource.
//! - [`email`]: e-mail addresses and the key by which they are compared.
//! - [`slug`]: short names of tenants.
//! - [`text`]: bounded text of one line, without what makes it read other than it is.
//! - [`etag`]: revisions as opaque text.
//! - [`idempotency_key`]: what makes a call repeatable.
//! - [`limits`]: what a tenant may use.
//! - [`optional`]: texts that may be empty.
//! - [`placement`]: where a tenant's rows live.

pub mod email;
pub mod etag;
pub mod id;
pub mod idempotency_key;
pub mod limits;
pub mod optional;
pub mod placement;
pub mod slug;
pub mod text;

pub use email::Email;
pub use etag::Etag;
pub use id::{
    AccountMailId, ApiKeyId, AuditEntryId, ContactId, Id, InvitationId, MigrationRunId, OperationId, ReportId,
    ServiceAccountId, SessionId, TeamId, TenantId, UserId,
};
pub use idempotency_key::IdempotencyKey;
pub use limits::Limits;
pub use optional::optional;
pub use placement::{HomeState, Placement, ServerName};
pub use slug::Slug;
pub use text::Text;
