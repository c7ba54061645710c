//! What crm is asked.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use rowhouse_client::{IdentifiedChannel, Peer, request_as_user};
use rowhouse_context::Ctx;
use rowhouse_proto::crm::v1 as proto;
use rowhouse_proto::crm::v1::export_service_client::ExportServiceClient;
use rowhouse_types::TenantId;
use tonic::Streaming;

use super::PeerError;
use crate::report::contacts::Contact;

/// Longest wait for the next page: crm reads one in milliseconds, so this one is not coming.
const PAGE_MAX: Duration = Duration::from_secs(30);

/// Asks crm. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Crm {
    export: ExportServiceClient<IdentifiedChannel>,
}

/// All contacts of a tenant, page by page.
pub(crate) struct ContactPages {
    stream: Streaming<proto::StreamContactsResponse>,
}

/// A page of contacts.
pub(crate) struct ContactPage {
    pub(crate) contacts: Vec<Contact>,
    /// How many there were when the first page was read.
    pub(crate) total: u64,
}

// === impl Crm ===

impl Crm {
    pub(crate) fn new(peer: &Peer) -> Self {
        Self {
            export: ExportServiceClient::new(peer.channel()),
        }
    }

    /// The tenant's contacts in the order of their ids, with the rights of the person whose `token` it is.
    ///
    /// `after`: the last contact that arrived, as crm wrote its id; empty to begin.
    pub(crate) async fn contacts(
        &self,
        ctx: &Ctx,
        token: &str,
        tenant: TenantId,
        after: &str,
    ) -> Result<ContactPages, PeerError> {
        let message = proto::StreamContactsRequest {
            after_id: after.to_owned(),
        };
        let request =
            request_as_user(ctx, token, Some(tenant), message).map_err(|fault| PeerError::Later(fault.to_string()))?;
        let answer = self.export.clone().stream_contacts(request).await;
        Ok(ContactPages {
            stream: answer.map_err(PeerError::read)?.into_inner(),
        })
    }
}

// === impl ContactPages ===

impl ContactPages {
    /// The next page; nothing after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<ContactPage>, PeerError> {
        let page = tokio::time::timeout(PAGE_MAX, self.stream.message()).await;
        let page = page.map_err(|_| PeerError::Later("crm sent no page in time".to_owned()))?;
        let page = page.map_err(PeerError::read)?;
        Ok(page.map(|page| ContactPage {
            contacts: page.contacts.into_iter().map(contact).collect(),
            total: u64::try_from(page.total).unwrap_or(0),
        }))
    }
}

fn contact(contact: proto::Contact) -> Contact {
    let time = |stamp: Option<rowhouse_proto::well_known::Timestamp>| {
        let stamp = stamp?;
        let time: DateTime<Utc> = DateTime::from_timestamp(stamp.seconds, u32::try_from(stamp.nanos).ok()?)?;
        Some(time.to_rfc3339_opts(SecondsFormat::Millis, true))
    };
    Contact {
        id: contact.id,
        display_name: contact.display_name,
        email: contact.email,
        phone: contact.phone,
        company: contact.company,
        job_title: contact.job_title,
        owner_id: contact.owner_id,
        create_time: time(contact.create_time).unwrap_or_default(),
        update_time: time(contact.update_time).unwrap_or_default(),
    }
}
