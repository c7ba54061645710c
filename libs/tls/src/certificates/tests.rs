//! What is taken from the files, who is let in, and what happens when the files change. Connections are real ones.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rowhouse_config::section::Tls;
use rowhouse_devkit::authority::{Authority, Issued};
use rowhouse_devkit::log::Log;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tracing::Level;

use super::*;

const CRM: &str = "crm.rowhouse.internal";
const AUTH: &str = "auth.rowhouse.internal";

/// The folder of one service.
struct Home {
    root: TempDir,
    own: ServiceName,
}

impl Home {
    fn of(own: ServiceName, issued: &Issued, trusted: &[&Authority]) -> Self {
        let home = Self {
            root: tempfile::tempdir().unwrap(),
            own,
        };
        issued.write(&home.folder(), trusted).unwrap();
        home
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("tls")
    }

    async fn load(&self) -> Result<Certificates, CertificateError> {
        let section = Tls {
            folder: self.folder(),
            plain: false,
        };
        Certificates::load(self.own, &section).await
    }
}

/// Both ends of a handshake: who the caller was taken for, and whether the caller was content. TLS 1.3 lets a client go on
/// before it is known, so it reads a byte, which only who was let in gets.
async fn meet(caller: &Certificates, expected: ServiceName, called: &Certificates) -> (Option<ServiceName>, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let answer = async {
        let (mut stream, name) = called.accept(accepted).await.ok()?;
        stream.write_all(b"!").await.ok()?;
        stream.shutdown().await.ok()?;
        Some(name)
    };
    let ask = async {
        let mut stream = caller.connect(expected, stream).await.ok()?;
        stream.read_u8().await.ok()
    };
    let (peer, read) = tokio::join!(answer, ask);
    (peer.map(|PeerService(name)| name), read.is_some())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn two_services_know_each_other_whatever_the_address() {
    let authority = Authority::new("ours").unwrap();
    // Names for other purposes stand beside the service's.
    let crm = authority.issue(&["crm", CRM, "crm.rowhouse.svc"]).unwrap();
    let auth = authority.issue(&[AUTH]).unwrap();
    let crm = Home::of(ServiceName::Crm, &crm, &[&authority]).load().await.unwrap();
    let auth = Home::of(ServiceName::Auth, &auth, &[&authority]).load().await.unwrap();
    assert_eq!(
        meet(&crm, ServiceName::Auth, &auth).await,
        (Some(ServiceName::Crm), true)
    );
    // Who dials crm's address and finds auth there says nothing to it.
    assert!(!meet(&crm, ServiceName::Worker, &auth).await.1);
}

#[tokio::test]
async fn who_is_no_service_of_ours_is_not_let_in() {
    let (ours, other) = (Authority::new("ours").unwrap(), Authority::new("other").unwrap());
    let auth = Home::of(ServiceName::Auth, &ours.issue(&[AUTH]).unwrap(), &[&ours]);
    let auth = auth.load().await.unwrap();
    // Of another authority, by a caller who trusts ours to get that far.
    let stranger = Home::of(ServiceName::Crm, &other.issue(&[CRM]).unwrap(), &[&ours, &other]);
    assert_eq!(
        meet(&stranger.load().await.unwrap(), ServiceName::Auth, &auth).await,
        (None, false)
    );
    // The control: the same caller, once that authority is trusted.
    let trusting = Home::of(ServiceName::Auth, &ours.issue(&[AUTH]).unwrap(), &[&ours, &other]);
    let trusting = trusting.load().await.unwrap();
    let met = meet(&stranger.load().await.unwrap(), ServiceName::Auth, &trusting).await;
    assert_eq!(met, (Some(ServiceName::Crm), true));
}

#[tokio::test]
async fn a_service_begins_with_nothing_that_its_peers_would_refuse() {
    let (ours, other) = (Authority::new("ours").unwrap(), Authority::new("other").unwrap());
    let now = SystemTime::now();
    let good = ours.issue(&[CRM]).unwrap();
    let ended = ours.issue_for(&[CRM], now - seconds(600), now - seconds(60)).unwrap();
    let future = ours
        .issue_for(&[CRM], now + seconds(600), now + seconds(1_200))
        .unwrap();
    let torn = Issued {
        key: ours.issue(&[CRM]).unwrap().key,
        ..good.clone()
    };
    let no_key = Issued {
        key: String::new(),
        ..good.clone()
    };
    let nothing = Issued {
        certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
        ..good.clone()
    };
    let cases = [
        ("ended", ended),
        ("of the future", future),
        ("another key", torn),
        ("no key", no_key),
        ("no certificate", nothing),
        ("of another service", ours.issue(&[AUTH]).unwrap()),
        ("of nobody", ours.issue(&["crm"]).unwrap()),
        ("of two", ours.issue(&[CRM, AUTH]).unwrap()),
        (
            "of an unknown service",
            ours.issue(&["mallory.rowhouse.internal"]).unwrap(),
        ),
        (
            "of a name that only begins so",
            ours.issue(&["crm.rowhouse.internal.example"]).unwrap(),
        ),
        ("of a wildcard", ours.issue(&["*.rowhouse.internal"]).unwrap()),
        ("of another authority", other.issue(&[CRM]).unwrap()),
    ];
    for (what, issued) in cases {
        let loaded = Home::of(ServiceName::Crm, &issued, &[&ours]).load().await;
        assert!(loaded.is_err(), "a certificate {what}");
    }
    assert!(
        Home::of(ServiceName::Crm, &good, &[]).load().await.is_err(),
        "no authority"
    );
    // The control.
    assert!(Home::of(ServiceName::Crm, &good, &[&ours]).load().await.is_ok());
}

#[tokio::test]
async fn an_authority_is_replaced_without_a_moment_of_distrust() {
    let (old, new) = (Authority::new("old").unwrap(), Authority::new("new").unwrap());
    let crm = Home::of(ServiceName::Crm, &old.issue(&[CRM]).unwrap(), &[&old]);
    let auth = Home::of(ServiceName::Auth, &old.issue(&[AUTH]).unwrap(), &[&old]);
    let (at_crm, at_auth) = (crm.load().await.unwrap(), auth.load().await.unwrap());
    let stays_old = Home::of(
        ServiceName::Worker,
        &old.issue(&["worker.rowhouse.internal"]).unwrap(),
        &[&old, &new],
    );
    let stays_old = stays_old.load().await.unwrap();
    // Both are trusted, then the new one signs, then the old one goes: one service after the other.
    for (issuer, trusted) in [(&old, vec![&old, &new]), (&new, vec![&old, &new]), (&new, vec![&new])] {
        for (home, at, name) in [(&crm, &at_crm, CRM), (&auth, &at_auth, AUTH)] {
            assert_eq!(
                meet(&at_crm, ServiceName::Auth, &at_auth).await,
                (Some(ServiceName::Crm), true)
            );
            assert_eq!(
                meet(&stays_old, ServiceName::Auth, &at_auth).await.0,
                Some(ServiceName::Worker)
            );
            let replaced = at.replaced();
            issuer.issue(&[name]).unwrap().write(&home.folder(), &trusted).unwrap();
            assert!(at.look().await.unwrap());
            replaced.wait().await;
            assert!(!at.look().await.unwrap(), "nothing has changed since");
        }
    }
    assert_eq!(
        meet(&at_crm, ServiceName::Auth, &at_auth).await,
        (Some(ServiceName::Crm), true)
    );
    assert_eq!(
        meet(&stays_old, ServiceName::Auth, &at_auth).await,
        (None, false),
        "its authority is gone"
    );
}

#[tokio::test]
async fn files_that_do_not_fit_together_change_nothing() {
    let authority = Authority::new("ours").unwrap();
    let crm = Home::of(ServiceName::Crm, &authority.issue(&[CRM]).unwrap(), &[&authority]);
    let auth = Home::of(ServiceName::Auth, &authority.issue(&[AUTH]).unwrap(), &[&authority]);
    let (at_crm, at_auth) = (crm.load().await.unwrap(), auth.load().await.unwrap());
    let next = authority.issue(&[CRM]).unwrap();
    // The certificate is written, the key not yet.
    std::fs::write(crm.folder().join("tls.crt"), &next.certificate).unwrap();
    assert!(matches!(at_crm.look().await, Err(CertificateError::Refused(_))));
    assert!(meet(&at_crm, ServiceName::Auth, &at_auth).await.1);
    std::fs::write(crm.folder().join("tls.key"), &next.key).unwrap();
    assert!(at_crm.look().await.unwrap());
    assert!(meet(&at_crm, ServiceName::Auth, &at_auth).await.1);
    std::fs::remove_file(crm.folder().join("ca.crt")).unwrap();
    assert!(matches!(at_crm.look().await, Err(CertificateError::Read { .. })));
    assert!(meet(&at_crm, ServiceName::Auth, &at_auth).await.1);
}

#[tokio::test]
async fn a_pair_that_does_not_fit_is_tried_at_each_look_and_told_of_once() {
    let authority = Authority::new("ours").unwrap();
    let crm = Home::of(ServiceName::Crm, &authority.issue(&[CRM]).unwrap(), &[&authority]);
    let at_crm = crm.load().await.unwrap();
    let (next, later) = (authority.issue(&[CRM]).unwrap(), authority.issue(&[CRM]).unwrap());
    let log = Log::listen("rowhouse_tls", Level::INFO);
    let refused = "ERROR the new certificate and key are not used";
    let mut before = None;
    // The new certificate lies beside the old key, and the next one too.
    for certificate in [&next.certificate, &later.certificate] {
        std::fs::write(crm.folder().join("tls.crt"), certificate).unwrap();
        for _ in 0..3 {
            assert!(matches!(at_crm.look().await, Err(CertificateError::Refused(_))));
            at_crm.look_and_tell(&mut before).await;
        }
        assert_eq!(log.lines(), [refused]);
    }
    std::fs::write(crm.folder().join("tls.key"), &later.key).unwrap();
    at_crm.look_and_tell(&mut before).await;
    let replaced = "INFO certificates or authorities were replaced";
    assert_eq!(log.lines(), [refused, replaced]);
    // That it was told of before does not keep the next one from being told of.
    std::fs::write(crm.folder().join("tls.crt"), &next.certificate).unwrap();
    at_crm.look_and_tell(&mut before).await;
    assert_eq!(log.lines(), [refused, replaced, refused]);
}

#[tokio::test]
async fn an_authority_that_goes_is_not_trusted_because_our_own_certificate_is_still_of_it() {
    let (old, new) = (Authority::new("old").unwrap(), Authority::new("new").unwrap());
    let ours = old.issue(&[AUTH]).unwrap();
    let auth = Home::of(ServiceName::Auth, &ours, &[&old]);
    let at_auth = auth.load().await.unwrap();
    let crm = Home::of(ServiceName::Crm, &old.issue(&[CRM]).unwrap(), &[&old]);
    let at_crm = crm.load().await.unwrap();
    assert_eq!(
        meet(&at_crm, ServiceName::Auth, &at_auth).await.0,
        Some(ServiceName::Crm)
    );
    ours.write(&auth.folder(), &[&new]).unwrap();
    assert!(at_auth.look().await.unwrap());
    assert_eq!(meet(&at_crm, ServiceName::Auth, &at_auth).await.0, None);
    // Who begins so would be refused by everybody, and is told.
    assert!(matches!(auth.load().await, Err(CertificateError::Refused(_))));
}

/// A certificate beside the key of another.
fn torn(authority: &Authority, name: &str) -> Issued {
    Issued {
        key: authority.issue(&[name]).unwrap().key,
        ..authority.issue(&[name]).unwrap()
    }
}

#[tokio::test]
async fn an_authority_that_goes_is_not_trusted_because_the_new_pair_does_not_fit() {
    let (stays, goes) = (Authority::new("stays").unwrap(), Authority::new("goes").unwrap());
    let auth = Home::of(ServiceName::Auth, &stays.issue(&[AUTH]).unwrap(), &[&stays, &goes]);
    let crm = Home::of(ServiceName::Crm, &goes.issue(&[CRM]).unwrap(), &[&stays, &goes]);
    let other = Home::of(ServiceName::Crm, &stays.issue(&[CRM]).unwrap(), &[&stays]);
    let (at_auth, at_crm) = (auth.load().await.unwrap(), crm.load().await.unwrap());
    let let_in = (Some(ServiceName::Crm), true);
    assert_eq!(meet(&at_crm, ServiceName::Auth, &at_auth).await, let_in);

    torn(&stays, AUTH).write(&auth.folder(), &[&stays]).unwrap();
    assert!(at_auth.look().await.unwrap());
    assert_eq!(meet(&at_crm, ServiceName::Auth, &at_auth).await.0, None);
    // The certificate from before is shown on, and whoever is of the authority that stays is let in.
    let at_other = other.load().await.unwrap();
    assert_eq!(meet(&at_other, ServiceName::Auth, &at_auth).await, let_in);
    // The pair is tried on, and taken once it fits.
    assert!(matches!(at_auth.look().await, Err(CertificateError::Refused(_))));
    stays.issue(&[AUTH]).unwrap().write(&auth.folder(), &[&stays]).unwrap();
    assert!(at_auth.look().await.unwrap());
    assert_eq!(meet(&at_other, ServiceName::Auth, &at_auth).await, let_in);
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_not_taken_beside_a_pair_that_does_not_fit() {
    let ours = Authority::new("ours").unwrap();
    let auth = Home::of(ServiceName::Auth, &ours.issue(&[AUTH]).unwrap(), &[&ours]);
    let crm = Home::of(ServiceName::Crm, &ours.issue(&[CRM]).unwrap(), &[&ours]);
    let (at_auth, at_crm) = (auth.load().await.unwrap(), crm.load().await.unwrap());
    torn(&ours, AUTH).write(&auth.folder(), &[]).unwrap();
    assert!(matches!(
        at_auth.look().await,
        Err(CertificateError::Damaged { file: "ca.crt", .. })
    ));
    let met = meet(&at_crm, ServiceName::Auth, &at_auth).await;
    assert_eq!(met, (Some(ServiceName::Crm), true));
}

#[tokio::test]
async fn a_new_certificate_that_peers_would_refuse_does_not_take_the_place_of_a_good_one() {
    let [ours, other, third] = ["ours", "other", "third"].map(|name| Authority::new(name).unwrap());
    let auth = Home::of(ServiceName::Auth, &ours.issue(&[AUTH]).unwrap(), &[&ours]);
    let crm = Home::of(ServiceName::Crm, &ours.issue(&[CRM]).unwrap(), &[&ours]);
    let mut trusted_before = 1;
    let (at_auth, at_crm) = (auth.load().await.unwrap(), crm.load().await.unwrap());
    // However many there are in a row, and with an authority that is added beside one of them.
    for trusted in [vec![&ours], vec![&ours, &third], vec![&ours, &third]] {
        let bad = other.issue(&[CRM]).unwrap();
        let is_used = trusted.len() != std::mem::replace(&mut trusted_before, trusted.len());
        bad.write(&crm.folder(), &trusted).unwrap();
        assert_eq!(at_crm.look().await.unwrap(), is_used);
        assert_eq!(
            meet(&at_crm, ServiceName::Auth, &at_auth).await,
            (Some(ServiceName::Crm), true)
        );
    }
    // The next good one is taken.
    ours.issue(&[CRM]).unwrap().write(&crm.folder(), &[&ours]).unwrap();
    assert!(at_crm.look().await.unwrap());
    assert_eq!(
        meet(&at_crm, ServiceName::Auth, &at_auth).await,
        (Some(ServiceName::Crm), true)
    );
}

#[tokio::test]
async fn a_certificate_that_peers_refuse_is_told_of_once_and_again_when_nothing_better_is_left() {
    let (ours, other) = (Authority::new("ours").unwrap(), Authority::new("other").unwrap());
    let crm = Home::of(ServiceName::Crm, &ours.issue(&[CRM]).unwrap(), &[&ours]);
    let at_crm = crm.load().await.unwrap();
    let now = SystemTime::now();
    let ended = ours.issue_for(&[CRM], now - seconds(600), now - seconds(60)).unwrap();
    let ended = Home::of(ServiceName::Crm, &ended, &[&ours]);

    let errors = Log::listen("rowhouse_tls", Level::ERROR);
    other.issue(&[CRM]).unwrap().write(&crm.folder(), &[&ours]).unwrap();
    assert!(!at_crm.look().await.unwrap());
    assert_eq!(errors.entries().len(), 1);
    // Not every second, while the old one is shown on.
    assert!(!at_crm.look().await.unwrap());
    assert_eq!(errors.entries().len(), 1);
    // That one has ended meanwhile, and the files are still the same.
    at_crm.inner.looked.lock().await.shown = Files::read(&ended.folder()).await.unwrap();
    assert!(at_crm.look().await.unwrap(), "the new one is as good");
    assert_eq!(errors.entries().len(), 2);
    assert!(!at_crm.look().await.unwrap());
    assert_eq!(errors.entries().len(), 2);
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_is_taken_when_it_is() {
    let ours = Authority::new("ours").unwrap();
    let crm = Home::of(ServiceName::Crm, &ours.issue(&[CRM]).unwrap(), &[&ours]);
    let at_crm = crm.load().await.unwrap();
    // Certificates count whole seconds.
    let begins = SystemTime::now() + seconds(2);
    let early = ours.issue_for(&[CRM], begins, begins + seconds(600)).unwrap();
    early.write(&crm.folder(), &[&ours]).unwrap();
    assert!(!at_crm.look().await.unwrap());
    let replaced = at_crm.replaced();
    // The files do not change any more.
    tokio::select! {
        () = at_crm.run() => {}
        () = replaced.wait() => {}
    }
    assert!(SystemTime::now() + seconds(1) > begins);
    assert!(!at_crm.look().await.unwrap(), "it is shown now");
}

#[tokio::test]
async fn who_answers_is_known_by_the_same_rule_as_who_calls() {
    let ours = Authority::new("ours").unwrap();
    let crm = Home::of(ServiceName::Crm, &ours.issue(&[CRM]).unwrap(), &[&ours]);
    let at_crm = crm.load().await.unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    for (names, taken) in [
        (vec!["*.rowhouse.internal"], false),
        (vec![AUTH, CRM], false),
        (vec![AUTH, "crm.ROWHOUSE.internal"], false),
        (vec!["AUTH.Rowhouse.Internal"], true),
        // The control.
        (vec![AUTH], true),
    ] {
        let issued = ours.issue(&names).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let (answered, asked) = tokio::join!(
            TlsAcceptor::from(Arc::new(server)).accept(accepted),
            at_crm.connect(ServiceName::Auth, stream)
        );
        assert_eq!(asked.is_ok(), taken, "{names:?}");
        drop(answered);
    }
}
