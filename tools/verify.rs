//! `peccary verify`: checks every checksum and every invariant of a dataset or model.

use std::path::{Path, PathBuf};

use peccary::{ByteSize, FileRecord, Model, Stored, versions};
use serde::Serialize;

use crate::common::Globals;
use crate::numbers::grouped;

const EXAMPLES: &str = "\
Every file is compared with its checksums. Of a dataset it is checked further that ids are in order and found under their \
numbers, that the positives are exactly the interactions, that popularity is their count, and that no interaction is in \
train and another part, or shown and not taken as well, that forgotten users have nothing, and that what was appended is \
there; of a model, that all factors are finite, in every version of it unless one is named.

Examples:
  peccary verify clicks.pec
  peccary verify clicks.model --json
  peccary verify clicks.model@2

Exit code 1 if anything is wrong; the message names the file.";

/// Check every byte and invariant of a dataset or model
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Dataset or model; MODEL@N for version N alone
    #[arg(value_name = "DATASET|MODEL")]
    path: PathBuf,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    path: &'a Path,
    kind: &'static str,
    valid: bool,
    files: usize,
    bytes: u64,
    fingerprint: String,
    /// Those of a model that were checked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<u32>,
    checked: Vec<&'static str>,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let report = |kind, files: &[FileRecord], fingerprint, checked| Report {
        path: &args.path,
        kind,
        valid: true,
        // The manifest has a checksum of its own.
        files: files.len() + 1,
        bytes: files.iter().map(|f| f.bytes).sum(),
        fingerprint,
        versions: Vec::new(),
        checked,
    };
    let report = match Stored::open(&args.path)? {
        Stored::Dataset(dataset) => {
            dataset.verify(&ctx)?;
            let mut checked = vec!["checksums", "dictionaries", "interactions", "positives", "popularity", "parts"];
            checked.extend(dataset.exposures().map(|_| "exposures"));
            checked.extend(dataset.contexts().map(|_| "context"));
            if !dataset.manifest().changes.is_empty() {
                checked.extend(["appended pairs", "forgotten users"]);
            }
            report("dataset", &dataset.manifest().files, dataset.fingerprint().to_string(), checked)
        }
        Stored::Model(model) => {
            model.verify(&ctx)?;
            let checked = vec!["checksums", "shapes", "item dictionary", "finite factors"];
            let mut report = report("model", &model.manifest().files, model.manifest().fingerprint(), checked);
            report.versions.push(model.version());
            // Named without a version: the others, too.
            let others = versions(model.path())?.into_iter().map(|version| version.number);
            for number in others.filter(|number| model.path() == args.path && *number != model.version()) {
                let other = Model::open_version(model.path(), number)?;
                other.verify(&ctx)?;
                report.versions.push(number);
                report.files += other.manifest().files.len() + 1;
                report.bytes += other.manifest().files.iter().map(|f| f.bytes).sum::<u64>();
            }
            report.versions.sort_unstable();
            report
        }
    };
    let of = match &report.versions[..] {
        [] => String::new(),
        [one] => format!(", version {one}"),
        several => format!(", {} versions", several.len()),
    };
    let text = format!(
        "{}: a valid {}{of}: {} files, {}; checked: {}",
        args.path.display(),
        report.kind,
        grouped(report.files as u64),
        ByteSize(report.bytes),
        report.checked.join(", ")
    );
    globals.print(&report, text)
}
