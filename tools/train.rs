//! `peccary train`: learns factors of users and items from a dataset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use peccary::{
    AuditOptions, Dataset, EpochReport, LossKind, ModelManifest, Propose, Select, Stopped, TrainCheckpoint,
    TrainReport, TrainRun, Weigh, train_audited,
};
use serde::Serialize;

use crate::common::{Globals, whole_model};
use crate::keeping::Keeping;
use crate::numbers::{counted, duration, grouped, short};
use crate::settings::{Settings, Validating};

const EXAMPLES: &str = "\
Until the model is published, checkpoints are kept in MODEL.partial: after Ctrl-C, a crash or a full disk, \
`peccary train --resume MODEL` goes on from the last. A run that diverges goes back to it, with a lower learning rate.

A run is described by a TOML file, by flags, or by both: a flag wins over the file. The model's manifest keeps the \
configuration as used. A user's positives never are negatives, unless allowed.

  # run.toml: every key there is, with its default or an example
  dimensions = 64
  epochs = 30
  seed = 0
  deterministic = false    # same bits whatever the number of threads
  similarity = \"dot\"       # or \"cosine\", the default of listwise losses
  biases = true            # dot product only
  l2 = 0.003               # 0 for listwise losses on cosines
  init_deviation = 0.0125
  precision = \"f32\"        # or \"bf16\": half the memory
  [loss]
  kind = \"bpr\"             # or one of --list-losses
  temperature = 1.0        # 0.1 for cosines; not of hinge, warp and ccl
  scale = 1.0              # multiplies the loss and its gradient
  entropy = 0.0            # regularizes what bpr, logistic, focal, softmax and bsl predict
  smoothing = 0.1          # of labels; logistic
  gamma = 2.0              # focal
  margin = 1.0             # hinge and warp, 0.1 for cosines; ccl 0.4
  margin_exponent = 0.25   # hinge: wider margins for rarer items; 0 is a fixed margin
  exponent = 1.2           # bsl
  weight = 150.0           # ccl
  surrogate = \"tanh\"       # or \"atan\", \"relu\"; psl
  log_q = true             # softmax and bsl, with popularity
  [negatives]
  count = 8                # 800 for listwise losses, shared; 64 of a mixture's; 1 for warp
  shared_by = 128          # positives, by listwise losses
  proposal = \"uniform\"     # or \"popularity\"
  alpha = 0.75             # exponent of popularity
  with_replacement = true
  allow_positives = false  # a negative may be another positive of the user
  [[negatives.mix]]        # instead of proposal and alpha; see docs/training.md and --list-samplers
  share = 1.0
  propose = \"uniform\"
  select = \"hardest\"
  candidates = { schedule = \"linear\", from = 1, to = 8 }
  weigh = \"one\"
  [confidence]             # how much each interaction counts; by default all alike
  weight = \"log\"           # or \"none\", \"linear\": 1 + alpha x weight
  alpha = 1.0
  half_life = 90.0         # days
  activity = 0.5           # light users count more; 1: all users alike
  clip = 10.0
  events = { buy = 4.0 }
  [regularization]         # beside l2; by default none
  user_dropout = 0.1       # of each factor
  item_dropout = 0.1       # shared negatives
  substitution = 0.15      # shared negatives: similar items stand in for positives
  substitutes = 5          # of each
  max_norm = 2.0           # of a row; not for listwise losses on cosines
  clip_gradient = 1.0      # norm of a row's gradient
  [optimizer]
  kind = \"sgd\"             # or \"adagrad\", \"adam\"
  learning_rate = 0.05
  schedule = \"linear\"      # or \"constant\", \"cosine\", \"step\", \"plateau\"
  warm_up = 0.0            # epochs
  factor = 0.1             # step and plateau
  at = [0.5, 0.75]         # step: shares of the run; or every = 10, in epochs
  patience = 3             # plateau: validations
  beta1 = 0.9
  beta2 = 0.999
  epsilon = 1e-8
  [stream]
  block_items = 4096       # 0: all items in one block
  window = 1000000
  [validation]             # none by default; on the valid part of the dataset
  metric = \"ndcg@20\"
  every = 1                # epochs
  patience = 5             # validations; absent: train all epochs, keep the best
  min_delta = 0.0
  users = 10000            # a sample; absent: all
  [checkpoint]             # in MODEL.partial, until the model is published
  every = \"10m\"            # or 90s, 2h, 50M-triples, epoch, off
  [divergence]
  rollbacks = 3            # 0: stop
  factor = 0.5             # of the learning rate, each time

Examples:
  peccary train clicks.pec --output clicks.model
  peccary train clicks.pec --output clicks.model --config run.toml --epochs 5
  peccary train clicks.pec --output clicks.model --loss logistic --optimizer adam --negatives 4
  peccary train clicks.pec --output clicks.model --proposal popularity --alpha 0.5 --json
  peccary train clicks.pec --output clicks.model --loss bsl --temperature 0.08 --exponent 1.2
  peccary train clicks.pec --output clicks.model --epochs 200 --metric recall@20 --patience 5
  peccary train clicks.pec --output clicks.model --audit negatives.parquet --audit-sample 100
  peccary train --resume clicks.model";

/// Flags that list something instead of training.
const LISTS: [&str; 2] = ["list_losses", "list_samplers"];
/// Those, and the one that goes on with a training that knows its dataset and output.
const WITHOUT: [&str; 3] = ["list_losses", "list_samplers", "resume"];

/// Train a model on a dataset
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Args {
    /// Dataset made by `peccary ingest`
    #[arg(required_unless_present_any = WITHOUT)]
    dataset: Option<PathBuf>,
    /// Folder to write the model to; a model there gets another version
    #[arg(long, short, value_name = "MODEL", required_unless_present_any = WITHOUT)]
    output: Option<PathBuf>,
    /// List the losses, with a line on each
    #[arg(long)]
    list_losses: bool,
    /// List how negatives can be proposed, selected and weighed, with a line on each
    #[arg(long, conflicts_with = "list_losses")]
    list_samplers: bool,
    /// Replace the model in the output, all versions of it
    #[arg(long)]
    force: bool,
    /// Go on with the training of this model that was interrupted; flags are not needed, and those that contradict it are
    /// refused. DATASET is where the dataset is now, if it was moved
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["output", "force", "restart", "audit"], conflicts_with_all = LISTS)]
    resume: Option<PathBuf>,
    /// Remove what an interrupted training of this model left, and begin anew
    #[arg(long)]
    restart: bool,
    /// Parquet file to write a sample of the candidates for negatives to: what filtered them, why one was chosen
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// One positive in so many is looked at for the audit
    #[arg(long, value_name = "N", default_value_t = AuditOptions::SAMPLE, requires = "audit",
        value_parser = clap::value_parser!(u32).range(1..))]
    audit_sample: u32,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    validating: Validating,
    #[command(flatten)]
    keeping: Keeping,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a Path,
    version: u32,
    fingerprint: String,
    config: &'a serde_json::Value,
    #[serde(flatten)]
    report: &'a TrainReport,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    if args.list_samplers {
        return list_samplers(globals);
    }
    if let Some(model) = &args.resume {
        let ctx = globals.context();
        let mut checkpoint = TrainCheckpoint::open(model)?;
        let mut config = args.settings.over(checkpoint.config().clone())?;
        args.validating.add_to(&mut config);
        args.keeping.add_to(&mut config);
        checkpoint.reconfigure(&config)?;
        let dataset = Dataset::open(args.dataset.as_deref().unwrap_or(checkpoint.dataset()))?;
        let (manifest, report) = checkpoint.resume(&dataset, &ctx)?;
        return print(model, &manifest, &report, globals);
    }
    let (Some(dataset), Some(output)) = (&args.dataset, &args.output) else {
        return list_losses(globals);
    };
    whole_model(output)?;
    let mut config = args.settings.config()?;
    args.validating.add_to(&mut config);
    args.keeping.add_to(&mut config);
    let ctx = globals.context();
    let dataset = Dataset::open(dataset)?;
    let audit = args.audit.map(|path| AuditOptions { path, sample: args.audit_sample });
    let run = TrainRun { force: args.force, restart: args.restart };
    let (manifest, report) = train_audited(&dataset, &config, output, run, audit.as_ref(), &ctx)?;
    if let (Some(AuditOptions { path, .. }), Some(written)) = (&audit, report.audit) {
        ctx.message(&format!(
            "{}: {} candidates for the negatives of {} positives",
            path.display(),
            grouped(written.rows),
            grouped(written.positives),
        ));
    }
    print(output, &manifest, &report, globals)
}

/// Says what was trained.
fn print(output: &Path, manifest: &ModelManifest, report: &TrainReport, globals: &Globals) -> anyhow::Result<()> {
    let last = report.epochs.last();
    let text = format!(
        "{}: {}{} in {}, {} triples/s ({}, {} threads), loss {:.4} -> {:.4}{}",
        output.display(),
        if manifest.model_version > 1 { format!("version {}: ", manifest.model_version) } else { String::new() },
        counted(report.epochs.len() as u64, "epoch"),
        duration(Duration::from_secs_f64(report.seconds)),
        short(report.triples_per_second),
        report.instruction_set,
        report.plan.threads,
        report.epochs.first().map_or(f64::NAN, |e| e.loss),
        last.map_or(f64::NAN, |e| e.loss),
        skipped(last) + &validated(report) + &rolled_back(report),
    );
    let fingerprint = manifest.fingerprint();
    let version = manifest.model_version;
    globals.print(&Report { model: output, version, fingerprint, config: &manifest.config, report }, text)
}

/// Prints the losses.
fn list_losses(globals: &Globals) -> anyhow::Result<()> {
    let losses = LossKind::ALL.map(|loss| (loss.name(), loss.summary()));
    let text: Vec<_> = losses.iter().map(|(name, summary)| format!("{name:<10}{summary}")).collect();
    globals.print(&losses, text.join("\n"))
}

/// Prints the choices of every step of a mixture of negatives.
fn list_samplers(globals: &Globals) -> anyhow::Result<()> {
    let steps = [("propose", Propose::ALL), ("select", Select::ALL), ("weigh", Weigh::ALL)];
    let mut text = String::from("Keys of [[negatives.mix]]; docs/training.md has them all.");
    for (step, choices) in steps {
        text += &format!("\n\n{step}");
        for (name, line) in choices {
            text += &format!("\n  {name:<14}{line}");
        }
    }
    globals.print(&steps.into_iter().collect::<BTreeMap<_, _>>(), text)
}

/// Says which epoch the model is of, and why the run ended, if it was validated.
pub fn validated(report: &TrainReport) -> String {
    let Some(found) = &report.validation else { return String::new() };
    let why = match report.stopped {
        Stopped::Epochs => String::new(),
        Stopped::Patience => {
            format!(", stopped after epoch {} for want of improvement", report.epochs.len())
        }
    };
    format!("; {} {:.5} on valid after epoch {}, which was kept{why}", found.metric, found.best_value, found.best_epoch)
}

/// Says how often the run diverged, if it did.
fn rolled_back(report: &TrainReport) -> String {
    match report.rollbacks.last() {
        None => String::new(),
        Some(last) => {
            format!(
                "; diverged {} times, trained on at {} times the learning rate",
                report.rollbacks.len(),
                last.factor
            )
        }
    }
}

/// Says how many positives have no negative, if any.
fn skipped(last: Option<&EpochReport>) -> String {
    match last.map_or(0, |e| e.skipped) {
        0 => String::new(),
        n => format!("; {n} positives an epoch left out: their users have nearly every item"),
    }
}
