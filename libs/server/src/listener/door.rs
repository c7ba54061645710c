//! Who comes in: a connection from when it is accepted until somebody has begun to speak HTTP/2 on it.
//!
//! Where there are certificates, who connects must show one (mutual TLS), unless the deployment is changing over.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rowhouse_tls::{Certificates, PeerService, Refused, Replaced};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::either::Either;

use super::stream::Begun;

/// Longest time from the connection to the first words of HTTP/2, the handshake of TLS included.
const BEGIN_MAX: Duration = Duration::from_secs(10);

/// The first byte of a handshake of TLS (RFC 8446, 5.1). HTTP/2 without TLS begins with `P`.
const HANDSHAKE_BYTE: u8 = 22;

/// How often a refusal of one kind is told in the logs; all are counted. Anybody who reaches the listener can be refused as
/// often as they like.
const TOLD_EVERY: Duration = Duration::from_secs(10);

const REFUSED: &str = "rowhouse_connections_refused_total";

/// The door of one listener.
pub(super) struct Door {
    listener: &'static str,
    certificates: Option<Certificates>,
    /// When each of the reasons was told last.
    told: Mutex<BTreeMap<&'static str, Instant>>,
}

/// A connection on which somebody speaks.
pub(super) struct Entered {
    pub(super) stream: Begun<Either<rowhouse_tls::ServerStream, TcpStream>>,
    /// Who has shown a certificate, and what tells when ours are no longer those that it was judged by.
    pub(super) known: Option<(PeerService, Replaced)>,
}

/// Why somebody was not let in.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("no certificate of a service was shown")]
    Certificate(#[source] Refused),
    #[error("a certificate must be shown")]
    Plain,
    #[error("nothing was said in time")]
    Late,
    #[error("it is not HTTP/2")]
    Other(#[from] io::Error),
}

// === impl Door ===

impl Door {
    pub(super) fn new(listener: &'static str, certificates: Option<Certificates>) -> Self {
        Self {
            listener,
            certificates,
            told: Mutex::default(),
        }
    }

    /// Which listener it is of.
    pub(super) fn listener(&self) -> &'static str {
        self.listener
    }

    /// Lets a connection in, or says in the logs why not.
    pub(super) async fn enter(&self, stream: TcpStream, peer: SocketAddr) -> Option<Entered> {
        let entered = timeout(BEGIN_MAX, self.judge(stream)).await;
        match entered.unwrap_or(Err(Fault::Late)) {
            Ok(entered) => Some(entered),
            Err(fault) => {
                self.tell(&fault, peer);
                None
            }
        }
    }

    async fn judge(&self, stream: TcpStream) -> Result<Entered, Fault> {
        // Answers are small and waited for.
        stream.set_nodelay(true)?;
        let Some(certificates) = &self.certificates else {
            return plain(stream).await;
        };
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(Fault::Other(io::ErrorKind::UnexpectedEof.into()));
        }
        if first != [HANDSHAKE_BYTE] {
            return if certificates.takes_plain() {
                plain(stream).await
            } else {
                Err(Fault::Plain)
            };
        }
        // Before the handshake: what is replaced meanwhile ends the connection.
        let replaced = certificates.replaced();
        let (stream, peer) = certificates.accept(stream).await.map_err(Fault::Certificate)?;
        Ok(Entered {
            stream: Begun::read(Either::Left(stream)).await?,
            known: Some((peer, replaced)),
        })
    }

    fn tell(&self, fault: &Fault, peer: SocketAddr) {
        let (listener, why) = (self.listener, fault.name());
        metrics::counter!(REFUSED, "listener" => listener, "why" => why).increment(1);
        let is_harmless = matches!(fault, Fault::Late | Fault::Other(_));
        if is_harmless || !self.may_tell(why) {
            tracing::debug!(listener, %peer, why, "a connection was refused");
            return;
        }
        let cause = std::error::Error::source(fault).map(ToString::to_string);
        tracing::warn!(listener, %peer, why, cause, "a connection was refused; more may be, which are only counted");
    }

    fn may_tell(&self, why: &'static str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let may = told.get(why).is_none_or(|told| told.elapsed() >= TOLD_EVERY);
        if may {
            told.insert(why, Instant::now());
        }
        may
    }
}

async fn plain(stream: TcpStream) -> Result<Entered, Fault> {
    Ok(Entered {
        stream: Begun::read(Either::Right(stream)).await?,
        known: None,
    })
}

// === impl Fault ===

impl Fault {
    fn name(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "certificate",
            Self::Plain => "plain",
            Self::Late => "late",
            Self::Other(_) => "not_http2",
        }
    }
}

#[cfg(test)]
mod tests {
    use rowhouse_config::section::Tls;
    use rowhouse_context::ServiceName;
    use rowhouse_devkit::authority::Authority;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::super::stream::PREFACE;
    use super::*;

    async fn strict() -> Option<Certificates> {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("ours").unwrap());
        let folder = folder.path().join("tls");
        let issued = authority.issue(&["crm.rowhouse.internal"]).unwrap();
        issued.write(&folder, &[&authority]).unwrap();
        let section = Tls { folder, plain: false };
        Some(Certificates::load(ServiceName::Crm, &section).await.unwrap())
    }

    /// What comes of a connection on which these bytes are sent and no more.
    async fn enter(door: &Door, bytes: &[u8]) -> Result<Entered, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(bytes).await.unwrap();
        let entered = timeout(BEGIN_MAX, door.judge(stream)).await;
        drop(client);
        entered.unwrap_or(Err(Fault::Late))
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_let_go_after_ten_seconds() {
        let door = Door::new("test", None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let begun = Instant::now();
        assert!(door.enter(stream, peer).await.is_none());
        assert!((BEGIN_MAX..BEGIN_MAX * 2).contains(&begun.elapsed()));
        drop(client);
        // Half of a preface is nothing said.
        let half = PREFACE.get(..12).unwrap();
        assert!(matches!(enter(&door, half).await, Err(Fault::Late)));
    }

    #[tokio::test]
    async fn who_speaks_plainly_enters_where_nobody_needs_a_certificate() {
        let plain = Door::new("test", None);
        assert!(
            enter(&plain, PREFACE)
                .await
                .is_ok_and(|entered| entered.known.is_none())
        );
        let other = b"GET / HTTP/1.1\r\nhost: somewhere\r\n\r\n";
        assert!(matches!(enter(&plain, other).await, Err(Fault::Other(_))));
        let strict = Door::new("test", strict().await);
        assert!(matches!(enter(&strict, PREFACE).await, Err(Fault::Plain)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_kind_of_refusal_does_not_hide_another_in_the_logs() {
        let door = Door::new("test", None);
        assert!(door.may_tell("plain"));
        assert!(!door.may_tell("plain") && door.may_tell("certificate"));
        tokio::time::advance(TOLD_EVERY).await;
        assert!(door.may_tell("plain"));
    }
}
