//! An index of the items by their rows at one moment: those with the highest scores for a user, approximately.

use std::sync::atomic::{AtomicU32, Ordering};

use usearch::{Index as Graph, IndexOptions, MetricKind, ScalarKind};

use super::super::Scores;

/// Neighbours that an item has in the graph (M of HNSW; twice as many on the lowest level).
const CONNECTIVITY: usize = 16;
/// Candidates looked at to place an item (efConstruction).
const EXPANSION: usize = 128;
/// Candidates looked at for each neighbour that is asked for (ef / K), and at least.
const SEARCHED: usize = 2;
const SEARCHED_AT_LEAST: usize = 128;
/// Bytes of an item's links, keys and slots, measured: 260 to 290.
const LINKS: u64 = 320;
/// Bytes that do not depend on the items, and those that a thread's search keeps.
const FIXED: u64 = 256 << 10;
const SEARCH: u64 = 128 << 10;
/// Items that are placed before somebody asks whether to stop.
const AT_ONCE: u32 = 64;

/// A graph of the items (HNSW; Malkov & Yashunin, 2018) by the distances of their rows x, which have one more factor,
/// √(max |x|² − |x|²). So the nearest to a user's row, whose factor there is 0, has the highest dot product
/// (Bachrach et al., RecSys 2014).
pub(super) struct Index {
    graph: Graph,
}

impl Index {
    /// Places all `items` by their rows of the moment, on so many `threads`; `searchers` may search at a time. `None`
    /// where it was told to `stop`. With one thread the same rows give the same graph. O(items × log items).
    ///
    /// # Errors
    /// If there is no memory, or a factor is no number: says so.
    pub(super) fn new(
        items: u32,
        neighbours: usize,
        scores: &(impl Scores + Sync),
        (threads, searchers): (usize, usize),
        stop: &(impl Fn() -> bool + Sync),
    ) -> Result<Option<Self>, String> {
        let width = scores.width();
        let options = IndexOptions {
            dimensions: width + 1,
            metric: MetricKind::L2sq,
            quantization: ScalarKind::F32,
            connectivity: CONNECTIVITY,
            expansion_add: EXPANSION,
            expansion_search: (neighbours * SEARCHED).max(SEARCHED_AT_LEAST),
            multi: false,
        };
        let mut longest = 0f32;
        let mut row = vec![0f32; width];
        for item in 0..items {
            scores.item_row(item, &mut row);
            longest = longest.max(square(&row));
            if !square(&row).is_finite() {
                return Err(format!("a factor of item {item} is no longer a number"));
            }
        }
        let graph = Graph::new(&options).map_err(|e| e.to_string())?;
        let room = threads.max(searchers);
        graph.reserve_capacity_and_threads(items as usize, room).map_err(|e| e.to_string())?;
        let next = &AtomicU32::new(0);
        let place = || -> Result<(), String> {
            let mut row = vec![0f32; width + 1];
            loop {
                let first = next.fetch_add(AT_ONCE, Ordering::Relaxed);
                if first >= items || stop() {
                    return Ok(());
                }
                for item in first..items.min(first.saturating_add(AT_ONCE)) {
                    scores.item_row(item, &mut row[..width]);
                    // Rows may have changed since they were measured.
                    row[width] = (longest - square(&row[..width])).max(0.0).sqrt();
                    graph.add(item.into(), &row).map_err(|e| e.to_string())?;
                }
            }
        };
        if threads == 1 {
            place()?;
        } else {
            std::thread::scope(|scope| {
                let running: Vec<_> = (0..threads).map(|_| scope.spawn(place)).collect();
                running.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into())))
            })?;
        }
        Ok((!stop()).then_some(Self { graph }))
    }

    /// Puts the `neighbours` items with the highest scores for `user` into `found`, the best first, approximately.
    /// `query` is room to work in. Some 0.1 ms for a hundred.
    pub(super) fn search(
        &self,
        user: u32,
        neighbours: usize,
        scores: &impl Scores,
        query: &mut Vec<f32>,
        found: &mut Vec<u32>,
    ) {
        query.clear();
        query.resize(scores.width() + 1, 0.0);
        scores.user_row(user, &mut query[..scores.width()]);
        found.clear();
        // What diverges ends the run soon enough.
        if square(query).is_finite()
            && let Ok(matches) = self.graph.search(query, neighbours)
        {
            found.extend(matches.keys.into_iter().map(|key| key as u32));
        }
    }

    /// Bytes that it takes on `items` items with rows of `width` floats, at most, with so many to search it.
    pub(super) fn bytes(items: u64, width: u64, searchers: u64) -> u64 {
        items * ((width + 1) * 4 + LINKS) + FIXED + searchers * SEARCH
    }
}

/// |x|².
fn square(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum()
}
