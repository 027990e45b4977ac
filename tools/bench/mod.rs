//! `peccary bench`: what this machine does, stage by stage, beside what it could do. One file a measurement.

mod evaluate;
mod fold_in;
mod ingest;
mod listwise;
mod negatives;
mod out_of_core;
mod shape;
mod train;

use crate::common::Globals;

const EXAMPLES: &str = "\
Run it while nothing else runs.

Examples:
  peccary bench train --shape ml-20m
  peccary bench ingest --shape ml-20m --memory 2GiB
  peccary bench train --dataset clicks.pec --dim 128 --negatives 8
  peccary bench train --shape ml-20m --threads 1 --json
  peccary bench listwise --shape gowalla --loss bsl
  peccary bench negatives --shape ml-20m --threads 1
  peccary bench out-of-core --shape ml-20m --fraction 0.25
  peccary bench evaluate --shape gowalla
  peccary bench evaluate --dataset clicks.pec --model clicks.model --users 1000
  peccary bench fold-in --shape gowalla";

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
    OutOfCore(out_of_core::Args),
    Evaluate(evaluate::Args),
    FoldIn(fold_in::Args),
    Listwise(listwise::Args),
    Negatives(negatives::Args),
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    match args.what {
        What::Ingest(args) => ingest::run(args, globals),
        What::Train(args) => train::run(args, globals),
        What::OutOfCore(args) => out_of_core::run(args, globals),
        What::Evaluate(args) => evaluate::run(args, globals),
        What::FoldIn(args) => fold_in::run(args, globals),
        What::Listwise(args) => listwise::run(args, globals),
        What::Negatives(args) => negatives::run(args, globals),
    }
}
