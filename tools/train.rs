//! `peccary train`: learns factors of users and items from a dataset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use peccary::{
    AuditOptions, Dataset, EpochReport, LossKind, OptimizerKind, Proposal, Propose, Schedule, Select, Similarity,
    Stopped, Surrogate, TrainConfig, TrainReport, ValidationConfig, Weigh, WeightScale, train_audited,
};
use serde::Serialize;

use crate::common::{Globals, Kept, Usage};
use crate::numbers::{duration, grouped, short};

const EXAMPLES: &str = "\
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
  item_dropout = 0.1       # listwise losses
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

Examples:
  peccary train clicks.pec --output clicks.model
  peccary train clicks.pec --output clicks.model --config run.toml --epochs 5
  peccary train clicks.pec --output clicks.model --loss logistic --optimizer adam --negatives 4
  peccary train clicks.pec --output clicks.model --proposal popularity --alpha 0.5 --json
  peccary train clicks.pec --output clicks.model --loss bsl --temperature 0.08 --exponent 1.2
  peccary train clicks.pec --output clicks.model --epochs 200 --metric recall@20 --patience 5
  peccary train clicks.pec --output clicks.model --audit negatives.parquet --audit-sample 100";

/// Flags that list something instead of training.
const LISTS: [&str; 2] = ["list_losses", "list_samplers"];

/// Train a model on a dataset
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Args {
    /// Dataset made by `peccary ingest`
    #[arg(required_unless_present_any = LISTS)]
    dataset: Option<PathBuf>,
    /// Folder to write the model to
    #[arg(long, short, value_name = "MODEL", required_unless_present_any = LISTS)]
    output: Option<PathBuf>,
    /// List the losses, with a line on each
    #[arg(long)]
    list_losses: bool,
    /// List how negatives can be proposed, selected and weighed, with a line on each
    #[arg(long, conflicts_with = "list_losses")]
    list_samplers: bool,
    /// Replace the output if it is a model
    #[arg(long)]
    force: bool,
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
}

/// The flags that make up the configuration of a run.
#[derive(clap::Args)]
pub struct Settings {
    /// TOML file with the configuration of the run; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Learnt factors of each user and item
    #[arg(long, visible_alias = "dim", value_name = "N")]
    dimensions: Option<usize>,
    /// Passes over the train interactions
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Seed of the initial factors, the order of the stream and the negatives
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Same seed, same bits, whatever the number of threads
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    deterministic: Option<bool>,
    /// What is minimized
    #[arg(long, value_enum)]
    loss: Option<Loss>,
    /// How factors make a score
    #[arg(long, value_enum)]
    similarity: Option<Score>,
    /// Whether users and items have biases
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    biases: Option<bool>,
    /// Divides scores in the loss
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Exponent of the negatives' mean, with --loss bsl
    #[arg(long, value_name = "C")]
    exponent: Option<f32>,
    /// What positives are to be above negatives by, with --loss hinge and warp; scores of negatives below it cost
    /// nothing, with --loss ccl
    #[arg(long, value_name = "M")]
    margin: Option<f32>,
    /// Margins are multiplied by (popularity of the positive / mean)^-E, with --loss hinge
    #[arg(long, value_name = "E", allow_negative_numbers = true)]
    margin_exponent: Option<f32>,
    /// Smooths labels to 1 - E/2 and E/2, with --loss logistic
    #[arg(long, value_name = "E")]
    smoothing: Option<f32>,
    /// How much less counts what is right already, with --loss focal
    #[arg(long, value_name = "G")]
    gamma: Option<f32>,
    /// Multiplies the loss and its gradient
    #[arg(long, value_name = "F")]
    loss_scale: Option<f32>,
    /// Entropy regularization: how much sure predictions cost, with --loss bpr, logistic, focal, softmax and bsl
    #[arg(long, value_name = "LAMBDA")]
    entropy: Option<f32>,
    /// What the mean over the negatives is multiplied by, with --loss ccl
    #[arg(long, value_name = "W")]
    weight: Option<f32>,
    /// What takes the place of the exponential, with --loss psl
    #[arg(long, value_enum)]
    surrogate: Option<Shape>,
    /// Whether softmax and bsl undo the distribution of popularity negatives
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    log_q: Option<bool>,
    /// L2 regularization of every row that a term touches
    #[arg(long, value_name = "LAMBDA")]
    l2: Option<f32>,
    /// Probability by which each factor of a user's row is left out of a positive's scores
    #[arg(long, value_name = "P")]
    user_dropout: Option<f32>,
    /// The same for the rows of items, with listwise losses
    #[arg(long, value_name = "P")]
    item_dropout: Option<f32>,
    /// The largest norm of a row's factors
    #[arg(long, value_name = "NORM")]
    max_norm: Option<f32>,
    /// The largest norm of a row's gradient in one update
    #[arg(long, value_name = "NORM")]
    clip_gradient: Option<f32>,
    /// Standard deviation of the initial factors
    #[arg(long, value_name = "SIGMA")]
    init_deviation: Option<f32>,
    /// How factors are kept while training; models are f32 either way
    #[arg(long, value_enum)]
    precision: Option<Kept>,
    /// Negatives for each positive; for listwise losses, those that a block of positives shares
    #[arg(long, value_name = "N")]
    negatives: Option<usize>,
    /// Positives that share a set of negatives, for listwise losses
    #[arg(long, value_name = "P")]
    shared_by: Option<usize>,
    /// The distribution that negatives are drawn from
    #[arg(long, value_enum)]
    proposal: Option<Negatives>,
    /// Exponent of popularity, with --proposal popularity
    #[arg(long, value_name = "A", allow_negative_numbers = true)]
    alpha: Option<f64>,
    /// Whether a negative may be another positive of the user
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    allow_positives: Option<bool>,
    /// Whether an item may come twice among the negatives of one positive
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    with_replacement: Option<bool>,
    /// How the weight column counts
    #[arg(long, value_enum)]
    confidence_weight: Option<Scale>,
    /// Factor of the weight column in the confidence
    #[arg(long, value_name = "A")]
    confidence_alpha: Option<f64>,
    /// Days after which an interaction counts half
    #[arg(long, value_name = "DAYS")]
    confidence_half_life: Option<f64>,
    /// Interactions count by (positives of their user / mean)^-P: 1 lets all users count alike
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    confidence_activity: Option<f64>,
    /// The largest confidence, the mean being 1
    #[arg(long, value_name = "C")]
    confidence_clip: Option<f64>,
    /// Factor of an event type in the confidence, as in buy=4; may come several times
    #[arg(long, value_name = "EVENT=FACTOR", value_parser = event)]
    confidence_event: Vec<(String, f64)>,
    /// Update rule; adagrad and adam keep their state by row
    #[arg(long, value_enum)]
    optimizer: Option<Rule>,
    /// Step size at the start
    #[arg(long, visible_alias = "lr", value_name = "RATE")]
    learning_rate: Option<f32>,
    /// How the step size changes over the run
    #[arg(long, value_enum)]
    schedule: Option<Decay>,
    /// Epochs in which the step size grows from a hundredth of it, before the schedule begins; may be a fraction
    #[arg(long, value_name = "EPOCHS")]
    warm_up: Option<f32>,
    /// What the step size is multiplied by, with --schedule step or plateau
    #[arg(long, value_name = "F")]
    lr_factor: Option<f64>,
    /// Epochs between two steps, with --schedule step
    #[arg(long, value_name = "N", conflicts_with = "lr_at")]
    lr_every: Option<u32>,
    /// When to step, as shares of the run, with --schedule step [default: 0.5,0.75]
    #[arg(long, value_name = "SHARE,…", value_delimiter = ',')]
    lr_at: Option<Vec<f64>>,
    /// Validations without improvement before the step size falls, with --schedule plateau [default: 3]
    #[arg(long, value_name = "N")]
    lr_patience: Option<u32>,
    /// Decay of Adam's first moment
    #[arg(long, value_name = "B")]
    beta1: Option<f32>,
    /// Decay of Adam's second moment
    #[arg(long, value_name = "B")]
    beta2: Option<f32>,
    /// Added where a root or a sum might be zero
    #[arg(long, value_name = "E")]
    epsilon: Option<f32>,
    /// Items in a block of the stream; 0 for all in one [default: what fits a core's cache, or 0 where that does not pay]
    #[arg(long, value_name = "N")]
    block_items: Option<u32>,
    /// Interactions in a window of the stream [default: 16 an item, at least 8 windows an epoch]
    #[arg(long, value_name = "N")]
    window: Option<u64>,
}

/// The flags that measure a run while it trains.
#[derive(clap::Args)]
pub struct Validating {
    /// Measure this on the valid part between epochs, and keep the best epoch: such as ndcg@20
    #[arg(long, value_name = "METRIC")]
    metric: Option<String>,
    /// Epochs from one validation to the next; this flag and those below turn validation on, too, by ndcg@20
    #[arg(long, value_name = "N")]
    validate_every: Option<u32>,
    /// Users to validate on, a random sample [default: all]
    #[arg(long, value_name = "N")]
    validate_users: Option<u32>,
    /// Stop when so many validations in a row brought no improvement [default: train all epochs]
    #[arg(long, value_name = "N")]
    patience: Option<u32>,
    /// What the metric has to rise by to be an improvement
    #[arg(long, value_name = "X")]
    min_delta: Option<f64>,
}

/// Declares the values of a flag and what they stand for in the library.
macro_rules! choices {
    ($(#[$what:meta])* $name:ident => $target:ident { $($(#[$doc:meta])* $variant:ident),* }) => {
        $(#[$what])*
        #[derive(Clone, Copy, clap::ValueEnum)]
        pub enum $name { $($(#[$doc])* $variant),* }
        impl From<$name> for $target {
            fn from(value: $name) -> Self {
                match value { $($name::$variant => Self::$variant),* }
            }
        }
    };
}

choices!(
/// A loss, as a flag
Loss => LossKind {
    /// Bayesian personalized ranking, on pairs
    Bpr,
    /// Hinge, on pairs
    Hinge,
    /// WARP: hinge on violating negatives, by rank
    Warp,
    /// Logistic loss, on single scores
    Logistic,
    /// Focal loss, on single scores
    Focal,
    /// Sampled softmax, listwise
    Softmax,
    /// Bilateral softmax loss, listwise
    Bsl,
    /// Cosine contrastive loss, listwise
    Ccl,
    /// Pairwise softmax loss, listwise
    Psl
});
choices!(Shape => Surrogate {
    /// tanh(d) + 1
    Tanh,
    /// atan(d) + 1
    Atan,
    /// max(0, d + 1)
    Relu
});
choices!(Score => Similarity {
    /// Dot product
    Dot,
    /// Cosine of the angle
    Cosine
});
choices!(Negatives => Proposal {
    /// All items alike
    Uniform,
    /// By popularity to the power of --alpha
    Popularity
});
choices!(Scale => WeightScale {
    /// Not at all
    None,
    /// 1 + alpha x weight
    Linear,
    /// 1 + alpha x ln(1 + weight)
    Log
});
choices!(Rule => OptimizerKind {
    /// Stochastic gradient descent
    Sgd,
    /// Adagrad, one accumulator a row
    Adagrad,
    /// Adam, one second moment a row
    Adam
});
choices!(Decay => Schedule {
    /// Stays as it is
    Constant,
    /// Falls to zero in a straight line
    Linear,
    /// Falls to zero along half a cosine
    Cosine,
    /// Falls by --lr-factor, every --lr-every epochs or at --lr-at
    Step,
    /// Falls by --lr-factor when the validation metric no longer rises
    Plateau
});

/// The name and the factor of an event type.
fn event(text: &str) -> Result<(String, f64), String> {
    let (name, factor) = text.rsplit_once('=').ok_or("give it as EVENT=FACTOR, such as buy=4")?;
    let factor =
        factor.parse().map_err(|_| format!("{factor:?} is no number: give it as EVENT=FACTOR, such as buy=4"))?;
    Ok((name.to_string(), factor))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a Path,
    fingerprint: String,
    config: &'a serde_json::Value,
    #[serde(flatten)]
    report: &'a TrainReport,
}

fn set<T>(target: &mut T, flag: Option<impl Into<T>>) {
    if let Some(value) = flag {
        *target = value.into();
    }
}

fn maybe<T>(target: &mut Option<T>, flag: Option<impl Into<T>>) {
    *target = flag.map(Into::into).or(target.take());
}

impl Validating {
    /// Adds to `config` what flags say.
    pub fn add_to(self, config: &mut TrainConfig) {
        let counts = [self.validate_every, self.validate_users, self.patience];
        if self.metric.is_none() && self.min_delta.is_none() && counts.iter().all(Option::is_none) {
            return;
        }
        let validation = config.validation.get_or_insert_with(ValidationConfig::default);
        set(&mut validation.metric, self.metric);
        set(&mut validation.every, self.validate_every);
        maybe(&mut validation.users, self.validate_users);
        maybe(&mut validation.patience, self.patience);
        set(&mut validation.min_delta, self.min_delta);
    }
}

impl Settings {
    /// The configuration that file and flags make.
    pub fn config(&self) -> anyhow::Result<TrainConfig> {
        let mut config: TrainConfig = match &self.config {
            None => TrainConfig::default(),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).with_context(|| format!("{}: cannot read it", path.display()))?;
                TrainConfig::from_toml(&text)
                    .with_context(|| format!("{}: not a valid configuration", path.display()))?
            }
        };
        set(&mut config.dimensions, self.dimensions);
        set(&mut config.epochs, self.epochs);
        set(&mut config.seed, self.seed);
        set(&mut config.deterministic, self.deterministic);
        set(&mut config.loss.kind, self.loss);
        maybe(&mut config.loss.temperature, self.temperature);
        maybe(&mut config.loss.exponent, self.exponent);
        maybe(&mut config.loss.margin, self.margin);
        maybe(&mut config.loss.margin_exponent, self.margin_exponent);
        maybe(&mut config.loss.smoothing, self.smoothing);
        maybe(&mut config.loss.gamma, self.gamma);
        maybe(&mut config.loss.scale, self.loss_scale);
        maybe(&mut config.loss.entropy, self.entropy);
        maybe(&mut config.loss.weight, self.weight);
        maybe(&mut config.loss.surrogate, self.surrogate);
        maybe(&mut config.loss.log_q, self.log_q);
        maybe(&mut config.similarity, self.similarity);
        set(&mut config.biases, self.biases);
        maybe(&mut config.l2, self.l2);
        set(&mut config.regularization.user_dropout, self.user_dropout);
        set(&mut config.regularization.item_dropout, self.item_dropout);
        maybe(&mut config.regularization.max_norm, self.max_norm);
        maybe(&mut config.regularization.clip_gradient, self.clip_gradient);
        set(&mut config.init_deviation, self.init_deviation);
        set(&mut config.precision, self.precision);
        maybe(&mut config.negatives.count, self.negatives);
        maybe(&mut config.negatives.shared_by, self.shared_by);
        set(&mut config.negatives.proposal, self.proposal);
        set(&mut config.negatives.alpha, self.alpha);
        set(&mut config.negatives.with_replacement, self.with_replacement);
        set(&mut config.negatives.allow_positives, self.allow_positives);
        set(&mut config.confidence.weight, self.confidence_weight);
        set(&mut config.confidence.alpha, self.confidence_alpha);
        maybe(&mut config.confidence.half_life, self.confidence_half_life);
        set(&mut config.confidence.activity, self.confidence_activity);
        set(&mut config.confidence.clip, self.confidence_clip);
        config.confidence.events.extend(self.confidence_event.iter().cloned());
        set(&mut config.optimizer.kind, self.optimizer);
        set(&mut config.optimizer.learning_rate, self.learning_rate);
        set(&mut config.optimizer.schedule, self.schedule);
        set(&mut config.optimizer.beta1, self.beta1);
        set(&mut config.optimizer.beta2, self.beta2);
        set(&mut config.optimizer.epsilon, self.epsilon);
        set(&mut config.stream.block_items, self.block_items);
        set(&mut config.stream.window, self.window);
        set(&mut config.optimizer.warm_up, self.warm_up);
        maybe(&mut config.optimizer.factor, self.lr_factor);
        if self.lr_every.is_some() || self.lr_at.is_some() {
            // One instead of the other, whichever the file has.
            (config.optimizer.every, config.optimizer.at) = (self.lr_every, self.lr_at.clone());
        }
        maybe(&mut config.optimizer.patience, self.lr_patience);
        match self.without_effect(&config) {
            Some(text) => Err(Usage(text.to_string()).into()),
            None => Ok(config),
        }
    }
}

impl Settings {
    /// A flag that would change nothing, and what would make it count. A key of the file may well wait for its time.
    fn without_effect(&self, config: &TrainConfig) -> Option<&'static str> {
        let (rule, schedule) = (config.optimizer.kind, config.optimizer.schedule);
        let loss = config.loss.kind;
        if (self.lr_every.is_some() || self.lr_at.is_some()) && schedule != Schedule::Step {
            return Some("--lr-every and --lr-at say when to step: add --schedule step, or leave them out");
        }
        if self.lr_patience.is_some() && schedule != Schedule::Plateau {
            return Some("--lr-patience is that of a plateau: add --schedule plateau, or leave it out");
        }
        if self.lr_factor.is_some() && !matches!(schedule, Schedule::Step | Schedule::Plateau) {
            return Some("--lr-factor is that of steps and plateaus: add --schedule step or plateau, or leave it out");
        }
        if self.shared_by.is_some() && !loss.is_listwise() {
            return Some("--shared-by is for listwise losses: add --loss softmax, bsl, ccl or psl, or leave it out");
        }
        if self.with_replacement.is_some() && config.shares_negatives() {
            return Some(
                "--with-replacement is not for listwise losses, whose shared negatives are distinct: leave it out",
            );
        }
        let hinges = matches!(loss, LossKind::Hinge | LossKind::Warp);
        if self.temperature.is_some() && (hinges || loss == LossKind::Ccl) {
            return Some("--temperature is not of hinge, warp and ccl: give --margin, or add --loss bpr or softmax");
        }
        if self.exponent.is_some() && loss != LossKind::Bsl {
            return Some("--exponent is that of the bilateral softmax loss: add --loss bsl, or leave it out");
        }
        if self.margin.is_some() && !hinges && loss != LossKind::Ccl {
            return Some("--margin is of hinges: add --loss hinge, warp or ccl, or leave it out");
        }
        if self.margin_exponent.is_some() && loss != LossKind::Hinge {
            return Some("--margin-exponent is of the hinge on pairs: add --loss hinge, or leave it out");
        }
        if self.weight.is_some() && loss != LossKind::Ccl {
            return Some("--weight is of the cosine contrastive loss: add --loss ccl, or leave it out");
        }
        if self.smoothing.is_some() && loss != LossKind::Logistic {
            return Some("--smoothing is of the logistic loss: add --loss logistic, or leave it out");
        }
        if self.gamma.is_some() && loss != LossKind::Focal {
            return Some("--gamma is of the focal loss: add --loss focal, or leave it out");
        }
        if self.surrogate.is_some() && loss != LossKind::Psl {
            return Some("--surrogate is of the pairwise softmax loss: add --loss psl, or leave it out");
        }
        if self.confidence_alpha.is_some() && config.confidence.weight == WeightScale::None {
            return Some(
                "--confidence-alpha is the weight column's: add --confidence-weight log or linear, or leave it out",
            );
        }
        if (self.alpha.is_some() || self.proposal.is_some()) && !config.negatives.mix.is_empty() {
            Some("--proposal and --alpha do not reach into the [[negatives.mix]] of the file: change it there")
        } else if self.alpha.is_some() && config.negatives.proposal != Proposal::Popularity {
            Some("--alpha is the exponent of popularity: add --proposal popularity, or leave it out")
        } else if (self.beta1.is_some() || self.beta2.is_some()) && rule != OptimizerKind::Adam {
            Some("--beta1 and --beta2 are Adam's: add --optimizer adam, or leave them out")
        } else if self.epsilon.is_some() && rule == OptimizerKind::Sgd {
            Some("--epsilon is Adagrad's and Adam's: add --optimizer adagrad or adam, or leave it out")
        } else {
            None
        }
    }
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    if args.list_samplers {
        return list_samplers(globals);
    }
    let (Some(dataset), Some(output)) = (&args.dataset, &args.output) else {
        return list_losses(globals);
    };
    let mut config = args.settings.config()?;
    args.validating.add_to(&mut config);
    let ctx = globals.context();
    let dataset = Dataset::open(dataset)?;
    let audit = args.audit.map(|path| AuditOptions { path, sample: args.audit_sample });
    let (manifest, report) = train_audited(&dataset, &config, output, args.force, audit.as_ref(), &ctx)?;
    if let (Some(AuditOptions { path, .. }), Some(written)) = (&audit, report.audit) {
        ctx.message(&format!(
            "{}: {} candidates for the negatives of {} positives",
            path.display(),
            grouped(written.rows),
            grouped(written.positives),
        ));
    }
    let last = report.epochs.last();
    let text = format!(
        "{}: {} epochs in {}, {} triples/s ({}, {} threads), loss {:.4} -> {:.4}{}",
        output.display(),
        report.epochs.len(),
        duration(Duration::from_secs_f64(report.seconds)),
        short(report.triples_per_second),
        report.instruction_set,
        report.plan.threads,
        report.epochs.first().map_or(f64::NAN, |e| e.loss),
        last.map_or(f64::NAN, |e| e.loss),
        skipped(last) + &validated(&report),
    );
    let fingerprint = manifest.fingerprint();
    globals.print(&Report { model: output, fingerprint, config: &manifest.config, report: &report }, text)
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
fn validated(report: &TrainReport) -> String {
    let Some(found) = &report.validation else { return String::new() };
    let why = match report.stopped {
        Stopped::Epochs => String::new(),
        Stopped::Patience => {
            format!(", stopped after epoch {} for want of improvement", report.epochs.len())
        }
    };
    format!("; {} {:.5} on valid after epoch {}, which was kept{why}", found.metric, found.best_value, found.best_epoch)
}

/// Says how many positives have no negative, if any.
fn skipped(last: Option<&EpochReport>) -> String {
    match last.map_or(0, |e| e.skipped) {
        0 => String::new(),
        n => format!("; {n} positives an epoch left out: their users have nearly every item"),
    }
}
