//! auth and crm in this process, answering what a test wants.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::Stream;
use rowhouse_proto::auth::v1 as auth;
use rowhouse_proto::auth::v1::delegation_service_server::{DelegationService, DelegationServiceServer};
use rowhouse_proto::auth::v1::mail_data_service_server::{MailDataService, MailDataServiceServer};
use rowhouse_proto::crm::v1 as crm;
use rowhouse_proto::crm::v1::export_service_server::{ExportService, ExportServiceServer};
use rowhouse_proto::well_known::Timestamp;
use rowhouse_status::{Failure, Reason};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

/// What the peers answer. A refusal is a reason of the suite.
#[derive(Clone, Default)]
pub(crate) struct Script {
    pub(crate) token_refused: Option<Reason>,
    pub(crate) export_refused: Option<Reason>,
    /// So many tokens are issued; then the requester is no longer a member.
    pub(crate) tokens_max: Option<usize>,
    /// So many streams are begun; then the requester has no right to them.
    pub(crate) exports_max: Option<usize>,
    /// Where the first streams end, one after the other; those that follow are whole.
    pub(crate) cuts: Vec<Cut>,
    /// As a crm that does not know the field yet.
    pub(crate) ignores_after_id: bool,
    pub(crate) invitation_gone: bool,
    /// What a mail about an account is about; none: there is nothing to write about.
    pub(crate) account_mail: Option<auth::AccountMailKind>,
    /// Of whom it tells, where it is about operators.
    pub(crate) operator_change: Option<auth::OperatorChange>,
    pub(crate) recipient_gone: bool,
    pub(crate) recipient_name: String,
    pub(crate) pages: Vec<Vec<crm::Contact>>,
}

/// Where a stream ends before its time.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    /// After so many pages.
    pub(crate) pages: usize,
    pub(crate) by: Reason,
}

/// What the peers were asked.
#[derive(Default)]
struct Seen {
    tokens: usize,
    /// Authorization and tenant of each stream.
    streams: Vec<String>,
    /// Behind which contact each stream was to begin.
    after: Vec<String>,
}

/// The running peers; they end when this is dropped.
pub(crate) struct Peers {
    url: String,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Fake {
    script: Script,
    seen: Arc<Mutex<Seen>>,
}

// === impl Peers ===

impl Peers {
    pub(crate) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let fake = Fake {
            script,
            seen: Arc::clone(&seen),
        };
        let server = tonic::transport::Server::builder()
            .add_service(DelegationServiceServer::new(fake.clone()))
            .add_service(MailDataServiceServer::new(fake.clone()))
            .add_service(ExportServiceServer::new(fake));
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let task = tokio::spawn(async move {
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self { url, seen, task }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What crm was asked with: authorization and tenant of each call.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().streams.clone()
    }

    /// Behind which contact crm was asked to begin, each time.
    pub(crate) fn asked_after(&self) -> Vec<String> {
        self.seen.lock().unwrap().after.clone()
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn refuse(reason: Option<Reason>) -> Result<(), Status> {
    match reason {
        Some(reason) => Err(Failure::new(reason, "as the test wants it").into()),
        None => Ok(()),
    }
}

#[tonic::async_trait]
impl DelegationService for Fake {
    async fn issue_job_token(
        &self,
        request: Request<auth::IssueJobTokenRequest>,
    ) -> Result<Response<auth::IssueJobTokenResponse>, Status> {
        refuse(self.script.token_refused)?;
        let number = {
            let mut seen = self.seen.lock().unwrap();
            seen.tokens += 1;
            seen.tokens
        };
        let is_over = self.script.tokens_max.is_some_and(|max| number > max);
        refuse(is_over.then_some(Reason::SessionRevoked))?;
        let request = request.into_inner();
        Ok(Response::new(auth::IssueJobTokenResponse {
            access_token: format!("token-{number}-of-{}-for-{}", request.user_id, request.job_id),
            expire_time: None,
        }))
    }
}

#[tonic::async_trait]
impl MailDataService for Fake {
    async fn get_invitation_mail(
        &self,
        request: Request<auth::GetInvitationMailRequest>,
    ) -> Result<Response<auth::InvitationMail>, Status> {
        if self.script.invitation_gone {
            return Err(Failure::not_found("invitation", &request.get_ref().invitation_id).into());
        }
        Ok(Response::new(auth::InvitationMail {
            email: "ada@example.com".to_owned(),
            tenant_display_name: "Ada & Sons".to_owned(),
            token: "secret-token".to_owned(),
            expire_time: Some(Timestamp {
                seconds: 1_800_000_000,
                nanos: 0,
            }),
        }))
    }

    async fn get_account_mail(
        &self,
        request: Request<auth::GetAccountMailRequest>,
    ) -> Result<Response<auth::AccountMail>, Status> {
        let id = &request.get_ref().account_mail_id;
        let kind = self.script.account_mail;
        let kind = kind.ok_or_else(|| Status::from(Failure::not_found("account_mail", id)))?;
        let time = Some(Timestamp {
            seconds: 1_800_000_000,
            nanos: 0,
        });
        Ok(Response::new(auth::AccountMail {
            kind: kind.into(),
            email: "ada@example.com".to_owned(),
            display_name: "Ada".to_owned(),
            token: "secret-token".to_owned(),
            expire_time: time,
            create_time: time,
            operator_change: self.script.operator_change.clone(),
        }))
    }

    async fn get_recipient(
        &self,
        request: Request<auth::GetRecipientRequest>,
    ) -> Result<Response<auth::Recipient>, Status> {
        if self.script.recipient_gone {
            return Err(Failure::not_found("member", &request.get_ref().user_id).into());
        }
        Ok(Response::new(auth::Recipient {
            email: "ada@example.com".to_owned(),
            display_name: self.script.recipient_name.clone(),
        }))
    }
}

#[tonic::async_trait]
impl ExportService for Fake {
    type StreamContactsStream = Pin<Box<dyn Stream<Item = Result<crm::StreamContactsResponse, Status>> + Send>>;

    async fn stream_contacts(
        &self,
        request: Request<crm::StreamContactsRequest>,
    ) -> Result<Response<Self::StreamContactsStream>, Status> {
        refuse(self.script.export_refused)?;
        let text = |key: &str| {
            request
                .metadata()
                .get(key)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let (token, tenant) = (text("authorization").unwrap(), text("x-tenant-id").unwrap());
        let after = request.into_inner().after_id;
        let number = {
            let mut seen = self.seen.lock().unwrap();
            seen.streams.push(format!("{token} {tenant}"));
            seen.after.push(after.clone());
            seen.streams.len()
        };
        let is_over = self.script.exports_max.is_some_and(|max| number > max);
        refuse(is_over.then_some(Reason::PermissionMissing))?;
        let total = i64::try_from(self.script.pages.iter().map(Vec::len).sum::<usize>()).unwrap();
        let is_sent = |contact: &crm::Contact| self.script.ignores_after_id || contact.id > after;
        let mut pages: Vec<_> = self.script.pages.clone();
        for page in &mut pages {
            page.retain(is_sent);
        }
        pages.retain(|page| !page.is_empty());
        let cut = self.script.cuts.get(number - 1).copied();
        pages.truncate(cut.map_or(usize::MAX, |cut| cut.pages));
        let pages = pages
            .into_iter()
            .map(move |contacts| Ok(crm::StreamContactsResponse { contacts, total }));
        let end = cut.map(|cut| Err(Failure::new(cut.by, "as the test wants it").into()));
        Ok(Response::new(Box::pin(futures_util::stream::iter(pages.chain(end)))))
    }
}
