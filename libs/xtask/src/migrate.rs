//! `cargo xtask migrate`: the services' own `migrate` on the running suite's databases, every home that is behind included.

use anyhow::Result;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::resident::Resident;

use crate::build;

/// Builds, and migrates. The services that run are left as they are.
pub(crate) async fn run() -> Result<()> {
    let checkout = Checkout::find()?;
    let resident = Resident::open(checkout.clone())?;
    build::services(&checkout, resident.is_release()).await?;
    resident.migrate().await
}
