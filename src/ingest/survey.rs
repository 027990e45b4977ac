//! What is in a log, counted in one pass that writes nothing: for plans.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::bounded;
use serde::Serialize;

use super::budget::Budget;
use super::distinct::Distinct;
use super::error::IngestError;
use super::ids::{HEAD, SeenIds};
use super::options::{IngestOptions, Inputs};
use super::pipeline::{expected_bytes, find_sources};
use super::read::{BadRow, Block, Input, Row, RowSink, Scratch, open};
use super::record::Layout;
use super::scatter::check_hash;
use crate::context::{Context, Unit};
use crate::dataset::{Columns, Part, id_hash};
use crate::mix::mix;

/// What a log holds. Users, items and interactions are estimates, within 2 % of the truth in nearly every case.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Survey {
    /// Rows that ingest would keep: good ones that pass the filters by weight and event.
    pub rows: u64,
    /// Rows that cannot be used.
    pub rejected: u64,
    /// Rows that are exposures: shown, not taken.
    pub exposure_rows: u64,
    /// Distinct (user, item) pairs of them: at most so many are stored.
    pub exposures: u64,
    /// Distinct users, before rare ones are dropped.
    pub users: u64,
    /// Distinct items, before rare ones are dropped.
    pub items: u64,
    /// Distinct (user, item) pairs: what rows of the same pair are merged into.
    pub interactions: u64,
    /// Bytes of the ids of distinct users, taking them to be as long as a row's on average.
    pub user_id_bytes: u64,
    /// The same for items.
    pub item_id_bytes: u64,
    /// Whether there are times, weights, event types: what an interaction is stored with.
    pub columns: Columns,
    /// Columns of context, whose combination is stored with each train interaction.
    pub context_columns: usize,
    /// Bytes of temporary files that ingest writes with the budget and threads that the log was counted with.
    pub temporary_bytes: u64,
    /// Bytes of the inputs as stored.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Counts what is in a log. One pass over all of it with all threads, O(rows); memory: a few MiB a thread.
///
/// # Errors
/// If an input is standard input, which could not be read a second time, or cannot be read. Rows that make no sense are
/// counted.
pub fn survey(inputs: &Inputs, options: &IngestOptions, ctx: &Context) -> Result<Survey, IngestError> {
    options.validate(inputs)?;
    if [&inputs.main, &inputs.valid, &inputs.test].into_iter().flatten().any(|input| *input == Input::Stdin) {
        return Err(IngestError::Options(
            "standard input can be read only once, and a plan is made before the run: give the log as a file".into(),
        ));
    }
    let begun = Instant::now();
    let sources = find_sources(inputs, options)?;
    let (rest, _) = super::contexts::shared_out(options, ctx)?;
    let budget = Budget::new(&rest, expected_bytes(&sources), None)?;
    let part = sources.iter().any(|(_, part)| *part != Part::Train);
    let mut layout = Layout { part, exposed: options.has_exposures(), ..Layout::default() };
    layout.context = !options.read.context.is_empty();
    let total = sources.iter().map(|(source, _)| source.bytes()).sum::<Option<u64>>();
    let stage = ctx.stage("counting", total, Unit::Bytes);
    let (send, blocks) = bounded::<Block>(budget.queue);
    let all = Mutex::new(Tally::default());
    std::thread::scope(|scope| -> Result<(), IngestError> {
        for _ in 0..budget.workers {
            let blocks = blocks.clone();
            let (all, stage, budget) = (&all, &stage, &budget);
            scope.spawn(move || {
                let seen = [(); 2].map(|()| SeenIds::new(budget.cache_slots));
                let mut sink = Counter { options, tally: Tally::default(), seen };
                let mut scratch = Scratch::default();
                for block in blocks {
                    // A sink that cannot fail.
                    let Ok(_) = block.parse(&mut scratch, &mut sink);
                    stage.add(block.consumed());
                }
                all.lock().unwrap_or_else(PoisonError::into_inner).absorb(&sink.tally);
            });
        }
        drop(blocks);
        for (source, _) in &sources {
            let blocks = open(source, &options.read, budget.limits)?;
            if let Some(roles) = &blocks.info().columns {
                layout.time |= roles.time.is_some();
                layout.weight |= roles.weight.is_some();
                layout.event |= roles.event.is_some();
            }
            for block in blocks {
                ctx.check()?;
                if send.send(block?).is_err() {
                    // The counting threads are gone, which only a panic does; the scope passes it on.
                    return Ok(());
                }
            }
        }
        drop(send);
        Ok(())
    })?;
    let tally = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (users, items) = (tally.users.count(), tally.items.count());
    let mean = |bytes: u64| bytes as f64 / tally.rows.max(1) as f64;
    Ok(Survey {
        rows: tally.rows,
        rejected: tally.rejected,
        exposure_rows: tally.exposed,
        exposures: tally.exposures.count().min(tally.exposed),
        users,
        items,
        interactions: tally.pairs.count().min(tally.rows),
        user_id_bytes: (mean(tally.user_bytes) * users as f64) as u64,
        item_id_bytes: (mean(tally.item_bytes) * items as f64) as u64,
        columns: Columns { time: layout.time, weight: layout.weight, count: true, event: layout.event },
        context_columns: options.read.context.len(),
        temporary_bytes: (tally.rows + tally.exposed) * layout.width() as u64 + tally.spilled,
        bytes: total.unwrap_or_default(),
        seconds: begun.elapsed().as_secs_f64(),
    })
}

#[derive(Default)]
struct Tally {
    rows: u64,
    rejected: u64,
    exposed: u64,
    user_bytes: u64,
    item_bytes: u64,
    /// Bytes of ids that the caches of ingest let through to temporary files.
    spilled: u64,
    users: Distinct,
    items: Distinct,
    pairs: Distinct,
    exposures: Distinct,
}

impl Tally {
    fn absorb(&mut self, other: &Self) {
        self.rows += other.rows;
        self.rejected += other.rejected;
        self.exposed += other.exposed;
        self.user_bytes += other.user_bytes;
        self.item_bytes += other.item_bytes;
        self.spilled += other.spilled;
        self.users.absorb(&other.users);
        self.items.absorb(&other.items);
        self.pairs.absorb(&other.pairs);
        self.exposures.absorb(&other.exposures);
    }
}

struct Counter<'a> {
    options: &'a IngestOptions,
    tally: Tally,
    /// The caches of users and items that ingest would have in this thread.
    seen: [SeenIds; 2],
}

impl RowSink for Counter<'_> {
    type Error = std::convert::Infallible;

    fn row(&mut self, row: Row<'_>) -> Result<(), Self::Error> {
        let IngestOptions { min_weight, keep_events, exposure_events, hash_seed, .. } = self.options;
        if row.event.is_some_and(|e| exposure_events.iter().any(|x| x.as_bytes() == e)) {
            let (user, item) = (id_hash(row.user, *hash_seed), id_hash(row.item, *hash_seed));
            self.tally.exposed += 1;
            self.tally.exposures.add(mix(user.rotate_left(32) ^ item));
            self.tally.items.add(item);
            if self.seen[1].is_new(item, check_hash(row.item, *hash_seed)) {
                self.tally.spilled += (HEAD + row.item.len()) as u64;
            }
            return Ok(());
        }
        let event = row.event.is_none_or(|e| keep_events.is_empty() || keep_events.iter().any(|k| k.as_bytes() == e));
        if !event || row.weight.is_some_and(|w| w < min_weight.unwrap_or(0.0)) {
            return Ok(());
        }
        let (user, item) = (id_hash(row.user, *hash_seed), id_hash(row.item, *hash_seed));
        let tally = &mut self.tally;
        tally.rows += 1;
        tally.user_bytes += row.user.len() as u64;
        tally.item_bytes += row.item.len() as u64;
        for (seen, (id, hash)) in self.seen.iter_mut().zip([(row.user, user), (row.item, item)]) {
            if seen.is_new(hash, check_hash(id, *hash_seed)) {
                tally.spilled += (HEAD + id.len()) as u64;
            }
        }
        tally.users.add(user);
        tally.items.add(item);
        tally.pairs.add(mix(user.rotate_left(32) ^ item));
        Ok(())
    }

    fn bad(&mut self, _: BadRow<'_>) -> Result<(), Self::Error> {
        self.tally.rejected += 1;
        Ok(())
    }
}
