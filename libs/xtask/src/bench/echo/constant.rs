//! Handlers that look at nothing and answer what a service would.

use rowhouse_proto::auth::v1::authz_service_server::AuthzService;
use rowhouse_proto::auth::v1::{
    BatchCheckRequest, BatchCheckResponse, CheckRequest, CheckResponse, ExplainRequest, ExplainResponse,
    ListMemberPermissionsRequest, ListMemberPermissionsResponse,
};
use rowhouse_proto::crm::v1::contact_service_server::ContactService;
use rowhouse_proto::crm::v1::{
    Contact, CreateContactRequest, DeleteContactRequest, GetContactRequest, ListContactsRequest, ListContactsResponse,
    ReassignContactsRequest, ReassignContactsResponse, UndeleteContactRequest, UpdateContactRequest,
};
use tonic::{Request, Response, Status};

/// The handlers.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Constant;

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the echo does not serve this"))
}

#[tonic::async_trait]
impl ContactService for Constant {
    async fn get_contact(&self, request: Request<GetContactRequest>) -> Result<Response<Contact>, Status> {
        Ok(Response::new(Contact {
            id: request.into_inner().id,
            display_name: "Ada Lovelace".to_owned(),
            email: "ada.lovelace@engine-works.example".to_owned(),
            phone: "+44 20 7946 0000".to_owned(),
            company: "Engine Works".to_owned(),
            job_title: "Engineer".to_owned(),
            etag: "r1".to_owned(),
            ..Contact::default()
        }))
    }

    async fn create_contact(&self, _: Request<CreateContactRequest>) -> Result<Response<Contact>, Status> {
        not_here()
    }

    async fn list_contacts(&self, _: Request<ListContactsRequest>) -> Result<Response<ListContactsResponse>, Status> {
        not_here()
    }

    async fn update_contact(&self, _: Request<UpdateContactRequest>) -> Result<Response<Contact>, Status> {
        not_here()
    }

    async fn delete_contact(&self, _: Request<DeleteContactRequest>) -> Result<Response<Contact>, Status> {
        not_here()
    }

    async fn undelete_contact(&self, _: Request<UndeleteContactRequest>) -> Result<Response<Contact>, Status> {
        not_here()
    }

    async fn reassign_contacts(
        &self,
        _: Request<ReassignContactsRequest>,
    ) -> Result<Response<ReassignContactsResponse>, Status> {
        not_here()
    }
}

#[tonic::async_trait]
impl AuthzService for Constant {
    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(CheckResponse { allowed: true }))
    }

    async fn batch_check(&self, request: Request<BatchCheckRequest>) -> Result<Response<BatchCheckResponse>, Status> {
        let request = request.into_inner();
        let allowed = vec![true; request.permissions.len() + request.checks.len()];
        Ok(Response::new(BatchCheckResponse { allowed }))
    }

    async fn list_member_permissions(
        &self,
        _: Request<ListMemberPermissionsRequest>,
    ) -> Result<Response<ListMemberPermissionsResponse>, Status> {
        not_here()
    }

    async fn explain(&self, _: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        not_here()
    }
}
