//! One function for each parser of bytes that this process did not just write itself. `fuzz/` calls them under cargo-fuzz,
//! the tests here over the corpus and some thousand mutations of it; `docs/fuzzing.md` says what they hold.
//!
//! Checksums would keep a fuzzer out of what lies behind them, so what is to be parsed is put into a frame with the right
//! ones. After a successful open everything is used: nothing may panic, however little it makes sense.

mod checkpoints;
mod datasets;
mod folder;
mod models;
mod settings;
#[cfg(test)]
mod tests;

use crate::context::{ByteSize, Context};

/// A parser.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of its corpus's folder.
    pub name: &'static str,
    /// Parses any bytes, and uses what came of it.
    pub run: fn(&[u8]),
    /// Bytes that it accepts.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub static TARGETS: &[Target] = &[
    Target { name: "checked", run: datasets::checked, seeds: datasets::checked_seeds },
    Target { name: "dataset_manifest", run: datasets::manifest, seeds: datasets::manifest_seeds },
    Target { name: "shard", run: datasets::shard, seeds: || datasets::seeds("train/00000.shard") },
    Target { name: "positives", run: datasets::positives, seeds: || datasets::seeds("train/00000.positives") },
    Target { name: "popularity", run: datasets::popularity, seeds: || datasets::seeds("popularity.pec") },
    Target { name: "exposures", run: datasets::exposures, seeds: || datasets::seeds("00000.exposures") },
    Target { name: "contexts", run: datasets::contexts, seeds: || datasets::seeds("00000.contexts") },
    Target { name: "context_values", run: datasets::context_values, seeds: || datasets::seeds("contexts.pec") },
    Target { name: "dictionary", run: datasets::dictionary, seeds: || datasets::seeds("items.dict") },
    Target { name: "grown_manifest", run: datasets::grown_manifest, seeds: datasets::grown_manifest_seeds },
    Target { name: "chunk_index", run: datasets::chunk_index, seeds: || datasets::grown_seeds("kind:chunks") },
    Target { name: "appended", run: datasets::appended, seeds: || datasets::grown_seeds("kind:pairs") },
    Target { name: "grown_dictionary", run: datasets::grown_dictionary, seeds: || datasets::grown_seeds("kind:dict") },
    Target { name: "model_manifest", run: models::manifest, seeds: models::manifest_seeds },
    Target { name: "factors", run: models::factors, seeds: models::factors_seeds },
    Target { name: "checkpoint_manifest", run: checkpoints::manifest, seeds: checkpoints::manifest_seeds },
    Target { name: "checkpoint_tables", run: checkpoints::tables, seeds: checkpoints::tables_seeds },
    Target { name: "checkpoint_best", run: checkpoints::best, seeds: checkpoints::best_seeds },
    Target { name: "run_log", run: checkpoints::run_log, seeds: checkpoints::run_log_seeds },
    Target { name: "delimited", run: crate::ingest::fuzzing::delimited, seeds: crate::ingest::fuzzing::csv_seeds },
    Target { name: "table", run: crate::ingest::fuzzing::table, seeds: crate::ingest::fuzzing::table_seeds },
    Target { name: "ndjson", run: crate::ingest::fuzzing::ndjson, seeds: crate::ingest::fuzzing::ndjson_seeds },
    Target { name: "parquet", run: crate::ingest::fuzzing::parquet, seeds: crate::ingest::fuzzing::parquet_seeds },
    Target {
        name: "compressed",
        run: crate::ingest::fuzzing::compressed,
        seeds: crate::ingest::fuzzing::compressed_seeds,
    },
    Target { name: "config", run: settings::config, seeds: settings::config_seeds },
    Target { name: "space", run: settings::space, seeds: settings::space_seeds },
    Target {
        name: "ingest_journal",
        run: crate::ingest::fuzzing::journal,
        seeds: crate::ingest::fuzzing::journal_seeds,
    },
    Target {
        name: "ingest_temporary",
        run: crate::ingest::fuzzing::temporary,
        seeds: crate::ingest::fuzzing::temporary_seeds,
    },
    Target { name: "sweep_journal", run: crate::sweep::fuzzing::journal, seeds: crate::sweep::fuzzing::journal_seeds },
];

/// Runs the target `name` on `input`.
///
/// # Panics
/// If there is no such target, or if it has a bug.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("there is no target {name}")).run)(input);
}

/// One thread, and as little memory as everything accepts.
pub(crate) fn context() -> Context {
    Context::new(1, ByteSize(72 << 20))
}

/// A folder in memory, where the system has such a place: thousands of files are written a second.
pub(crate) fn scratch() -> tempfile::TempDir {
    let folder = match std::path::Path::new("/dev/shm") {
        memory if memory.is_dir() => tempfile::tempdir_in(memory),
        _ => tempfile::tempdir(),
    };
    folder.expect("a temporary folder can be made")
}

/// A small log with every column that there may be.
pub(crate) fn log() -> String {
    let mut text = String::from("user,item,time,weight,event,device\n");
    for row in 0..90u32 {
        let (user, item) = (row % 9, row * 7 % 11);
        let event = ["view", "cart", "purchase"][(row * 5 % 7 % 3) as usize];
        let device = ["phone", "desk"][(row % 2) as usize];
        text += &format!("u{user},i{item},{},{}.5,{event},{device}\n", 1_700_000_000 + row * 3600, row % 4);
    }
    text
}
