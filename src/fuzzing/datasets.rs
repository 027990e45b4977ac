//! Files of a dataset, and all that can be asked of one that opened.

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::context;
use super::folder::{Folder, with_dataset, with_grown};
use crate::dataset::{Dataset, Dictionary, Positives};
use crate::evaluate::{EvaluateOptions, evaluate};
use crate::rank::Popularity;
use crate::train::{TrainConfig, plan_train, train};

/// What [`Folder::doctor`] takes for a file as it was written.
pub(super) fn seeds(end: &str) -> Vec<Vec<u8>> {
    with_dataset(|folder| vec![folder.payload(end)])
}

/// The frame of a checked file: as it is, and with its last checksum put right.
pub(super) fn checked(input: &[u8]) {
    with_dataset(|folder| {
        let mut bytes = input.to_vec();
        let end = bytes.len().saturating_sub(8);
        let covered = bytes.get(end.saturating_sub(24)..end.saturating_sub(16)).and_then(|b| b.try_into().ok());
        let table = covered.map(u64::from_le_bytes).and_then(|c| usize::try_from(c).ok()).filter(|c| *c <= end);
        let mut sum = 0;
        if let Some(table) = table {
            let blocks = bytes[..table].chunks(1 << 20).map(xxh3_64).collect::<Vec<_>>();
            for (sum, place) in blocks.iter().zip(bytes[table..end.saturating_sub(24).max(table)].chunks_exact_mut(8)) {
                place.copy_from_slice(&sum.to_le_bytes());
            }
            sum = xxh3_64(&bytes[table..end]);
            bytes[end..].copy_from_slice(&sum.to_le_bytes());
        }
        folder.replace("popularity.pec", &bytes, &format!("{sum:016x}"));
        open(folder, input);
    });
}

pub(super) fn checked_seeds() -> Vec<Vec<u8>> {
    with_dataset(|folder| vec![folder.whole("popularity.pec")])
}

/// The manifest, among files as they were written.
pub(super) fn manifest(input: &[u8]) {
    with_dataset(|folder| manifest_of(folder, input));
}

/// That of a dataset to which rows were appended.
pub(super) fn grown_manifest(input: &[u8]) {
    with_grown(|folder| manifest_of(folder, input));
}

fn manifest_of(folder: &mut Folder, input: &[u8]) {
    folder.write_text(input);
    if let Ok(dataset) = Dataset::open(folder.path()) {
        use_all(&dataset, folder, input);
    }
    folder.restore();
}

pub(super) fn manifest_seeds() -> Vec<Vec<u8>> {
    with_dataset(|folder| vec![folder.text()])
}

pub(super) fn grown_manifest_seeds() -> Vec<Vec<u8>> {
    with_grown(|folder| vec![folder.text()])
}

/// The index of the chunks of a dataset to which rows were appended.
pub(super) fn chunk_index(input: &[u8]) {
    doctored_grown("kind:chunks", input);
}

/// The pairs that were appended.
pub(super) fn appended(input: &[u8]) {
    doctored_grown("kind:pairs", input);
}

/// The last dictionary of a chain of them.
pub(super) fn grown_dictionary(input: &[u8]) {
    doctored_grown("kind:dict", input);
}

pub(super) fn grown_seeds(end: &str) -> Vec<Vec<u8>> {
    with_grown(|folder| vec![folder.payload(end)])
}

fn doctored_grown(end: &str, input: &[u8]) {
    with_grown(|folder| {
        folder.doctor(end, input);
        open(folder, input);
    });
}

pub(super) fn shard(input: &[u8]) {
    doctored("train/00000.shard", input);
}

pub(super) fn positives(input: &[u8]) {
    let view = Positives::new(input);
    let _ = (view.len(), view.is_empty(), view.contains(0), view.contains(7), view.contains(u32::MAX));
    doctored("train/00000.positives", input);
}

pub(super) fn popularity(input: &[u8]) {
    doctored("popularity.pec", input);
}

pub(super) fn exposures(input: &[u8]) {
    doctored("00000.exposures", input);
}

pub(super) fn contexts(input: &[u8]) {
    doctored("00000.contexts", input);
}

pub(super) fn context_values(input: &[u8]) {
    doctored("contexts.pec", input);
}

pub(super) fn dictionary(input: &[u8]) {
    doctored("items.dict", input);
}

fn doctored(end: &str, input: &[u8]) {
    with_dataset(|folder| {
        folder.doctor(end, input);
        open(folder, input);
    });
}

/// Opens the dataset. If only its counts are not those of the manifest, they are put into it, for a look behind that check.
fn open(folder: &mut Folder, input: &[u8]) {
    let dataset = Dataset::open(folder.path()).or_else(|error| {
        if adapt(folder.manifest(), &error.to_string()) {
            folder.save();
        }
        Dataset::open(folder.path())
    });
    if let Ok(dataset) = dataset {
        use_all(&dataset, folder, input);
    }
}

/// Takes counts over into the manifest from the message that says that they differ: "… N interactions, but the …".
fn adapt(manifest: &mut Value, message: &str) -> bool {
    let Some((before, _)) = message.split_once(", but the manifest says") else { return false };
    let mut words = before.split(' ').rev();
    let (Some(what), Some(Ok(count))) = (words.next(), words.next().map(str::parse::<u64>)) else { return false };
    match what {
        "interactions" => manifest["parts"][0][1]["interactions"] = count.into(),
        "exposures" => manifest["exposures"]["exposures"] = count.into(),
        _ => return false,
    }
    true
}

fn use_ids(ids: &Dictionary, sound: bool) {
    for dense in (0..ids.len()).chain([u32::MAX]) {
        if let Some(id) = ids.id(dense) {
            let found = ids.find(id);
            assert!(!sound || found == Some(dense), "{id} is found under its number");
        }
    }
    let _ = (ids.find(""), ids.find("absent"), ids.similar("U1"));
}

/// Everything that a dataset is asked for.
fn use_all(dataset: &Dataset, folder: &Folder, input: &[u8]) {
    let ctx = context();
    let sound = dataset.verify(&ctx).is_ok();
    let _ = dataset.statistics(&ctx);
    for change in &dataset.manifest().changes {
        if let Ok(Some(appended)) = dataset.appended_since(&change.before) {
            let inside = |(user, item)| user < dataset.users().len() && item < dataset.items().len();
            assert!(appended.arrivals().count() <= appended.pairs().count());
            let _ = appended.new_users(dataset.train());
            assert!(appended.pairs().all(inside) && appended.pairs().count() as u64 <= appended.len());
        }
    }
    use_ids(dataset.users(), sound);
    use_ids(dataset.items(), sound);
    let users = dataset.users().len();
    for (_, rows) in dataset.parts() {
        for index in 0..rows.chunks() {
            let chunk = rows.chunk(index);
            rows.will_need(index);
            let lengths = (0..chunk.users()).map(|user| chunk.user(user).items.len());
            assert_eq!(lengths.sum::<usize>(), chunk.items().len());
            rows.release(index);
        }
        for user in 0..users {
            let (row, positives) = (rows.user(user), rows.positives(user));
            for item in row.items {
                assert!(positives.contains(item.to_native()) || !sound);
            }
            assert!(!sound || positives.len() == row.items.len() as u64);
            let _ = (
                positives.contains(u32::MAX),
                row.times.first(),
                row.weights.last(),
                row.counts.len(),
                row.events.len(),
            );
        }
    }
    if let Some(exposures) = dataset.exposures() {
        let shown: usize = (0..users).map(|user| exposures.user(user).len()).sum();
        assert_eq!(shown as u64, exposures.summary().exposures);
    }
    if let Some(contexts) = dataset.contexts() {
        for column in 0..contexts.summary().columns.len() {
            let _ = contexts.column(&contexts.summary().columns[column].name);
            for value in contexts.values(column) {
                let _ = contexts.value(column, value.to_native());
            }
        }
        for index in 0..dataset.train().chunks() {
            assert_eq!(contexts.chunk(index).len(), dataset.train().chunk(index).items().len());
        }
        for user in 0..users {
            assert_eq!(contexts.user(dataset.train(), user).len(), dataset.train().user(user).items.len());
        }
    }
    let _ = evaluate(&Popularity::new(dataset), dataset, &EvaluateOptions::default(), &ctx);
    let _ = plan_train(dataset, &TrainConfig::default(), &ctx);
    // Training takes a hundred times as long as the rest.
    if xxh3_64(input).is_multiple_of(64) {
        let weighted = "dimensions = 3\nepochs = 1\nvalidation = {}\n[confidence]\nalpha = 2.0\nhalf_life = 1.0\n";
        let config = TrainConfig::from_toml(weighted).unwrap_or_else(|e| panic!("{e}"));
        let output = folder.beside("trained.model");
        let _ = train(dataset, &config, &output, true, &ctx);
        let _ = std::fs::remove_dir_all(&output);
    }
}
