//! What a run will take, computed before it starts: which tables are in memory, how large windows are, what is read.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::TrainConfig;
use super::error::TrainError;
use super::lane::{BATCH, IN_FLIGHT};
use super::substitution::Substitution;
use super::{CheckpointEvery, listwise, strata};
use crate::context::{ByteSize, Context};
use crate::dataset::Dataset;
use crate::model::{Tables, stride_of};
use crate::negatives::Proposal;
use crate::storage::{StorageError, check_room};
use crate::stream::Sizes as Windows;

/// Rows of a block take this much of a core's own cache by default.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks are worth it from so many negatives for each visit to a user's row on, where the items' table is in the cache
/// that all cores share, or beyond it. Both measured: docs/speed.md.
const BLOCKS_PAY_WITHIN: f64 = 32.0;
const BLOCKS_PAY_BEYOND: f64 = 4.0;
/// What the cache shared by all cores holds, about.
const SHARED_CACHE: u64 = 32 << 20;
/// A window has this many interactions for each item by default, so that loading a block's rows costs little.
const PER_ITEM: u64 = 16;
const WINDOWS_AN_EPOCH: u64 = 8;
/// At the end of an epoch windows shrink to this many an item: below it, dealing the items takes as long as training.
const PER_ITEM_AT_LEAST: u64 = 2;
/// A window ends with the chunk that fills it: it may have as many interactions more as a chunk has.
const CHUNK: u64 = 1 << 16;
/// A window smaller than this is only taken if users in a file do not allow a larger one.
const COMFORTABLE: u64 = 1 << 18;
/// The program itself, what its threads touch of their stacks, and what small things take.
const FIXED: u64 = 2 << 20;
const LANE: u64 = 256 << 10;
/// Deterministic training is planned for as many threads at least, so that up to this number nothing depends on it.
pub(super) const SHARING: u64 = 8;
/// Bytes that an interaction of a window takes: 8, and what buckets keep from windows in which they were larger.
const INTERACTION: u64 = 10;
/// Bytes that an item takes for popularity negatives: weight and alias table, which all lanes share.
const WEIGHTS: u64 = 16;
/// The same while the table is made, before there is anything else.
const MAKING_WEIGHTS: u64 = 36;
/// The room that buckets may keep from window to window is this many quarters of a window. Growing doubles them, and
/// what is never touched of their room takes no memory; making them anew for every window takes a fifth of its time.
const KEPT_QUARTERS: u64 = 9;

/// Samplers that look up interactions have this part of them at least: one in so many.
pub(crate) const LOOKED_UP_AT_LEAST: u64 = 16;

/// What a plan is made for: the sizes of the train part of a dataset, or of one that is yet to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainCounts {
    /// Users of the dataset.
    pub users: u64,
    /// Items of the dataset.
    pub items: u64,
    /// Interactions in train.
    pub interactions: u64,
}

/// Where the tables of factors and optimizer state are while training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TablePlace {
    /// Both in memory.
    Memory,
    /// Items in memory, users in a file whose pages come and go with the windows.
    UsersInFile,
    /// Both in files. Items are touched in random order: without free memory beside the budget this is slow.
    BothInFiles,
}

/// What a training run will take, and how it will go about it. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainPlan {
    /// The sizes it was made for.
    #[serde(flatten)]
    pub counts: TrainCounts,
    /// The budget that it stays within.
    pub budget: ByteSize,
    /// Lanes: producer and trainer threads, each.
    pub threads: usize,
    /// Where the tables are.
    pub tables: TablePlace,
    /// The users' factors and optimizer state.
    pub user_table: ByteSize,
    /// The items' factors and optimizer state.
    pub item_table: ByteSize,
    /// Items in a block of the stream.
    pub block_items: u32,
    /// Interactions in a window of the stream, about.
    pub window: u64,
    /// Windows of all lanes.
    pub windows: ByteSize,
    /// Rows of users in a file that are in memory at a time, being trained or asked for: pages of the file, which are
    /// not in `memory`, but within the budget together with it.
    pub user_rows: ByteSize,
    /// Batches on their way from producers to trainers.
    pub batches: ByteSize,
    /// What mixtures of negatives look up: weights of items, reservoirs, times and users of interactions.
    pub samplers: ByteSize,
    /// The part of the interactions that `recent` and `cooccurrence` negatives look up, drawn at random: what half of
    /// the memory beside the rest holds, and a sixteenth at least; 1 for all.
    pub sampled_share: f64,
    /// What is held beside training: an audit's decisions, and writing them; of an update, the lists of what is new and
    /// the rows that were folded in.
    #[serde(alias = "audit")]
    pub beside: ByteSize,
    /// What has an entry an item: partitions into blocks, alias tables, sets of positives.
    pub item_arrays: ByteSize,
    /// Anonymous memory at its peak: tables in memory, windows, batches, arrays, and the program itself.
    pub memory: ByteSize,
    /// What an epoch reads of the dataset. If `releases_cache` is false it stays in the page cache after the first.
    pub epoch_read: ByteSize,
    /// What an epoch reads of tables in files, and writes as well.
    pub epoch_tables: ByteSize,
    /// Whether the dataset does not fit beside the rest, so that the page cache is let go of behind the reader.
    pub releases_cache: bool,
    /// Disk that tables in files take until the run ends.
    pub table_files: ByteSize,
    /// Disk that the model's tables take when it is published.
    pub model: ByteSize,
    /// What validation takes, if the run has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationPlan>,
    /// What checkpoints take, if any are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointPlan>,
}

/// What checkpoints take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPlan {
    /// The copy of all tables that is written while training goes on: anonymous memory beside the plan's `memory`, within
    /// the budget together with it, from when the first checkpoint is due, or from the start where they are not by time. 0 where there is no room for one: training waits then
    /// while the tables themselves are written.
    pub copy: ByteSize,
    /// Disk that two checkpoints take, until the run ends.
    pub files: ByteSize,
}

/// What validation takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidationPlan {
    /// Kept free for ranking between epochs; part of the plan's `memory`.
    pub ranking: ByteSize,
    /// The copy of the best factors so far, in `memory` or in `table_files`.
    pub best: ByteSize,
    /// Whether that copy is in files, because it does not fit beside the rest.
    pub best_in_file: bool,
}

/// What training on `dataset` takes with `config`; [`train`](super::train()) does the same. No interaction is read.
///
/// # Errors
/// If the configuration makes no sense or asks for exposures, times or context that the dataset has not, or the budget of
/// `ctx` cannot hold even the smallest windows.
pub fn plan_train(dataset: &Dataset, config: &TrainConfig, ctx: &Context) -> Result<TrainPlan, TrainError> {
    plan_beside(0, dataset, config, ctx)
}

/// As [`plan_train`], beside what takes so many bytes.
pub(super) fn plan_beside(
    beside: u64,
    dataset: &Dataset,
    config: &TrainConfig,
    ctx: &Context,
) -> Result<TrainPlan, TrainError> {
    if config.negatives.needs_exposures() && dataset.exposures().is_none() {
        return Err(TrainError::Config {
            key: "negatives.mix.propose".into(),
            value: "\"exposures\"".into(),
            must: "be another one, such as \"popularity\": the dataset has no exposures; or ingest the log again with \
                   --exposure-events and the types of event that are shown, not taken"
                .into(),
        });
    }
    if let Some((text, must)) = config.negatives.missing_context(dataset) {
        let (key, value) = ("negatives.mix.same_context".into(), format!("{text:?}"));
        return Err(TrainError::Config { key, value, must });
    }
    if let Some(validation) = &config.validation {
        validation.check(dataset)?;
    }
    let counts = TrainCounts {
        users: dataset.users().len().into(),
        items: dataset.items().len().into(),
        interactions: dataset.train().len(),
    };
    TrainPlan::beside(beside, counts, config, ctx)
}

impl TrainPlan {
    /// What training takes on a dataset of these sizes. O(1).
    ///
    /// Windows shrink before tables go to a file, but not below a quarter of a million interactions if the users' table
    /// in a file allows larger ones. The items' table goes to a file only where nothing else fits.
    ///
    /// # Errors
    /// If the configuration makes no sense, or the budget of `ctx` cannot hold even the smallest windows:
    /// [`TrainError::Memory`] has the smallest budget that does.
    pub fn new(counts: TrainCounts, config: &TrainConfig, ctx: &Context) -> Result<Self, TrainError> {
        Self::beside(0, counts, config, ctx)
    }

    /// As [`TrainPlan::new`], beside what takes so many bytes.
    fn beside(beside: u64, counts: TrainCounts, config: &TrainConfig, ctx: &Context) -> Result<Self, TrainError> {
        config.validate()?;
        let config = &*config.in_force();
        let sizes = Sizes { beside, ..Sizes::new(counts, config, ctx.threads() as u64) };
        let wanted = sizes.window(config);
        let fitting = |place: TablePlace| Some((place, sizes.largest_window(place, wanted, ctx.memory().0)?));
        let [memory, users, both] = [TablePlace::Memory, TablePlace::UsersInFile, TablePlace::BothInFiles].map(fitting);
        let comfortable = memory.filter(|(_, window)| *window >= wanted.min(COMFORTABLE));
        // With all tables in files windows are the largest, but rows of items come and go in random order.
        let chosen = comfortable.or_else(|| memory.into_iter().chain(users).max_by_key(|(_, w)| *w)).or(both);
        let Some((place, window)) = chosen else {
            let smallest = sizes.total(TablePlace::BothInFiles, 1).min(sizes.total(TablePlace::Memory, 1));
            return Err(TrainError::Memory { smallest: ByteSize(smallest), budget: ctx.memory() });
        };
        Ok(sizes.plan((place, None), window, ctx))
    }

    /// The plan of a run that goes on as `self` says, within the threads and the memory of `ctx`: with the same windows,
    /// blocks and share of what samplers look up, which decide what is learnt.
    ///
    /// # Errors
    /// [`TrainError::Memory`] if the budget does not hold that.
    pub(super) fn go_on(&self, config: &TrainConfig, ctx: &Context) -> Result<Self, TrainError> {
        let config = &*config.in_force();
        let sizes = Sizes::new(self.counts, config, ctx.threads() as u64);
        let looked_up = (sizes.looked_up as f64 * self.sampled_share).ceil() as u64;
        let more = looked_up.saturating_sub(sizes.least_looked_up());
        let total = |place: TablePlace| sizes.total(place, self.window).saturating_add(more);
        let places = [TablePlace::Memory, TablePlace::UsersInFile, TablePlace::BothInFiles];
        match places.into_iter().find(|place| total(*place) <= ctx.memory().0) {
            Some(place) => Ok(sizes.plan((place, Some((self.sampled_share, more))), self.window, ctx)),
            None => {
                let smallest = places.map(total).into_iter().min().unwrap_or_default();
                Err(TrainError::Memory { smallest: ByteSize(smallest), budget: ctx.memory() })
            }
        }
    }

    /// Bytes of disk that the run cannot do without: tables in files, and the model.
    pub fn least_disk(&self) -> ByteSize {
        ByteSize(self.model.0 + self.table_files.0)
    }

    /// Makes sure that the disk of `folder`, where the model `output` is made, holds what the run writes; that it may not
    /// hold checkpoints, too, is said. Those of a run that is `resumed` are there.
    pub(super) fn check_room(
        &self,
        folder: &Path,
        output: &Path,
        resumed: bool,
        ctx: &Context,
    ) -> Result<(), StorageError> {
        let least = self.least_disk();
        check_room(folder, output, least.0)?;
        let checkpoints = self.checkpoint.filter(|_| !resumed).map_or(0, |checkpoint| checkpoint.files.0);
        if let Err(error) = check_room(folder, output, least.0 + checkpoints) {
            ctx.message(&format!(
                "warning: with checkpoints, {}, {error}; without them (--checkpoint-every off) it is {least}",
                ByteSize(checkpoints)
            ));
        }
        Ok(())
    }

    /// Interactions that the buckets of a lane may keep room for from window to window.
    pub(super) fn kept_room(&self) -> u64 {
        let copy = self.checkpoint.map_or(0, |checkpoint| checkpoint.copy.0);
        let spare = self.budget.0.saturating_sub(self.memory.0 + self.user_rows.0 + copy) / 8 / self.threads as u64;
        ((self.window + CHUNK).min(self.counts.interactions) * KEPT_QUARTERS / 4).saturating_add(spare)
    }
}

/// The sizes of windows of up to `target` interactions, and among how many lanes an epoch's are shared out.
pub(super) fn windows_of(config: &TrainConfig, items: u64, target: u64, lanes: usize) -> (Windows, usize) {
    match config.deterministic {
        // The threads share each window, and their number must not matter.
        true => (Windows { target, least: target }, 1),
        // Nobody waits for the last window of a single lane.
        false if lanes == 1 => (Windows { target, least: target }, 1),
        false => (Windows { target, least: items * PER_ITEM_AT_LEAST }, lanes),
    }
}

/// What follows from the counts and the configuration, whatever the budget.
struct Sizes {
    counts: TrainCounts,
    lanes: u64,
    /// Windows in memory at a time.
    open: u64,
    block_items: u64,
    user_row: u64,
    user_table: u64,
    item_table: u64,
    model: u64,
    batches: u64,
    beside: u64,
    /// What samplers take, but for what they look up of interactions.
    samplers: u64,
    /// That, if they look up all.
    looked_up: u64,
    /// Bytes of an interaction of a window.
    interaction: u64,
    item_arrays: u64,
    /// What there is an entry an item of before there are tables and windows.
    making: u64,
    /// What validation keeps free for ranking, and the factors of both tables without optimizer state.
    validation: Option<(u64, u64)>,
    /// Whether checkpoints are taken.
    checkpoints: bool,
}

impl Sizes {
    fn new(counts: TrainCounts, config: &TrainConfig, lanes: u64) -> Self {
        let TrainCounts { users, items, .. } = counts;
        let width = config.dimensions + if config.biases() { 2 } else { 0 };
        let popularity = config.negatives.simple().is_some_and(|(proposal, _)| proposal == Proposal::Popularity);
        let listwise = config.shares_negatives();
        let block_items = match config.stream.block_items {
            Some(0) => items,
            None if listwise => items,
            Some(n) => u64::from(n).min(items),
            None if config.negatives.needs_whole_catalogue() => items,
            None => {
                let fitting =
                    ((BLOCK_BYTES / (config.precision.stride(width) * 4)) as u64).clamp(256, 1 << 16).min(items);
                // Blocks keep the rows of negatives in cache, but a user's row is fetched anew for each of them.
                let visits = (users * items.div_ceil(fitting.max(1))) as f64 / counts.interactions.max(1) as f64;
                let saved = config.negatives() as f64 / visits.clamp(f64::MIN_POSITIVE, 1.0);
                let table = Tables::bytes(items, width, config.optimizer(), config.precision);
                let pays = saved >= if table > SHARED_CACHE { BLOCKS_PAY_BEYOND } else { BLOCKS_PAY_WITHIN };
                match config.deterministic {
                    true => strata::block_items(items as u32, fitting as u32, config.negatives()).into(),
                    false if !pays => items,
                    false => fitting,
                }
            }
        };
        // A deterministic run has one window, which all threads share, and its size must not depend on their number.
        let threads = lanes;
        let (lanes, open, deals, in_flight) = match config.deterministic {
            true if listwise => (1, 1, 1, 0),
            true => (lanes.max(SHARING), 1, 2, 1),
            false => (lanes, lanes, lanes, IN_FLIGHT as u64 + 3),
        };
        let table = |rows: u64| Tables::bytes(rows, width, config.optimizer(), config.precision);
        // A user and an end for each positive at most, and its negatives; what they count, and offsets of the scores.
        let (weighs, corrects) = (u64::from(config.negatives.weighs()), u64::from(config.negatives.corrects()));
        let margins = u64::from(config.loss.margin_exponent.is_some());
        let positive = 12 + 4 * (u64::from(!config.confidence.is_off()) + corrects.max(margins));
        let batch = BATCH as u64 * (positive + 4 * (1 + weighs + corrects) * config.negatives() as u64);
        let batches = match listwise {
            true => listwise::lane_bytes(config, items as u32),
            false => in_flight * batch,
        };
        // Two words an item for the partition, a bit for the positives of a user.
        let arrays = deals * items * 8 + lanes * block_items / 8;
        let mixture = config.negatives.simple().is_none();
        let filters = counts.interactions * config.negatives.context_bytes();
        let (samplers, each) = match mixture {
            true => config.negatives.bytes(items, lanes),
            false => Substitution::bytes(config, items, threads),
        };
        // A single lane, and strata, wait while an index is built: there is one of each then.
        let goes_on = lanes > 1 && !config.deterministic;
        let samplers = samplers + config.negatives.index_bytes((items, width as u64), lanes, goes_on);
        // As many threads as the plan allows for: their number must not matter to deterministic training.
        let ranking = if config.deterministic { threads.max(SHARING) } else { threads };
        let factors = (users + items) * config.precision.stride(width) as u64 * 4;
        let validation = config
            .validation
            .as_ref()
            .map(|v| (ValidationPlan::ranking_bytes(v, counts.users, ranking as usize), factors));
        let (weights, making) = if popularity { (items * WEIGHTS, items * MAKING_WEIGHTS) } else { (0, 0) };
        Self {
            counts,
            lanes,
            open,
            block_items,
            user_row: table(1),
            user_table: table(users),
            item_table: table(items),
            model: (users + items) * stride_of(width) as u64 * 4,
            batches: lanes * batches,
            beside: 0,
            samplers: samplers + filters,
            looked_up: counts.interactions * each,
            interaction: if listwise { INTERACTION + 8 } else { INTERACTION },
            item_arrays: arrays + weights,
            making,
            validation,
            checkpoints: config.checkpoint.every != CheckpointEvery::Off,
        }
    }

    /// The window to have where memory allows.
    fn window(&self, config: &TrainConfig) -> u64 {
        let TrainCounts { items, interactions, .. } = self.counts;
        let most = if config.shares_negatives() { listwise::WINDOW } else { (items * PER_ITEM).max(1 << 20) };
        let by_items = || most.min(interactions.div_ceil(WINDOWS_AN_EPOCH));
        let wanted = config.stream.window.unwrap_or_else(by_items).clamp(1, interactions.max(1));
        let (sizes, lanes) = windows_of(config, items, wanted, self.lanes as usize);
        sizes.next(interactions, lanes)
    }

    /// Interactions that a window may have, its last chunk included.
    fn read(&self, window: u64) -> u64 {
        (window + CHUNK).min(self.counts.interactions)
    }

    fn windows(&self, window: u64) -> u64 {
        // The planned order of chunks takes a few bytes each, too.
        self.open * self.read(window) * self.interaction + self.counts.interactions / CHUNK * 32
    }

    /// Rows of the users of a window and of the next, for each lane.
    fn user_rows(&self, place: TablePlace, window: u64) -> u64 {
        let TrainCounts { users, interactions, .. } = self.counts;
        let share = self.read(window) as f64 / interactions.max(1) as f64;
        let rows = ((users as f64 * share).ceil() as u64 * 2 * self.open).min(users);
        if place == TablePlace::Memory { 0 } else { rows * self.user_row }
    }

    /// Bytes of what samplers look up of interactions, at least.
    fn least_looked_up(&self) -> u64 {
        self.looked_up.div_ceil(LOOKED_UP_AT_LEAST)
    }

    /// Anonymous memory.
    fn memory(&self, place: TablePlace, window: u64) -> u64 {
        let tables = match place {
            TablePlace::Memory => self.user_table + self.item_table,
            TablePlace::UsersInFile => self.item_table,
            TablePlace::BothInFiles => 0,
        };
        let samplers = self.samplers + self.least_looked_up();
        let training = tables + self.windows(window) + self.batches + self.item_arrays + samplers;
        let ranking = self.validation.map_or(0, |(ranking, _)| ranking);
        FIXED + self.beside + self.lanes * LANE + training.max(self.making) + ranking
    }

    /// All that the budget has to hold.
    fn total(&self, place: TablePlace, window: u64) -> u64 {
        self.memory(place, window) + self.user_rows(place, window)
    }

    /// The largest window up to `wanted` that fits `budget`, if any does.
    fn largest_window(&self, place: TablePlace, wanted: u64, budget: u64) -> Option<u64> {
        let fits = |window: u64| self.total(place, window) <= budget;
        if !fits(1) {
            return None;
        }
        let (mut fitting, mut above) = (1, wanted + 1);
        while above - fitting > 1 {
            let middle = fitting + (above - fitting) / 2;
            if fits(middle) { fitting = middle } else { above = middle }
        }
        Some(fitting)
    }

    /// The plan for tables in this place. A `share` of the interactions is looked up, which takes so many bytes more than
    /// the least, or what there is room for.
    fn plan(&self, (place, share): (TablePlace, Option<(f64, u64)>), window: u64, ctx: &Context) -> TrainPlan {
        let budget = ctx.memory();
        let TrainCounts { users, interactions, .. } = self.counts;
        let left = budget.0.saturating_sub(self.total(place, window));
        let validation = self.validation.map(|(ranking, best)| ValidationPlan {
            ranking: ByteSize(ranking),
            best: ByteSize(best),
            best_in_file: place != TablePlace::Memory || best > left,
        });
        let best = validation.map_or((0, 0), |v| if v.best_in_file { (0, v.best.0) } else { (v.best.0, 0) });
        let more = self.looked_up - self.least_looked_up();
        let more = share.map_or(more.min((left - best.0) / 2), |(_, more)| more);
        let looked_up = self.least_looked_up() + more;
        let whole = if looked_up >= self.looked_up { 1.0 } else { looked_up as f64 / self.looked_up as f64 };
        let (memory, user_rows) = (self.memory(place, window) + best.0 + more, self.user_rows(place, window));
        // Items and offsets: the columns that training reads.
        let epoch_read = (interactions + users + interactions.div_ceil(CHUNK)) * 4;
        let releases_cache = epoch_read > budget.0.saturating_sub(memory + user_rows);
        let tables = self.user_table + self.item_table;
        // The copy takes what nothing else wants: neither windows nor samplers nor the cache become smaller by it.
        let beside = memory + user_rows + if releases_cache { 0 } else { epoch_read };
        let fits = place == TablePlace::Memory && tables <= budget.0.saturating_sub(beside);
        let checkpoint = self.checkpoints.then_some(CheckpointPlan {
            copy: ByteSize(if fits { tables } else { 0 }),
            files: ByteSize(2 * (tables + validation.map_or(0, |v| v.best.0))),
        });
        let in_files = match place {
            TablePlace::Memory => 0,
            TablePlace::UsersInFile => self.user_table,
            TablePlace::BothInFiles => self.user_table + self.item_table,
        };
        TrainPlan {
            counts: self.counts,
            budget,
            threads: ctx.threads(),
            tables: place,
            user_table: ByteSize(self.user_table),
            item_table: ByteSize(self.item_table),
            block_items: self.block_items as u32,
            window,
            windows: ByteSize(self.windows(window)),
            user_rows: ByteSize(user_rows),
            batches: ByteSize(self.batches),
            samplers: ByteSize(self.samplers + looked_up),
            sampled_share: share.map_or(whole, |(share, _)| share),
            beside: ByteSize(self.beside),
            item_arrays: ByteSize(self.item_arrays),
            memory: ByteSize(memory),
            epoch_read: ByteSize(epoch_read),
            epoch_tables: ByteSize(in_files),
            releases_cache,
            table_files: ByteSize(in_files + best.1),
            model: ByteSize(self.model),
            validation,
            checkpoint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negatives::{MixConfig, Propose};

    const COUNTS: TrainCounts = TrainCounts { users: 1_000_000, items: 100_000, interactions: 50_000_000 };

    fn plan(budget: u64) -> Result<TrainPlan, TrainError> {
        TrainPlan::new(COUNTS, &TrainConfig::default(), &Context::new(2, ByteSize(budget)))
    }

    #[test]
    fn the_smaller_the_budget_the_more_is_in_files_until_it_is_refused() {
        let mut last = None;
        for mib in (1..2048).rev() {
            match plan(mib << 20) {
                Ok(plan) => {
                    assert!(plan.memory.0 + plan.user_rows.0 <= plan.budget.0 && plan.window > 0, "{plan:?}");
                    last = Some(plan);
                }
                Err(TrainError::Memory { smallest, .. }) => {
                    assert!(smallest.0 > mib << 20);
                    assert!(plan(smallest.0).is_ok() && plan(smallest.0 - 1).is_err(), "{smallest} is exact");
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(last.map(|plan| plan.tables), Some(TablePlace::BothInFiles));
        // 320 bytes a row with biases: 305 MiB of users, 31 of items.
        assert_eq!(plan(1 << 30).unwrap().tables, TablePlace::Memory);
        assert_eq!(plan(200 << 20).unwrap().tables, TablePlace::UsersInFile);
        assert_eq!(plan(2 << 30).unwrap().window, 16 * COUNTS.items);
        assert!(!plan(2 << 30).unwrap().releases_cache && plan(200 << 20).unwrap().releases_cache);
    }

    #[test]
    fn what_samplers_look_up_is_within_the_budget_and_shrinks_with_it() {
        let mut config = TrainConfig::default();
        let mix = |propose| MixConfig { propose, ..MixConfig::default() };
        config.negatives.mix = vec![mix(Propose::Recent), mix(Propose::Cooccurrence), mix(Propose::Reservoir)];
        let plan = |budget| TrainPlan::new(COUNTS, &config, &Context::new(2, ByteSize(budget)));
        let roomy = plan(1 << 40).unwrap();
        assert_eq!(roomy.sampled_share, 1.0);
        assert!(roomy.samplers.0 > 52 * COUNTS.interactions, "{roomy:?}");
        assert_eq!(u64::from(roomy.block_items), COUNTS.items);
        let Err(TrainError::Memory { smallest, .. }) = plan(1 << 20) else { panic!("a mebibyte is refused") };
        assert!(plan(smallest.0 - 1).is_err());
        for budget in [smallest.0, smallest.0 * 3 / 2, 1 << 30] {
            let plan = plan(budget).unwrap();
            assert!(plan.memory <= plan.budget && plan.sampled_share < 1.0, "{plan:?}");
            assert!(plan.sampled_share >= 1.0 / 16.0, "{plan:?}");
        }
    }

    #[test]
    fn a_copy_for_checkpoints_is_there_where_nothing_else_wants_the_memory() {
        let mut without = TrainConfig::default();
        without.checkpoint.every = CheckpointEvery::Off;
        let (mut copies, mut none) = (0, 0);
        for mib in (100..1500).step_by(50) {
            let ctx = Context::new(2, ByteSize(mib << 20));
            let plan = plan(mib << 20).unwrap();
            let checkpoint = plan.checkpoint.unwrap();
            assert!(plan.memory.0 + plan.user_rows.0 + checkpoint.copy.0 <= plan.budget.0, "{plan:?}");
            assert_eq!(TrainPlan { checkpoint: None, ..plan.clone() }, TrainPlan::new(COUNTS, &without, &ctx).unwrap());
            *if checkpoint.copy.0 > 0 { &mut copies } else { &mut none } += 1;
        }
        assert!(copies > 5 && none > 5, "{copies} {none}");
    }

    #[test]
    fn a_run_that_goes_on_keeps_what_decides_what_is_learnt() {
        let mut config = TrainConfig { deterministic: true, ..TrainConfig::default() };
        config.negatives.mix = vec![MixConfig { propose: Propose::Recent, ..MixConfig::default() }];
        let first = TrainPlan::new(COUNTS, &config, &Context::new(2, ByteSize(1 << 30))).unwrap();
        assert!(first.sampled_share < 1.0);
        for (threads, memory) in [(1, 1 << 30), (16, 4 << 30), (2, 1 << 40)] {
            let plan = first.go_on(&config, &Context::new(threads, ByteSize(memory))).unwrap();
            assert_eq!((plan.window, plan.block_items), (first.window, first.block_items));
            assert_eq!(plan.sampled_share.to_bits(), first.sampled_share.to_bits());
            assert!(plan.memory.0 + plan.user_rows.0 <= memory && plan.threads == threads, "{plan:?}");
        }
        let Err(TrainError::Memory { smallest, .. }) = first.go_on(&config, &Context::new(2, ByteSize(1 << 20))) else {
            panic!("a mebibyte is refused");
        };
        assert!(first.go_on(&config, &Context::new(2, smallest)).is_ok());
        assert!(first.go_on(&config, &Context::new(2, ByteSize(smallest.0 - 1))).is_err());
    }

    #[test]
    fn a_plan_survives_json() {
        let plan = plan(200 << 20).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<TrainPlan>(&text).unwrap(), plan);
    }
}
