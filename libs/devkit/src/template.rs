//! The migrated databases that tests clone: made once for a run of `cargo xtask test`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use crate::checkout::Checkout;
use crate::cluster::{self, Kind};
use crate::migrate;
use crate::secrets::Secrets;
use crate::servers::Servers;
use crate::settings::{DATA_SERVER, DataServer, Keys, Settings};

/// Creates roles and templates and runs every service's `migrate` on them.
///
/// # Errors
/// When a binary is not built or its migration fails; the end of its log is in the message.
pub async fn make(checkout: &Checkout, servers: &Servers) -> Result<()> {
    cluster::ensure_roles(servers).await?;
    for (name, kind) in [
        (cluster::CONTROL_TEMPLATE, Kind::Control),
        (cluster::DATA_TEMPLATE, Kind::Data),
    ] {
        // On servers that are given, an older run's may still be there.
        cluster::drop_database(servers, name).await?;
        cluster::ensure_database(servers, name, kind, None).await?;
    }
    // `migrate` reads owners' URLs only: there is nothing to listen on and nobody to talk to.
    let data = DataServer {
        servers: servers.clone(),
        database: cluster::DATA_TEMPLATE.to_owned(),
    };
    let settings = Settings {
        control: cluster::CONTROL_TEMPLATE.to_owned(),
        data: [(DATA_SERVER, data)].into(),
        amqp_url: servers.amqp_url(),
        redis_prefix: String::new(),
        certificates: None,
        smtp_url: String::new(),
        spares: 0,
        spare_databases: 0,
        files: PathBuf::new(),
        ports: BTreeMap::new(),
        keys: Keys::of(&mut Secrets::load(servers.folder())?)?,
        servers: servers.clone(),
    };
    migrate::migrate(checkout, &settings, &servers.folder().join("log"), false).await?;
    for name in [cluster::CONTROL_TEMPLATE, cluster::DATA_TEMPLATE] {
        cluster::close_database(servers, name).await?;
    }
    Ok(())
}
