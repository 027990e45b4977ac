//! What tables start from in an update: the model's rows, and folded ones where all interactions are new.

use rayon::prelude::*;

use super::Selection;
use crate::context::{Context, Interrupted};
use crate::dataset::Dataset;
use crate::fold::{Folded, Folding};
use crate::model::{Model, stride_of};
use crate::train::TrainConfig;
use crate::train::lane::stream_seed;

/// Folded rows take this part of the memory budget, at most; rows beyond it begin at random.
const MEMORY: u64 = 8;
/// Popularities of items that new ones of like popularity take their biases from: by powers of two.
const CLASSES: usize = 33;

/// Rows by their ids, which ascend.
#[derive(Debug, Default)]
pub(super) struct RowsById {
    ids: Vec<u32>,
    values: Vec<f32>,
    stride: usize,
}

impl RowsById {
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    fn get(&self, id: u32) -> Option<&[f32]> {
        let at = self.ids.binary_search(&id).ok()?;
        Some(&self.values[at * self.stride..(at + 1) * self.stride])
    }

    fn new(rows: Vec<(u32, Vec<f32>)>, stride: usize) -> Self {
        let ids = rows.iter().map(|(id, _)| *id).collect();
        Self { ids, values: rows.into_iter().flat_map(|(_, row)| row).collect(), stride }
    }
}

/// Where an update starts, and what it trains on.
pub(in crate::train) struct Warm<'a> {
    model: &'a Model,
    pub(in crate::train) selection: Selection,
    /// Rows of those whose interactions all are new.
    pub(super) users: RowsById,
    pub(super) items: RowsById,
    /// Whether a user is forgotten: the dataset has a hole there.
    is_forgotten: Vec<u32>,
    pub(super) forgotten: u64,
}

impl<'a> Warm<'a> {
    /// Folds in items first, from users that the model knows, then users from items.
    pub(super) fn new(
        model: &'a Model,
        dataset: &Dataset,
        config: &TrainConfig,
        selection: Selection,
        ctx: &Context,
    ) -> Result<Self, Interrupted> {
        let train = dataset.train();
        let (known_users, known_items) = (model.users().rows() as u32, model.items().rows() as u32);
        let stride = stride_of(model.users().width());
        let room = (ctx.memory().0 / MEMORY / (stride as u64 * 4)) as usize;
        let cold_user = |user: u32| user >= known_users || train.user(user).items.len() == selection.of(user).len();
        let mut is_forgotten: Vec<u32> =
            (0..known_users.min(dataset.users().len())).filter(|user| dataset.users().id(*user).is_none()).collect();
        is_forgotten.shrink_to_fit();

        // New interactions by item: those of an item that has no others make its row.
        let mut counts = vec![0u32; dataset.items().len() as usize];
        let pairs = || (0..dataset.users().len()).flat_map(|u| selection.of(u).iter().map(move |item| (*item, u)));
        pairs().for_each(|(item, _)| counts[item as usize] += 1);
        let popularity = |item: u32| dataset.popularity()[item as usize].to_native();
        let is_cold = |item: u32| counts[item as usize] > 0 && counts[item as usize] >= popularity(item);
        let mut of_items: Vec<(u32, u32)> =
            pairs().filter(|(item, user)| is_cold(*item) && !cold_user(*user)).collect();
        of_items.sort_unstable();
        ctx.check()?;
        let biases = config.biases().then(|| Biases::new(model, dataset));
        let folding = Folding::new(config, Folded::Item).roughly();
        let groups: Vec<&[(u32, u32)]> = of_items.chunk_by(|a, b| a.0 == b.0).take(room / 2).collect();
        let fold = |of: &&[(u32, u32)]| {
            let item = of[0].0;
            let users: Vec<u32> = of.iter().map(|(_, user)| *user).collect();
            let seed = stream_seed(config.seed ^ 1, u64::from(item));
            let mut row = folding.row(&users, known_users, |u| model.users().row(u as usize), seed)?;
            if let Some(biases) = &biases {
                row[config.dimensions] = biases.of(popularity(item));
            }
            Some((item, row)).filter(|_| !ctx.cancelled())
        };
        let items = RowsById::new(groups.par_iter().filter_map(fold).collect(), stride);
        ctx.check()?;

        let folding = Folding::new(config, Folded::User).roughly();
        let item_row = |item: u32| match items.get(item) {
            Some(row) => Some(row),
            None => (item < known_items && !is_cold(item)).then(|| model.items().row(item as usize)),
        };
        let cold: Vec<u32> = (0..dataset.users().len())
            .filter(|user| !selection.of(*user).is_empty() && cold_user(*user))
            .take(room - items.len().min(room))
            .collect();
        let fold = |user: &u32| {
            let own = train.user(*user).items.iter().map(|item| item.to_native());
            let known: Vec<u32> = own.filter(|item| item_row(*item).is_some()).collect();
            let seed = stream_seed(config.seed, u64::from(*user));
            // Negatives are drawn from items that the model knows, so that each has a row.
            let row = |item: u32| item_row(item).unwrap_or_else(|| model.items().row(item as usize));
            let row = folding.row(&known, known_items, row, seed)?;
            Some((*user, row)).filter(|_| !ctx.cancelled())
        };
        let users = RowsById::new(cold.par_iter().filter_map(fold).collect(), stride);
        ctx.check()?;
        let forgotten = is_forgotten.len() as u64;
        Ok(Self { model, selection, users, items, is_forgotten, forgotten })
    }

    /// The row that a user starts from; `None` where it is to begin at random.
    pub(in crate::train) fn user(&self, user: usize) -> Option<Start<'_>> {
        if self.is_forgotten.binary_search(&(user as u32)).is_ok() {
            return Some(Start::Nothing);
        }
        let own = || (user < self.model.users().rows()).then(|| self.model.users().row(user));
        self.users.get(user as u32).or_else(own).map(Start::Row)
    }

    /// The row that an item starts from.
    pub(in crate::train) fn item(&self, item: usize) -> Option<Start<'_>> {
        let own = || (item < self.model.items().rows()).then(|| self.model.items().row(item));
        self.items.get(item as u32).or_else(own).map(Start::Row)
    }
}

/// What a row starts from.
pub(in crate::train) enum Start<'a> {
    /// These factors.
    Row(&'a [f32]),
    /// Zeros: nobody is there.
    Nothing,
}

/// The mean bias of a model's items, by how popular they are now.
struct Biases {
    means: [f32; CLASSES],
}

impl Biases {
    fn new(model: &Model, dataset: &Dataset) -> Self {
        let (mut sums, mut counts) = ([0f64; CLASSES], [0u32; CLASSES]);
        let column = model.manifest().dimensions;
        for (item, count) in dataset.popularity().iter().take(model.items().rows()).enumerate() {
            let class = class_of(count.to_native());
            sums[class] += f64::from(model.items().row(item)[column]);
            counts[class] += 1;
        }
        let all = sums.iter().sum::<f64>() / f64::from(counts.iter().sum::<u32>().max(1));
        let mean = |class: usize| match counts[class] {
            0 => all as f32,
            n => (sums[class] / f64::from(n)) as f32,
        };
        Self { means: std::array::from_fn(mean) }
    }

    fn of(&self, popularity: u32) -> f32 {
        self.means[class_of(popularity)]
    }
}

/// Powers of two below, and none for nothing.
fn class_of(popularity: u32) -> usize {
    (32 - popularity.leading_zeros()) as usize
}
