//! The metrics recorder and the text that Prometheus scrapes.
//!
//! Names and labels are of the callers; a tenant, user or id is never a label (their number is not bounded).

use std::future::Future;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::Error;

/// Bounds of histograms whose names end in `_seconds`, in seconds. A call inside one machine takes 0.2 to 20 ms; 60 s is
/// the longest deadline.
const SECONDS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

/// Bounds of histograms whose names end in `_bytes`: 256 bytes to 64 MiB, by powers of four.
const BYTES: [f64; 10] = [
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// Bounds of all other histograms: counts, by powers of two to 1,024.
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

/// How often histograms are folded into their buckets. Until then each observation takes memory.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The recorder of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

/// Makes the recorder and installs it for the whole process.
///
/// # Errors
/// [`Error::Twice`] where the process has one already.
pub fn install() -> Result<Metrics, Error> {
    let recorder = builder()?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| Error::Twice)?;
    Ok(Metrics { handle })
}

fn builder() -> Result<PrometheusBuilder, Error> {
    // Fails for an empty list of bounds alone.
    PrometheusBuilder::new()
        .set_buckets(&COUNTS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS))
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES))
        .map_err(|_| Error::Twice)
}

// === impl Metrics ===

impl Metrics {
    /// All metrics in Prometheus's text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds observations into buckets until `stop` is ready. Whoever serves metrics runs this beside it: without it,
    /// memory grows until somebody scrapes.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let upkeep = async {
            loop {
                tokio::time::sleep(UPKEEP_EVERY).await;
                self.handle.run_upkeep();
            }
        };
        tokio::select! {
            () = upkeep => {}
            () = stop => {}
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_the_buckets_of_their_unit() {
        let recorder = builder().unwrap().build_recorder();
        let metrics = Metrics {
            handle: recorder.handle(),
        };
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("rpc_duration_seconds").record(0.003);
            metrics::histogram!("message_size_bytes").record(5_000.0);
            metrics::histogram!("batch_size").record(3.0);
            metrics::counter!("rpcs_total").increment(2);
        });
        let text = metrics.render();
        for line in [
            "rpc_duration_seconds_bucket{le=\"0.0025\"} 0",
            "rpc_duration_seconds_bucket{le=\"0.005\"} 1",
            "message_size_bytes_bucket{le=\"16384\"} 1",
            "batch_size_bucket{le=\"4\"} 1",
            "rpcs_total 2",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[tokio::test]
    async fn upkeep_ends_when_it_is_told_to() {
        let recorder = builder().unwrap().build_recorder();
        let metrics = Metrics {
            handle: recorder.handle(),
        };
        metrics.run(std::future::ready(())).await;
    }
}
