//! What one service shows and whom it trusts, as the files say now.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rowhouse_config::section::Tls;
use rowhouse_context::ServiceName;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::PeerService;
use crate::files::Files;
use crate::material::{CertificateError, Material, server_name};
use crate::name::{self, NoName};

/// How often the files are looked at. Three small reads cost nothing, and an authority that was taken away for a reason is
/// not waited for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A connection on which a caller has shown who it is.
pub type ServerStream = tokio_rustls::server::TlsStream<TcpStream>;

/// A connection on which a service has shown that it is the one that we meant.
pub type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;

const EXPIRES: &str = "rowhouse_certificate_expires_timestamp_seconds";
const READS: &str = "rowhouse_certificate_reads_total";

/// The certificates of one service. Cheap to clone; clones share what was read last.
#[derive(Clone)]
pub struct Certificates {
    inner: Arc<Inner>,
}

struct Inner {
    own: ServiceName,
    folder: PathBuf,
    plain: bool,
    looked: tokio::sync::Mutex<Looked>,
    material: watch::Sender<Arc<Material>>,
    generation: AtomicU64,
}

/// What the last look at the folder has led to.
struct Looked {
    /// What lay there.
    read: Files,
    /// What the material is made from: the same, or an older certificate beside those authorities.
    shown: Files,
}

/// Tells when the certificates that a connection was opened with are no longer those of the files.
#[derive(Clone, Debug)]
pub struct Replaced {
    material: watch::Receiver<Arc<Material>>,
}

/// The other end was not let in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The conversation failed, or a certificate does not hold.
    #[error(transparent)]
    Handshake(#[from] io::Error),
    /// The certificate holds and is no service's.
    #[error(transparent)]
    NoName(#[from] NoName),
}

// === impl Certificates ===

impl Certificates {
    /// Reads the files of service `own`, for the first time.
    ///
    /// # Errors
    /// [`CertificateError`], also for a certificate that is valid but another service's, or that no peer with the same
    /// authorities would take.
    pub async fn load(own: ServiceName, section: &Tls) -> Result<Self, CertificateError> {
        let files = Files::read(&section.folder).await?;
        let material = Material::read(&files, own)?;
        if let Some(flaw) = material.flaw {
            return Err(CertificateError::Refused(flaw));
        }
        tell_expiry(&material);
        Ok(Self {
            inner: Arc::new(Inner {
                own,
                folder: section.folder.clone(),
                plain: section.plain,
                looked: tokio::sync::Mutex::new(Looked {
                    read: files.clone(),
                    shown: files,
                }),
                material: watch::Sender::new(Arc::new(material)),
                generation: AtomicU64::new(0),
            }),
        })
    }

    /// Whether callers without TLS are taken too, on their service's token: only while a deployment changes over.
    #[must_use]
    pub fn takes_plain(&self) -> bool {
        self.inner.plain
    }

    /// Looks at the files, again and again. Never returns.
    pub async fn run(&self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused = None;
        loop {
            ticks.tick().await;
            self.look_and_tell(&mut refused).await;
        }
    }

    /// `refused`: why the last look took nothing, where it failed; to be handed to the next one.
    async fn look_and_tell(&self, refused: &mut Option<String>) {
        match self.look().await {
            Ok(true) => {
                *refused = None;
                metrics::counter!(READS, "outcome" => "taken").increment(1);
                tracing::info!("certificates or authorities were replaced");
            }
            Ok(false) => *refused = None,
            // Once, and not every second until somebody mends it.
            Err(error) => {
                let cause = error.to_string();
                if refused.as_ref() != Some(&cause) {
                    metrics::counter!(READS, "outcome" => "refused").increment(1);
                    tracing::error!(cause, "the new certificate and key are not used");
                    *refused = Some(cause);
                }
            }
        }
    }

    /// Reads the files again; whether anything of them is used from now on that was not before.
    ///
    /// Authorities are taken also where the certificate beside them cannot be used, or peers would refuse it: whom those no longer
    /// name must not be trusted because we are not trusted either. The certificate that was shown is then shown on, in the second
    /// case while it is good, and each look judges both again: one that was not valid yet will be.
    ///
    /// # Errors
    /// [`CertificateError`]; then nothing has changed. Where authorities were taken alone, the next look says why.
    pub async fn look(&self) -> Result<bool, CertificateError> {
        let mut looked = self.inner.looked.lock().await;
        let read = Files::read(&self.inner.folder).await?;
        let is_new = looked.read != read;
        if !is_new && looked.shown == read {
            return Ok(false);
        }
        let older = looked.shown.with_authorities_of(&read);
        let mut shown = read.clone();
        let mut material = match Material::read(&read, self.inner.own) {
            Ok(material) => material,
            Err(_) if older != looked.shown => {
                let material = Material::read(&older, self.inner.own)?;
                return Ok(self.take(&mut looked, Looked { read, shown: older }, material));
            }
            Err(error) => return Err(error),
        };
        if let Some(flaw) = &material.flaw {
            let kept = Material::read(&older, self.inner.own);
            let kept = kept.ok().filter(|kept| kept.flaw.is_none());
            // When it comes, and again when there is nothing better left.
            if is_new || kept.is_none() {
                metrics::counter!(READS, "outcome" => "refused").increment(1);
                tracing::error!(cause = %flaw, "peers with the same authorities will refuse the new certificate");
            }
            if let Some(kept) = kept {
                (shown, material) = (older, kept);
            }
        }
        Ok(self.take(&mut looked, Looked { read, shown }, material))
    }

    /// Shows what a look has led to; false where that is shown already.
    fn take(&self, looked: &mut Looked, now: Looked, material: Material) -> bool {
        let is_shown = looked.shown == now.shown;
        *looked = now;
        if is_shown {
            return false;
        }
        tell_expiry(&material);
        self.inner.material.send_replace(Arc::new(material));
        self.inner.generation.fetch_add(1, Ordering::Release);
        true
    }

    /// Tells when the certificates of now have been replaced. To be asked for before the connection is opened.
    #[must_use]
    pub fn replaced(&self) -> Replaced {
        Replaced {
            material: self.inner.material.subscribe(),
        }
    }

    /// How often they have been replaced: what was connected under another number should be connected anew.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.generation.load(Ordering::Acquire)
    }

    /// Answers a caller's handshake and says which service it is.
    ///
    /// # Errors
    /// [`Refused`] for whoever is no service of the suite.
    pub async fn accept(&self, stream: TcpStream) -> Result<(ServerStream, PeerService), Refused> {
        let config = self.inner.material.borrow().server.clone();
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let name = shown_name(stream.get_ref().1.peer_certificates())?;
        Ok((stream, PeerService(name)))
    }

    /// Begins a conversation with service `to`, whatever address the stream leads to.
    ///
    /// # Errors
    /// [`Refused`] when the other end is not that service. Whether it takes us is seen from what it answers.
    pub async fn connect(&self, to: ServiceName, stream: TcpStream) -> Result<ClientStream, Refused> {
        let config = self.inner.material.borrow().client.clone();
        let name = server_name(to).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        // The name as we read names: a wildcard, or one of several, would do for TLS.
        if shown_name(stream.get_ref().1.peer_certificates())? != to {
            return Err(NoName.into());
        }
        Ok(stream)
    }
}

fn shown_name(chain: Option<&[CertificateDer<'_>]>) -> Result<ServiceName, NoName> {
    let shown = chain.and_then(<[_]>::first).ok_or(NoName)?;
    name::read(shown)
}

fn tell_expiry(material: &Material) {
    metrics::gauge!(EXPIRES).set(material.expires as f64);
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("own", &self.inner.own)
            .field("folder", &self.inner.folder)
            .finish_non_exhaustive()
    }
}

// === impl Replaced ===

impl Replaced {
    /// Waits until they are.
    pub async fn wait(mut self) {
        if self.material.changed().await.is_err() {
            // Nobody is left who could replace them.
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests;
