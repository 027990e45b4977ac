//! `peccary compact`: merges what appends added to a dataset with what was there.

use std::path::{Path, PathBuf};

use peccary::{ByteSize, CompactSummary};
use serde::Serialize;

use crate::common::Globals;
use crate::numbers::grouped;

const EXAMPLES: &str = "\
Appends add files, and chunks that lie here and there; compacting makes a few large files of them, chunks of some 65,536 \
interactions, one dictionary of each kind, and drops what is no more needed. Ids, interactions and the fingerprint stay what \
they are, so models stay usable. It reads and writes the dataset once, and needs its room on the disk a second time until it \
is done. Who reads the dataset meanwhile is not disturbed.

Examples:
  peccary compact clicks.pec
  peccary compact big.pec --memory 1GiB";

/// Merge what was appended to a dataset with what was there
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Dataset to compact
    #[arg(value_name = "DATASET")]
    dataset: PathBuf,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    dataset: &'a Path,
    #[serde(flatten)]
    summary: &'a CompactSummary,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let summary = peccary::compact(&args.dataset, &globals.context())?;
    let name = args.dataset.display();
    let text = if summary.compacted {
        let pair = |of: [u64; 2]| format!("{} -> {}", grouped(of[0]), grouped(of[1]));
        format!(
            "{name}: compacted in {:.1} s: files {}, chunks {}, bytes {} -> {}",
            summary.seconds,
            pair(summary.files.map(|n| n as u64)),
            pair(summary.chunks.map(u64::from)),
            ByteSize(summary.bytes[0]),
            ByteSize(summary.bytes[1])
        )
    } else {
        format!("{name}: is compact; nothing was done")
    };
    globals.print(&Report { dataset: &args.dataset, summary: &summary }, text)
}
