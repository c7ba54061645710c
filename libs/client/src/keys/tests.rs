//! Keys read from an auth that the tests lead.

use std::net::SocketAddr;
use std::sync::Mutex as StdMutex;
use std::time::UNIX_EPOCH;

use rowhouse_auth_kit::testing::Forge;
use rowhouse_auth_kit::{SigningKey, TokenError};
use rowhouse_devkit::log::Log;
use rowhouse_proto::auth::v1::auth_service_server::{AuthService, AuthServiceServer};
use rowhouse_proto::auth::v1::{
    AcceptInvitationRequest, AcceptInvitationResponse, GetJwksResponse, LoginRequest, LogoutRequest, RefreshRequest,
    TokenPair, WhoAmIRequest, WhoAmIResponse,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use tracing::Level;

use super::*;
use crate::fake::peer;

#[derive(Clone)]
struct FakeAuth {
    keys: Arc<StdMutex<Vec<Jwk>>>,
    read: Arc<watch::Sender<usize>>,
}

#[tonic::async_trait]
impl AuthService for FakeAuth {
    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        let keys = self.keys.lock().unwrap().clone();
        self.read.send_modify(|read| *read += 1);
        Ok(Response::new(GetJwksResponse { keys }))
    }

    async fn accept_invitation(
        &self,
        _: Request<AcceptInvitationRequest>,
    ) -> Result<Response<AcceptInvitationResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn login(&self, _: Request<LoginRequest>) -> Result<Response<TokenPair>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn refresh(&self, _: Request<RefreshRequest>) -> Result<Response<TokenPair>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn logout(&self, _: Request<LogoutRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn who_am_i(&self, _: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

async fn start() -> (FakeAuth, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let fake = FakeAuth {
        keys: Arc::default(),
        read: Arc::new(watch::Sender::new(0)),
    };
    let server = tonic::transport::Server::builder().add_service(AuthServiceServer::new(fake.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (fake, addr)
}

fn client(addr: SocketAddr) -> (KeysClient, Arc<AccessTokenVerifier>) {
    let verifier = Arc::new(AccessTokenVerifier::new("rowhouse"));
    let client = KeysClient::new(&peer(ServiceName::Auth, addr), Arc::clone(&verifier));
    (client, verifier)
}

fn jwk(kid: &str, seed: u8) -> Jwk {
    Jwk {
        kty: "OKP".to_owned(),
        crv: "Ed25519".to_owned(),
        kid: kid.to_owned(),
        x: SigningKey::from_seed(&[seed; 32]).unwrap().public().to_base64url(),
        alg: "EdDSA".to_owned(),
        r#use: "sig".to_owned(),
    }
}

fn token(kid: &str, seed: u8) -> String {
    let now_s = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let forge = Forge::new("rowhouse", kid, &[seed; 32], now_s).unwrap();
    forge.sign(&forge.member()).unwrap()
}

#[tokio::test]
async fn a_new_key_is_known_after_a_refresh_and_a_withdrawn_one_no_longer() {
    let (auth, addr) = start().await;
    let (client, verifier) = client(addr);
    *auth.keys.lock().unwrap() = vec![jwk("one", 1)];
    client.refresh().await;
    assert!(verifier.verify(&token("one", 1)).is_ok());
    assert_eq!(verifier.verify(&token("two", 2)), Err(TokenError::UnknownKey));

    *auth.keys.lock().unwrap() = vec![jwk("two", 2)];
    client.refresh().await;
    assert!(verifier.verify(&token("two", 2)).is_ok());
    assert_eq!(verifier.verify(&token("one", 1)), Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn keys_for_other_purposes_are_not_taken() {
    let (auth, addr) = start().await;
    let (client, verifier) = client(addr);
    let with = |change: fn(&mut Jwk)| {
        let mut key = jwk("other", 3);
        change(&mut key);
        key
    };
    *auth.keys.lock().unwrap() = vec![
        jwk("one", 1),
        with(|key| key.r#use = "enc".to_owned()),
        with(|key| key.crv = "X25519".to_owned()),
        with(|key| key.kty = "oct".to_owned()),
        with(|key| key.alg = "HS256".to_owned()),
        with(|key| key.x = "AAAA".to_owned()),
        with(|key| key.kid.clear()),
    ];
    client.refresh().await;
    assert_eq!(verifier.key_count(), 1);
}

#[tokio::test]
async fn an_auth_that_publishes_no_keys_takes_none_away() {
    let (auth, addr) = start().await;
    let (client, verifier) = client(addr);
    *auth.keys.lock().unwrap() = vec![jwk("one", 1)];
    client.refresh().await;
    auth.keys.lock().unwrap().clear();
    client.refresh().await;
    assert!(verifier.verify(&token("one", 1)).is_ok());
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_logged_when_that_begins_and_when_it_ends() {
    let (auth, addr) = start().await;
    let (client, _) = client(addr);
    let log = Log::listen("rowhouse_client", Level::INFO);
    for _ in 0..5 {
        client.inner.read().await;
    }
    *auth.keys.lock().unwrap() = vec![jwk("one", 1)];
    for _ in 0..5 {
        client.inner.read().await;
    }
    let lost = "WARN auth publishes no usable keys of access tokens; those that are known stay";
    assert_eq!(log.lines(), [lost, "INFO the keys of access tokens are read again"]);

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (client, _) = self::client(nobody);
    for _ in 0..5 {
        client.inner.read().await;
    }
    assert_eq!(log.lines()[2..], ["WARN the keys of access tokens are not read"]);
}

#[tokio::test]
async fn many_callers_with_unknown_keys_cause_few_readings() {
    let (auth, addr) = start().await;
    let (client, _) = client(addr);
    client.refresh().await;
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.refresh().await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let read = *auth.read.borrow();
    assert!((2..=3).contains(&read), "{read}");
}

/// A caller who came after a reading began waits its pause out, so that invented key ids cost auth four readings a second
/// at most. A lower bound of time: a slow machine cannot break it.
#[tokio::test]
async fn readings_one_after_the_other_keep_their_distance() {
    let (auth, addr) = start().await;
    let (client, _) = client(addr);
    let begun = Instant::now();
    for _ in 0..3 {
        client.refresh().await;
    }
    assert_eq!(*auth.read.borrow(), 3);
    assert!(begun.elapsed() >= 2 * READ_PAUSE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn keys_are_read_at_the_start_without_being_asked_for() {
    let (auth, addr) = start().await;
    let (client, verifier) = client(addr);
    *auth.keys.lock().unwrap() = vec![jwk("one", 1)];
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { client.run(stop).await }
    });
    auth.read.subscribe().wait_for(|read| *read >= 1).await.unwrap();
    stop.cancel();
    running.await.unwrap();
    drop(verifier);
}
