//! The `peccary` command: one file a subcommand, each of which parses its flags, calls the library and prints.

mod bench;
mod calibrate;
mod common;
mod compact;
mod compare;
mod evaluate;
mod explain;
mod forget;
mod health;
mod hold_out;
mod ingest;
mod inspect;
mod keeping;
mod numbers;
mod plan;
mod printable;
mod progress;
mod prune;
mod quickstart;
mod recommend;
mod report;
mod rollback;
mod settings;
mod similar;
mod sweep;
mod synth;
mod train;
mod update;
mod verify;
mod versions;
mod watch;

use clap::{Parser, Subcommand};

use common::Globals;

const EXAMPLES: &str = "\
Examples:
  peccary synth --output clicks.csv
  peccary synth --users 5000000 --items 500000 --interactions 100000000 --output big.csv.zst
  peccary plan clicks.csv
  peccary ingest --output clicks.pec clicks.csv
  peccary ingest --help

Exit codes:
  0    done
  1    failed; standard error says why and what to do about it (also where a file is truncated while in use)
  2    the command line was wrong
  130  interrupted by Ctrl-C or SIGTERM; a second one stops at once";

/// Trains recommender embeddings from implicit-feedback logs that are larger than memory, on one machine.
#[derive(Parser)]
#[command(name = "peccary", version, after_help = EXAMPLES, max_term_width = 120, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Declares the subcommands in the order of `--help`. A new one is a line here, `mod name;` above and a file
/// `tools/name.rs` with a clap `Args` and `pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()>`. The first
/// doc line of its `Args` is what `--help` lists.
macro_rules! commands {
    ($($name:ident => $module:ident),* $(,)?) => {
        #[derive(Subcommand)]
        enum Command {
            $($name($module::Args)),*
        }

        impl Command {
            fn run(self, globals: &Globals) -> anyhow::Result<()> {
                match self {
                    $(Self::$name(args) => $module::run(args, globals)),*
                }
            }
        }
    };
}

// In the order of work: quickstart, synth, plan, ingest, compact, forget, hold-out, inspect, verify, train, watch, sweep,
// evaluate, compare, calibrate, recommend, similar, explain, report, update, versions, rollback, prune.
commands! {
    Quickstart => quickstart,
    Synth => synth,
    Plan => plan,
    Ingest => ingest,
    Compact => compact,
    Forget => forget,
    HoldOut => hold_out,
    Inspect => inspect,
    Verify => verify,
    Train => train,
    Watch => watch,
    Sweep => sweep,
    Evaluate => evaluate,
    Compare => compare,
    Calibrate => calibrate,
    Recommend => recommend,
    Similar => similar,
    Explain => explain,
    Report => report,
    Update => update,
    Versions => versions,
    Rollback => rollback,
    Prune => prune,
    Bench => bench,
}

fn main() -> std::process::ExitCode {
    peccary::explain_bus_errors();
    peccary::explain_file_limits();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return common::refuse(&error),
    };
    let result = cli.globals.install().and_then(|()| cli.command.run(&cli.globals));
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => common::fail(&error, cli.globals.json),
    }
}
