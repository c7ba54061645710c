//! `cargo xtask bench scale`: what many homes cost, without lanes and with them, and the private memory of PostgreSQL's back
//! ends. Over 10 to 10,000 homes through PgBouncer, point reads of `TenantTx`; with `--grpc`, GetContact as a member of each
//! tenant calls it.
//!
//! On servers of its own, which are stopped and deleted afterwards.

mod division;
mod figure;
mod grpc;
mod run;
mod tenant_tx;

use std::env;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use rowhouse_devkit::checkout::Checkout;
use rowhouse_devkit::fixture;
use rowhouse_devkit::stack::Profile;

use super::optimised;
use crate::run::command;
use crate::test::on_private_servers;

/// Homes in each of the runs.
const HOMES: [usize; 5] = [10, 100, 1_000, 5_000, 10_000];
/// With how many the others are compared.
const FEW: usize = 100;

/// Arguments of `bench scale`.
#[derive(Args, Debug)]
pub(super) struct Scale {
    /// Measure GetContact over gRPC, by services of its own, in place of TenantTx alone
    #[arg(long)]
    grpc: bool,
    /// How many tenants there are in each of the runs, separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = HOMES)]
    tenants: Vec<usize>,
}

/// Measures and prints; also writes `target/bench/scale.json`, or `scale-grpc.json`.
pub(super) async fn run(scale: &Scale, seconds: u64) -> Result<()> {
    let checkout = Checkout::find()?;
    let duration = Duration::from_secs(seconds);
    if scale.grpc {
        return if env::var_os(fixture::TEST_STACK).is_some() {
            grpc::measure(&checkout, &scale.tenants, duration).await
        } else {
            optimised::with_suites(&scale.arguments(seconds)).await
        };
    }
    if cfg!(debug_assertions) {
        let mut optimised = optimised::build(&checkout, None).await?;
        optimised.args(scale.arguments(seconds));
        return command(optimised).await;
    }
    on_private_servers(Profile::Bench, async |checkout, stack, _| {
        tenant_tx::measure(checkout, stack, &scale.tenants, duration).await
    })
    .await
}

/// How many homes have to be built.
fn most(counts: &[usize]) -> usize {
    counts.iter().copied().fold(FEW, usize::max)
}

// === impl Scale ===

impl Scale {
    /// As the optimised copy is told.
    fn arguments(&self, seconds: u64) -> Vec<String> {
        let tenants: Vec<String> = self.tenants.iter().map(usize::to_string).collect();
        let words = [
            "bench",
            "--seconds",
            &seconds.to_string(),
            "scale",
            "--tenants",
            &tenants.join(","),
        ];
        let grpc = self.grpc.then_some("--grpc");
        words.into_iter().chain(grpc).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::bench::{Bench, What};
    use crate::{Arguments, Command};

    #[test]
    fn the_optimised_copy_is_told_what_this_program_was_told() {
        for grpc in [false, true] {
            let told = Scale {
                grpc,
                tenants: vec![10, 2_000],
            };
            let words = ["xtask".to_owned()].into_iter().chain(told.arguments(3));
            let heard = Arguments::try_parse_from(words).unwrap().command;
            let Command::Bench(Bench {
                seconds: 3,
                what: Some(What::Scale(heard)),
            }) = heard
            else {
                panic!("{heard:?}");
            };
            assert_eq!((heard.grpc, heard.tenants), (grpc, told.tenants));
        }
    }
}
