//! Whether what is done for an account takes as long as what is done for none: T15, where times are judged.

use std::time::Duration;

/// How much the means may differ: T15's promise.
pub(crate) const DIFFERENCE_MAX: f64 = 0.02;

/// Of a hundred calls of each kind, the slowest that are left out: those are the machine's own pauses, which are a hundred times
/// what is looked for here.
const SLOWEST_PERCENT: usize = 5;

/// The mean time in milliseconds, without the slowest.
fn mean_ms(took: &[Duration]) -> f64 {
    let mut times: Vec<f64> = took.iter().map(|took| 1_000.0 * took.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    times.truncate(times.len() - times.len() * SLOWEST_PERCENT / 100);
    times.iter().sum::<f64>() / times.len() as f64
}

/// By how much the two differ, as a part of the longer.
///
/// `took`: calls for an account that there is, and for one that there is not.
pub(crate) fn difference(took: &[Vec<Duration>; 2]) -> f64 {
    let [existing, unknown] = took.each_ref().map(|took| mean_ms(took));
    let part = (existing - unknown).abs() / existing.max(unknown);
    println!(
        "{existing:.3} ms where there is an account, {unknown:.3} ms where there is none: {:.2} %",
        100.0 * part
    );
    part
}
