//! `peccary bench`: what this machine does, stage by stage, beside what it could do. One file a measurement.

mod ingest;
mod shape;
mod train;

use crate::common::Globals;

const EXAMPLES: &str = "\
Run it while nothing else runs.

Examples:
  peccary bench train --shape ml-20m
  peccary bench ingest --shape ml-20m --memory 2GiB
  peccary bench train --dataset clicks.pec --dim 128 --negatives 8
  peccary bench train --shape ml-20m --threads 1 --json";

/// Measure throughput, stage by stage, beside the machine's limit
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Ingest(ingest::Args),
    Train(train::Args),
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    match args.what {
        What::Ingest(args) => ingest::run(args, globals),
        What::Train(args) => train::run(args, globals),
    }
}
