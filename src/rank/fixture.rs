//! Small datasets, models and scorers for tests.

use std::ops::Range;
use std::path::Path;

use super::Scorer;
use crate::dataset::{Columns, ContextTable, Dataset, DatasetWriter, Description, Event, Part, UserBlock, id_hash};
use crate::model::{Model, ModelManifest, Similarity, publish};
use crate::storage::NewVersion;

const HASH_SEED: u64 = 7;

/// `count` ids that begin with `prefix`, in the order of their hashes: as dense ids have it.
fn ids(prefix: &str, count: usize) -> Vec<String> {
    let mut ids: Vec<String> = (0..count).map(|i| format!("{prefix}{i}")).collect();
    ids.sort_by_key(|id| id_hash(id.as_bytes(), HASH_SEED));
    ids
}

/// Writes a dataset. `parts` holds each user's items by part; items may come in any order.
pub(crate) fn dataset(target: &Path, items: usize, parts: &[(Part, Vec<Vec<u32>>)]) -> Dataset {
    dataset_with(target, items, parts, Columns::default(), |_, item| Event {
        item,
        time: 0,
        weight: 1.0,
        count: 1,
        event: 0,
        context: 0,
    })
}

/// As [`dataset`], with these columns; `event` makes the event of a user and an item.
pub(crate) fn dataset_with(
    target: &Path,
    items: usize,
    parts: &[(Part, Vec<Vec<u32>>)],
    columns: Columns,
    event: impl Fn(usize, u32) -> Event,
) -> Dataset {
    dataset_of_all(target, items, parts, (columns, event), (None, None))
}

/// As [`dataset_with`]; `exposed` holds what was shown to each user and not taken, ascending, and `contexts` what the
/// numbers of combinations mean.
pub(crate) fn dataset_of_all(
    target: &Path,
    items: usize,
    parts: &[(Part, Vec<Vec<u32>>)],
    (columns, event): (Columns, impl Fn(usize, u32) -> Event),
    (exposed, contexts): (Option<&[Vec<u32>]>, Option<ContextTable>),
) -> Dataset {
    let names: Vec<Part> = parts.iter().map(|(part, _)| *part).collect();
    let mut writer = DatasetWriter::create(target, false, columns, &names, HASH_SEED).unwrap();
    let mut dictionary = writer.start_items().unwrap();
    let (mut offsets, mut bytes) = (vec![0], Vec::new());
    for id in ids("i", items) {
        bytes.extend_from_slice(id.as_bytes());
        offsets.push(bytes.len() as u32);
    }
    dictionary.append(&offsets, &bytes).unwrap();
    writer.finish_items(dictionary).unwrap();
    let block = UserBlock::new(columns, &names);
    let block = if contexts.is_some() { block.with_contexts() } else { block };
    let mut block = if exposed.is_some() { block.with_exposures() } else { block };
    for (u, id) in ids("u", parts[0].1.len()).iter().enumerate() {
        for (part, users) in parts {
            let mut items = users[u].clone();
            items.sort_unstable();
            items.dedup();
            items.into_iter().for_each(|item| block.push(*part, event(u, item)));
        }
        exposed.iter().flat_map(|of| &of[u]).for_each(|item| block.expose(*item));
        block.end_user(id.as_bytes());
    }
    writer.append(&block).unwrap();
    writer.finish(Description { contexts, ..Description::default() }).unwrap();
    Dataset::open(target).unwrap()
}

/// Publishes a model of `dataset` with these rows.
pub(crate) fn model(
    target: &Path,
    dataset: &Dataset,
    (dimensions, biases): (usize, bool),
    user_row: impl FnMut(usize, &mut [f32]),
    item_row: impl FnMut(usize, &mut [f32]),
) -> Model {
    let manifest = ModelManifest {
        peccary: "test".into(),
        model_version: 1,
        updated_from: None,
        published: None,
        run: None,
        predate_forgetting: Vec::new(),
        dataset: dataset.fingerprint().into(),
        users: dataset.users().len(),
        items: dataset.items().len(),
        dimensions,
        biases,
        similarity: Similarity::Dot,
        config: serde_json::Value::Null,
        history: serde_json::Value::Null,
        calibration: None,
        files: Vec::new(),
    };
    let width = dimensions + if biases { 2 } else { 0 };
    publish(NewVersion::begin(target, false, "peccary-model").unwrap(), manifest, dataset, width, user_row, item_row)
        .unwrap();
    Model::open(target).unwrap()
}

/// A number in 0..1 that depends on `i`, `j` and nothing else.
pub(crate) fn noise(i: usize, j: usize) -> f32 {
    (crate::mix::mix((i as u64) << 32 | j as u64) >> 40) as f32 / (1 << 24) as f32
}

/// Scores as they stand in a matrix.
pub(crate) struct Matrix {
    pub(crate) users: usize,
    pub(crate) items: usize,
    /// Row-major.
    pub(crate) scores: Vec<f32>,
}

impl Scorer for Matrix {
    fn users(&self) -> usize {
        self.users
    }

    fn items(&self) -> usize {
        self.items
    }

    fn score(&self, users: &[u32], items: Range<u32>, out: &mut [f32]) {
        for (row, user) in out.chunks_exact_mut(items.len()).zip(users) {
            let from = *user as usize * self.items;
            row.copy_from_slice(&self.scores[from + items.start as usize..from + items.end as usize]);
        }
    }

    fn score_items(&self, user: u32, items: &[u32], out: &mut [f32]) {
        for (score, item) in out.iter_mut().zip(items) {
            *score = self.scores[user as usize * self.items + *item as usize];
        }
    }
}
