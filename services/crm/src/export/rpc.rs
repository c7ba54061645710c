//! ExportService.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use rowhouse_proto::crm::v1 as proto;
use rowhouse_proto::crm::v1::export_service_server::ExportService;
use rowhouse_status::Failure;
use rowhouse_types::ContactId;
use tonic::{Request, Response, Status};

use super::ContactPage;
use crate::contact::actions::Contacts;
use crate::contact::wire;

/// Serves the worker.
#[derive(Debug)]
pub(crate) struct ExportRpc {
    contacts: Contacts,
}

// === impl ExportRpc ===

impl ExportRpc {
    pub(crate) fn new(contacts: Contacts) -> Self {
        Self { contacts }
    }
}

#[tonic::async_trait]
impl ExportService for ExportRpc {
    type StreamContactsStream = Pin<Box<dyn Stream<Item = Result<proto::StreamContactsResponse, Status>> + Send>>;

    async fn stream_contacts(
        &self,
        request: Request<proto::StreamContactsRequest>,
    ) -> Result<Response<Self::StreamContactsStream>, Status> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let after = after(request.get_ref())?;
        let pages = super::contacts(self.contacts.clone(), ctx, after).await;
        let pages = pages.map_err(Failure::from)?;
        let answers = pages.map(|page| page.map(answer).map_err(|error| Failure::from(error).into()));
        Ok(Response::new(Box::pin(answers)))
    }
}

fn after(request: &proto::StreamContactsRequest) -> Result<Option<ContactId>, Failure> {
    match request.after_id.as_str() {
        "" => Ok(None),
        id => id.parse().map(Some).map_err(|fault| Failure::field("after_id", fault)),
    }
}

fn answer(page: ContactPage) -> proto::StreamContactsResponse {
    proto::StreamContactsResponse {
        contacts: page.contacts.iter().map(wire::contact).collect(),
        total: page.total,
    }
}
