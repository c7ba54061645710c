//! ContactService.

use rowhouse_proto::crm::v1 as proto;
use rowhouse_proto::crm::v1::contact_service_server::ContactService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::actions::Contacts;
use super::wire;

type Answer<T> = Result<Response<T>, Status>;

/// Serves contacts.
#[derive(Debug)]
pub(crate) struct ContactRpc {
    contacts: Contacts,
}

// === impl ContactRpc ===

impl ContactRpc {
    pub(crate) fn new(contacts: Contacts) -> Self {
        Self { contacts }
    }
}

#[tonic::async_trait]
impl ContactService for ContactRpc {
    async fn create_contact(&self, request: Request<proto::CreateContactRequest>) -> Answer<proto::Contact> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let new = wire::new_contact(request.get_ref())?;
        let contact = self.contacts.create(&ctx, new).await.map_err(Failure::from)?;
        Ok(Response::new(wire::contact(&contact)))
    }

    async fn get_contact(&self, request: Request<proto::GetContactRequest>) -> Answer<proto::Contact> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let id = wire::id(&request.get_ref().id)?;
        let contact = self.contacts.get(&ctx, id).await.map_err(Failure::from)?;
        Ok(Response::new(wire::contact(&contact)))
    }

    async fn list_contacts(&self, request: Request<proto::ListContactsRequest>) -> Answer<proto::ListContactsResponse> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let query = wire::list_query(request.into_inner())?;
        let page = self.contacts.list(&ctx, &query).await.map_err(Failure::from)?;
        Ok(Response::new(proto::ListContactsResponse {
            contacts: page.items.iter().map(wire::contact).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_contact(&self, request: Request<proto::UpdateContactRequest>) -> Answer<proto::Contact> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let (change, patch) = wire::change(request.get_ref())?;
        let contact = self.contacts.update(&ctx, change, &patch).await;
        let contact = contact.map_err(Failure::from)?;
        Ok(Response::new(wire::contact(&contact)))
    }

    async fn delete_contact(&self, request: Request<proto::DeleteContactRequest>) -> Answer<proto::Contact> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let change = wire::id_and_etag(&request.get_ref().id, &request.get_ref().etag)?;
        let contact = self.contacts.delete(&ctx, change).await.map_err(Failure::from)?;
        Ok(Response::new(wire::contact(&contact)))
    }

    async fn undelete_contact(&self, request: Request<proto::UndeleteContactRequest>) -> Answer<proto::Contact> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let change = wire::id_and_etag(&request.get_ref().id, &request.get_ref().etag)?;
        let contact = self.contacts.undelete(&ctx, change).await.map_err(Failure::from)?;
        Ok(Response::new(wire::contact(&contact)))
    }

    async fn reassign_contacts(
        &self,
        request: Request<proto::ReassignContactsRequest>,
    ) -> Answer<proto::ReassignContactsResponse> {
        let ctx = rowhouse_middleware::ctx(&request)?;
        let asked = wire::reassignment(request.into_inner())?;
        let done = self.contacts.reassign(&ctx, &asked).await.map_err(Failure::from)?;
        Ok(Response::new(wire::reassigned(done)))
    }
}
