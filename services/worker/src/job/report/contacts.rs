//! The rows of the report of all contacts, over as many streams as it takes.

use object_store::buffered::BufWriter;
use rowhouse_context::Ctx;
use rowhouse_mq::Delivery;

use super::{Contents, MakeError, MakeReport, requester};
use crate::job::{ASK_MAX, own_ctx};
use crate::report::FileOwners;
use crate::report::contacts::{self, Contact};
use crate::report::store::{self, Attempt};

/// What is in the file so far.
#[derive(Debug, Default)]
struct Written {
    row_count: usize,
    size_bytes: usize,
    shown_percent: i32,
    /// The last contact in it; empty before the first.
    last_id: String,
    owners: FileOwners,
}

// === impl MakeReport ===

impl MakeReport {
    /// Writes header and rows; answers how many rows and bytes that was, and whose.
    ///
    /// crm ends each stream after a while, and a stream dies with the process that sends it. The report then goes on
    /// behind its last row, as long as each stream brings some: one that was cut without any leaves it to the attempts
    /// of the message, which come more slowly. All streams share the attempt's one bound of time.
    pub(super) async fn write_contacts(
        &self,
        ctx: &Ctx,
        delivery: &Delivery,
        attempt: &Attempt,
        file: &mut BufWriter,
    ) -> Result<Contents, MakeError> {
        let header = contacts::header()?;
        let mut written = Written {
            size_bytes: header.len(),
            ..Written::default()
        };
        file.put(header.into()).await?;
        loop {
            let before = written.row_count;
            match self.write_stream(ctx, delivery, attempt, file, &mut written).await {
                Ok(()) => break,
                Err(MakeError::Cut(cause)) if written.row_count > before => {
                    let row_count = written.row_count;
                    tracing::info!(report_id = %attempt.report.id, row_count, cause, "a report goes on where it was cut");
                }
                Err(error) => return Err(error),
            }
        }
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        Ok(Contents {
            row_count: count(written.row_count),
            size_bytes: count(written.size_bytes),
            owners: written.owners,
        })
    }

    /// Adds the rows of one stream, which begins behind what is written.
    async fn write_stream(
        &self,
        ctx: &Ctx,
        delivery: &Delivery,
        attempt: &Attempt,
        file: &mut BufWriter,
        written: &mut Written,
    ) -> Result<(), MakeError> {
        let report = &attempt.report;
        // A token for each stream: rights that were lost since the last one end the report.
        let ask = own_ctx(delivery, ASK_MAX);
        let token = self
            .tools
            .auth
            .report_token(&ask, report.id, requester(attempt))
            .await?;
        let mut pages = self
            .tools
            .crm
            .contacts(ctx, &token, report.tenant, &written.last_id)
            .await?;
        let mut is_first = true;
        while let Some(page) = pages.next().await? {
            if std::mem::take(&mut is_first) {
                check_is_behind(&written.last_id, page.contacts.first())?;
            }
            let bytes = contacts::rows(&page.contacts)?;
            let size_bytes = bytes.len();
            file.put(bytes.into()).await?;
            written.size_bytes += size_bytes;
            written.row_count += page.contacts.len();
            for contact in &page.contacts {
                written.owners.add(&contact.owner_id);
            }
            if let Some(last) = page.contacts.last() {
                written.last_id.clone_from(&last.id);
            }
            let percent = percent(written.row_count, page.total);
            // Asked for every page, so that an attempt that was overtaken ends soon; written only where it changed.
            if percent > written.shown_percent {
                if !store::progress(&self.tools.pool, attempt, percent).await? {
                    return Err(MakeError::Superseded);
                }
                written.shown_percent = percent;
            }
        }
        Ok(())
    }
}

/// A crm that does not know `after_id` yet, as there may be while the suite is upgraded, begins from the start: its rows
/// would stand in the file twice. Ids of one kind sort as text as they do in the database (TypeID: base 32 whose letters
/// are in the order of ASCII).
fn check_is_behind(last_id: &str, first: Option<&Contact>) -> Result<(), MakeError> {
    match first {
        Some(contact) if contact.id.as_str() <= last_id => {
            Err(MakeError::Later("crm did not go on behind the last contact".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Progress to show; 100 only for what is finished.
fn percent(done: usize, total: u64) -> i32 {
    let done = u64::try_from(done).unwrap_or(u64::MAX);
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0).min(99);
    i32::try_from(percent).unwrap_or(99)
}

#[cfg(test)]
mod tests;
