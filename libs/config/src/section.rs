//! Sections that several services share. A service's own variables stand in its `config.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::Env;
use crate::secret::{Secret, SecretKey};

/// How a process listens, bounds its work and stops.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Public gRPC, for users and operators.
    pub public: SocketAddr,
    /// Internal gRPC, for the other services.
    pub internal: SocketAddr,
    /// HTTP for probes and metrics.
    pub admin: SocketAddr,
    /// Longest time to finish running calls after SIGTERM.
    pub drain: Duration,
    /// Calls at once; more are refused with OVERLOADED.
    pub concurrency_max: usize,
    /// Longest deadline that a client gets.
    pub deadline_max: Duration,
    /// Proxies of ours before the listener, each of which adds the address it was called from to `x-forwarded-for`.
    pub trusted_hops: usize,
}

/// What is logged and where traces go.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Filter in the syntax of `tracing_subscriber::filter::Targets`.
    pub filter: String,
    /// `json` or `pretty`.
    pub json: bool,
    /// Where to send traces (OTLP over gRPC); nowhere if absent.
    pub otlp_endpoint: Option<String>,
}

/// Who this service is to the others, and how it knows them.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Certificates for internal calls; without them services know each other by signed tokens alone.
    pub tls: Option<Tls>,
    /// Seed of this service's own Ed25519 key, for tokens. There once the environment was found without fault, unless
    /// certificates make tokens needless.
    pub key: Option<SecretKey>,
    /// Public keys of the services, base64url without padding, by name; empty as above.
    pub keys: BTreeMap<String, String>,
    /// Issuer of users' tokens.
    pub token_issuer: String,
}

/// Mutual TLS between the services.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Folder of `tls.crt`, `tls.key` and `ca.crt`.
    pub folder: PathBuf,
    /// Whether callers without TLS are taken too, while a deployment changes over.
    pub plain: bool,
}

/// Pairs `name=value`, separated by commas or line breaks.
#[derive(Clone, Debug, Default)]
struct Pairs {
    pairs: BTreeMap<String, String>,
}

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

// === impl Listen ===

impl Listen {
    /// Reads the section.
    pub fn read(env: &mut Env) -> Self {
        let public = env.required("ROWHOUSE_LISTEN", NOWHERE);
        Self {
            public,
            ..Self::read_internal(env)
        }
    }

    /// Reads the section for a process without a public listener; `public` is then an unused address.
    pub fn read_internal(env: &mut Env) -> Self {
        Self {
            public: NOWHERE,
            internal: env.required("ROWHOUSE_INTERNAL_LISTEN", NOWHERE),
            admin: env.required("ROWHOUSE_ADMIN_LISTEN", NOWHERE),
            drain: Duration::from_millis(env.or("ROWHOUSE_DRAIN_MS", 10_000)),
            concurrency_max: env.or("ROWHOUSE_CONCURRENCY_MAX", 1_024),
            deadline_max: Duration::from_millis(env.or("ROWHOUSE_DEADLINE_MAX_MS", 60_000)),
            trusted_hops: env.or("ROWHOUSE_TRUSTED_HOPS", 0),
        }
    }
}

// === impl Telemetry ===

impl Telemetry {
    /// Reads the section.
    pub fn read(env: &mut Env) -> Self {
        let format = env.or("ROWHOUSE_LOG_FORMAT", "json".to_owned());
        if !matches!(format.as_str(), "json" | "pretty") {
            env.refuse("ROWHOUSE_LOG_FORMAT", "must be json or pretty");
        }
        Self {
            filter: env.or("ROWHOUSE_LOG", "info".to_owned()),
            json: format == "json",
            otlp_endpoint: env.optional("ROWHOUSE_OTLP_ENDPOINT"),
        }
    }
}

// === impl Identity ===

impl Identity {
    /// Reads the section.
    pub fn read(env: &mut Env) -> Self {
        let tls = Tls::read(env);
        // Where everybody shows a certificate nobody sends a token.
        let tokens = tls.as_ref().is_none_or(|tls| tls.plain);
        let (key, keys) = if tokens {
            let key = env.secret_key("ROWHOUSE_SERVICE_KEY");
            (key, env.required("ROWHOUSE_SERVICE_KEYS", Pairs::default()).pairs)
        } else {
            (None, BTreeMap::new())
        };
        Self {
            tls,
            key,
            keys,
            token_issuer: env.or("ROWHOUSE_TOKEN_ISSUER", "rowhouse".to_owned()),
        }
    }
}

// === impl Tls ===

impl Tls {
    /// Reads the section, which is there when a folder is named.
    fn read(env: &mut Env) -> Option<Self> {
        const MODE: &str = "ROWHOUSE_TLS_MODE";
        let folder = env.optional("ROWHOUSE_TLS_DIR");
        let mode = env.or(MODE, "strict".to_owned());
        if !matches!(mode.as_str(), "strict" | "permissive") {
            env.refuse(MODE, "must be strict or permissive");
        }
        Some(Self {
            folder: folder?.into(),
            plain: mode == "permissive",
        })
    }
}

// === impl Pairs ===

impl FromStr for Pairs {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let entries = text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
        let pairs = entries.map(|entry| {
            entry
                .split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .ok_or(())
        });
        Ok(Self {
            pairs: pairs.collect::<Result<_, _>>()?,
        })
    }
}

/// Reads a required secret that holds one URL per data server, as `name=url` separated by commas or line breaks.
pub fn server_urls(env: &mut Env, name: &'static str) -> BTreeMap<String, Secret> {
    let secret = env.secret(name);
    match secret.expose().parse::<Pairs>() {
        Ok(read) if !read.pairs.is_empty() || secret.expose().is_empty() => read
            .pairs
            .into_iter()
            .map(|(server, url)| (server, Secret::new(url)))
            .collect(),
        _ => {
            env.refuse(name, "must be name=url pairs separated by commas");
            BTreeMap::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(pairs: &[(&str, &str)]) -> Result<Identity, String> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut env = Env::from_pairs(pairs);
        let read = Identity::read(&mut env);
        env.finish(read).map_err(|faults| faults.to_string())
    }

    #[test]
    fn who_shows_certificates_needs_no_key_unless_others_still_send_tokens() {
        let faults = identity(&[]).unwrap_err();
        assert!(faults.contains("ROWHOUSE_SERVICE_KEY:"), "{faults}");
        let strict = identity(&[("ROWHOUSE_TLS_DIR", "/tls")]).unwrap();
        assert!(strict.key.is_none() && strict.keys.is_empty());
        assert!(strict.tls.is_some_and(|tls| !tls.plain));
        let both = [("ROWHOUSE_TLS_DIR", "/tls"), ("ROWHOUSE_TLS_MODE", "permissive")];
        let faults = identity(&both).unwrap_err();
        assert!(faults.contains("ROWHOUSE_SERVICE_KEYS"), "{faults}");
    }

    #[test]
    fn a_misspelled_mode_is_named_and_is_not_the_weaker_one() {
        let faults = identity(&[("ROWHOUSE_TLS_DIR", "/tls"), ("ROWHOUSE_TLS_MODE", "Permissive")]).unwrap_err();
        assert_eq!(faults.matches("ROWHOUSE_").count(), 1, "{faults}");
        assert!(
            faults.contains("ROWHOUSE_TLS_MODE: must be strict or permissive"),
            "{faults}"
        );
    }
}
