//! The flags that make up the configuration of a run: of `train`, `sweep`, `plan` and benchmarks.

use std::path::PathBuf;

use anyhow::Context as _;
use peccary::{
    LossKind, OptimizerKind, Proposal, Schedule, Similarity, Surrogate, TrainConfig, ValidationConfig, WeightScale,
};

use crate::common::{Kept, Usage};

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
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
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
    /// The same for the rows of items, with listwise losses that share negatives
    #[arg(long, value_name = "P")]
    item_dropout: Option<f32>,
    /// The share of positives that a similar item stands in for, with listwise losses that share negatives
    #[arg(long, value_name = "P")]
    substitution: Option<f32>,
    /// How many similar items may stand in for one
    #[arg(long, value_name = "N")]
    substitutes: Option<u32>,
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
        self.over(TrainConfig::default())
    }

    /// The same, with `base` in the place of the defaults if there is no file.
    pub fn over(&self, base: TrainConfig) -> anyhow::Result<TrainConfig> {
        let mut config: TrainConfig = match &self.config {
            None => base,
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
        set(&mut config.regularization.substitution, self.substitution);
        maybe(&mut config.regularization.substitutes, self.substitutes);
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
