//! `peccary bench`: what this machine does, stage by stage, beside what it could do. One file a measurement.

mod listwise;
mod shape;
mod train;

use crate::common::Globals;

const EXAMPLES: &str = "\
Run it while nothing else runs.

Examples:
  peccary bench train --shape ml-20m
  peccary bench train --dataset clicks.pec --dim 128 --negatives 8
  peccary bench train --shape ml-20m --threads 1 --json
  peccary bench listwise --shape gowalla --loss bsl";

/// Measure throughput, stage by stage, beside the machine's limit
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Train(train::Args),
    Listwise(listwise::Args),
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    match args.what {
        What::Train(args) => train::run(args, globals),
        What::Listwise(args) => listwise::run(args, globals),
    }
}
