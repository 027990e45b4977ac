//! What tables start from in an update: the model's rows, and folded ones where all interactions are new.

use rayon::prelude::*;

use super::Selection;
use crate::context::{Context, Interrupted};
use crate::dataset::{Appended, Dataset};
use crate::fold::{Folded, Folding};
use crate::model::{Model, stride_of};
use crate::train::TrainConfig;
use crate::train::lane::stream_seed;

/// Folded rows take this part of the memory budget, at most; rows beyond it begin at random. So do the pairs that items are
/// folded in from, before there are any tables.
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

    fn bytes(&self) -> u64 {
        4 * (self.ids.len() + self.values.len()) as u64
    }

    fn get(&self, id: u32) -> Option<&[f32]> {
        let at = self.ids.binary_search(&id).ok()?;
        Some(&self.values[at * self.stride..(at + 1) * self.stride])
    }

    /// The rows that `fold` makes of `ids`, which ascend; those that it makes nothing of are left out. They are written to
    /// their place at once: small pieces that threads give back would stay with the allocator while tables are trained.
    fn folded(mut ids: Vec<u32>, stride: usize, fold: impl Fn(usize, u32) -> Option<Vec<f32>> + Sync) -> Self {
        let mut values = vec![0f32; ids.len() * stride];
        let mut made = vec![false; ids.len()];
        let rows = values.par_chunks_mut(stride).zip(&mut made).zip(&ids);
        rows.enumerate().for_each(|(at, ((to, made), id))| {
            if let Some(row) = fold(at, *id) {
                to.copy_from_slice(&row);
                *made = true;
            }
        });
        let mut kept = 0;
        for at in (0..ids.len()).filter(|at| made[*at]) {
            ids[kept] = ids[at];
            values.copy_within(at * stride..(at + 1) * stride, kept * stride);
            kept += 1;
        }
        ids.truncate(kept);
        values.truncate(kept * stride);
        Self { ids, values, stride }
    }
}

/// Where an update starts, and what it trains on.
pub(in crate::train) struct Warm<'a> {
    model: &'a Model,
    pub(in crate::train) selection: Selection,
    /// Rows of those whose interactions all are new.
    pub(super) users: RowsById,
    pub(super) items: RowsById,
    /// Users who are forgotten, ascending: the dataset has holes there.
    pub(super) forgotten: Vec<u32>,
}

impl<'a> Warm<'a> {
    /// Folds in items first, from users that the model knows, then users from items.
    pub(super) fn new(
        model: &'a Model,
        dataset: &Dataset,
        config: &TrainConfig,
        (selection, appended): (Selection, &Appended),
        ctx: &Context,
    ) -> Result<Self, Interrupted> {
        let train = dataset.train();
        let (known_users, known_items) = (model.users().rows() as u32, model.items().rows() as u32);
        let stride = stride_of(model.users().width());
        let room = (ctx.memory().0 / MEMORY / (stride as u64 * 4)) as usize;
        // A pair that was in train before says that the model knows both.
        let new_users = appended.new_users(train);
        let cold_user = |user: u32| user >= known_users || new_users.contains(user);
        let forgotten: Vec<u32> = dataset.users().forgotten().take_while(|user| *user < known_users).collect();

        // New interactions by item: those of an item that has no others make its row.
        let mut counts = vec![0u32; dataset.items().len() as usize];
        let pairs = || (0..dataset.users().len()).flat_map(|u| selection.of(u).iter().map(move |item| (*item, u)));
        appended.arrivals().for_each(|(_, item)| counts[item as usize] += 1);
        let popularity = |item: u32| dataset.popularity()[item as usize].to_native();
        let is_cold = |item: u32| counts[item as usize] > 0 && counts[item as usize] >= popularity(item);
        let most = (ctx.memory().0 / MEMORY / 8) as usize;
        let mut of_items: Vec<(u32, u32)> =
            pairs().filter(|(item, user)| is_cold(*item) && !cold_user(*user)).take(most).collect();
        of_items.sort_unstable();
        ctx.check()?;
        let biases = config.biases().then(|| Biases::new(model, dataset));
        let folding = Folding::new(config, Folded::Item).roughly();
        let groups: Vec<&[(u32, u32)]> = of_items.chunk_by(|a, b| a.0 == b.0).take(room / 2).collect();
        let fold = |group: usize, item: u32| {
            let users: Vec<u32> = groups[group].iter().map(|(_, user)| *user).collect();
            let seed = stream_seed(config.seed ^ 1, u64::from(item));
            let mut row = folding.row(&users, known_users, |u| model.users().row(u as usize), seed)?;
            if let Some(biases) = &biases {
                row[config.dimensions] = biases.of(popularity(item));
            }
            Some(row).filter(|_| !ctx.cancelled())
        };
        let items = RowsById::folded(groups.iter().map(|group| group[0].0).collect(), stride, fold);
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
        let fold = |_: usize, user: u32| {
            let own = train.user(user).items.iter().map(|item| item.to_native());
            let known: Vec<u32> = own.filter(|item| item_row(*item).is_some()).collect();
            let seed = stream_seed(config.seed, u64::from(user));
            // Negatives are drawn from items that the model knows, so that each has a row.
            let row = |item: u32| item_row(item).unwrap_or_else(|| model.items().row(item as usize));
            let row = folding.row(&known, known_items, row, seed)?;
            Some(row).filter(|_| !ctx.cancelled())
        };
        let users = RowsById::folded(cold, stride, fold);
        ctx.check()?;
        Ok(Self { model, selection, users, items, forgotten })
    }

    /// Bytes of what is held while training goes on.
    pub(super) fn bytes(&self) -> u64 {
        self.selection.held() + self.users.bytes() + self.items.bytes() + 4 * self.forgotten.len() as u64
    }

    /// The row that a user starts from; `None` where it is to begin at random.
    pub(in crate::train) fn user(&self, user: usize) -> Option<Start<'_>> {
        if self.forgotten.binary_search(&(user as u32)).is_ok() {
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
