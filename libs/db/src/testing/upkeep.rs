//! Upkeep by small pages and parts.

use std::time::Duration;

use crate::{ProvisionError, Provisioner, Statement};

/// As [`Provisioner::forget`].
///
/// `page`: homes seen to over one connection. `part_rows`: rows that one transaction removes. `max`: longest time in one home.
///
/// # Errors
/// As there.
pub async fn forget_by(
    provisioner: &Provisioner,
    statement: &Statement<()>,
    page: i64,
    part_rows: u32,
    max: Duration,
) -> Result<u64, ProvisionError> {
    provisioner.forget_by(statement, page, part_rows, max).await
}
