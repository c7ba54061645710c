//! `MailDataService`.

use std::sync::Arc;

use rowhouse_middleware::ctx;
use rowhouse_proto::auth::v1 as proto;
use rowhouse_proto::auth::v1::mail_data_service_server::MailDataService;
use rowhouse_status::Failure;
use tonic::{Request, Response, Status};

use super::{actions, wire};
use crate::account_mail;
use crate::state::State;

/// Serves `MailDataService`.
pub(crate) struct MailDataRpc {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl MailDataService for MailDataRpc {
    async fn get_invitation_mail(
        &self,
        request: Request<proto::GetInvitationMailRequest>,
    ) -> Result<Response<proto::InvitationMail>, Status> {
        let ctx = ctx(&request)?;
        let id = wire::invitation_id(request.get_ref())?;
        let mail = actions::invitation_mail(&ctx, &self.state, id).await;
        Ok(Response::new(wire::invitation_mail(mail.map_err(Failure::from)?)))
    }

    async fn get_account_mail(
        &self,
        request: Request<proto::GetAccountMailRequest>,
    ) -> Result<Response<proto::AccountMail>, Status> {
        let ctx = ctx(&request)?;
        let id = wire::account_mail_id(request.get_ref())?;
        let mail = account_mail::for_mail(&ctx, &self.state, id).await;
        Ok(Response::new(wire::account_mail(mail.map_err(Failure::from)?)))
    }

    async fn get_recipient(
        &self,
        request: Request<proto::GetRecipientRequest>,
    ) -> Result<Response<proto::Recipient>, Status> {
        let ctx = ctx(&request)?;
        let addressee = wire::addressee(request.get_ref())?;
        let person = actions::recipient(&ctx, &self.state, addressee).await;
        Ok(Response::new(wire::recipient(person.map_err(Failure::from)?)))
    }
}
