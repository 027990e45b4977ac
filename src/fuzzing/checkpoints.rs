//! Files of a training that was interrupted: its checkpoint, with which it goes on, and its log.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

use super::folder::{CHECKSUM, MANIFEST, ingested, read_below};
use super::{context, scratch};
use crate::context::{Live, Progress, Unit};
use crate::dataset::Dataset;
use crate::model::InstructionSet;
use crate::runlog::{NAME, RunHappening, RunLog, RunLogWriter};
use crate::storage::{CheckedWriter, FileRecord, HEADER_LEN, write_manifest};
use crate::train::{
    CheckpointEvery, OptimizerKind, Schedule, TrainCheckpoint, TrainConfig, TrainError, ValidationConfig, train,
};

/// What depends on the machine, the build or the moment, and has a name in seeds.
const NAMES: [&str; 5] = ["@peccary@", "@dataset@", "@set@", "@tables@", "@best@"];
/// Longer than a training of the small log takes; one that a configuration makes longer is told to stop then.
const ENOUGH: Duration = Duration::from_millis(300);

/// An interrupted training, and its files as they were, by their paths in the folder of its checkpoints.
struct Kept {
    root: TempDir,
    files: BTreeMap<String, Vec<u8>>,
    /// The folder of the checkpoint.
    slot: String,
    /// What stands for [`NAMES`] here.
    values: [String; 5],
}

thread_local! {
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

fn with_kept<T>(use_it: impl FnOnce(&Kept) -> T) -> T {
    KEPT.with_borrow_mut(|kept| use_it(kept.get_or_insert_with(Kept::new)))
}

/// Tells a run to stop at the first message.
struct StopAtMessage(Arc<AtomicBool>);

impl Progress for StopAtMessage {
    fn begin(&self, _: &str, _: Option<u64>, _: Unit, _: Arc<Live>) {}
    fn end(&self) {}
    fn message(&self, _: &str) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn replaced(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from.as_bytes()) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to.as_bytes());
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

impl Kept {
    fn new() -> Self {
        let root = scratch();
        ingested(root.path());
        let dataset = Dataset::open(root.path().join("log.pec")).expect("the dataset is opened");
        // No validation is an improvement by so much: behind the second one a plateau is told, and that ends the run.
        let validation = ValidationConfig { metric: "ndcg@5".into(), min_delta: 1e9, ..ValidationConfig::default() };
        let mut config =
            TrainConfig { dimensions: 3, epochs: 4, validation: Some(validation), ..TrainConfig::default() };
        // With a state of its own, so that the tables are not the best ones.
        config.optimizer.kind = OptimizerKind::Adagrad;
        config.optimizer.schedule = Schedule::Plateau;
        config.optimizer.patience = Some(1);
        config.checkpoint.every = CheckpointEvery::Triples(1 << 40);
        let stop = Arc::new(AtomicBool::new(false));
        let ctx = context().with_cancel(stop.clone()).with_progress(Arc::new(StopAtMessage(stop)));
        let output = root.path().join("kept.model");
        let error = train(&dataset, &config, &output, false, &ctx).expect_err("the training is interrupted");
        assert!(matches!(error, TrainError::Kept { .. }), "{error}");
        let mut files = BTreeMap::new();
        read_below(&root.path().join("kept.model.partial"), "", &mut files);
        let manifest = files.keys().find_map(|path| path.strip_suffix(MANIFEST)).expect("there is a checkpoint");
        let slot = manifest.trim_end_matches('/').to_string();
        let content: Value = serde_json::from_slice(&files[&format!("{slot}/{MANIFEST}")]).expect("it is JSON");
        let sum = |file: &str| content[file]["checksum"].as_str().expect("a checksum").to_string();
        let values = [
            env!("CARGO_PKG_VERSION").to_string(),
            dataset.fingerprint().to_string(),
            InstructionSet::detect().name().to_string(),
            sum("tables"),
            sum("best"),
        ];
        Self { root, files, slot, values }
    }

    fn partial(&self) -> PathBuf {
        self.root.path().join("kept.model.partial")
    }

    fn path_of_manifest(&self) -> String {
        format!("{}/{MANIFEST}", self.slot)
    }

    /// Puts everything back.
    fn restore(&self) {
        for name in ["kept.model", "kept.model.partial"] {
            // Mostly there is none.
            let _ = fs::remove_dir_all(self.root.path().join(name));
        }
        fs::create_dir_all(self.partial().join(&self.slot)).expect("a folder is made");
        for (path, bytes) in &self.files {
            fs::write(self.partial().join(path), bytes).expect("a file is written");
        }
    }

    /// The manifest, as JSON.
    fn manifest(&self) -> Value {
        serde_json::from_slice(&self.files[&self.path_of_manifest()]).expect("a manifest is JSON")
    }

    /// Writes a manifest with this content, and the checksum that belongs to it.
    fn write(&self, mut content: Value) {
        let fields = content.as_object_mut().expect("a manifest is an object");
        ["format", "version", "checksum"].iter().for_each(|key| drop(fields.remove(*key)));
        let own = self.partial().join(&self.slot);
        fs::remove_file(own.join(MANIFEST)).expect("the file is there");
        write_manifest(&own, "peccary-checkpoint", 1, &content).expect("a manifest is written");
    }

    /// Text before the checksum of a manifest with this content, as [`manifest`] takes it.
    fn text(&self, content: Value) -> Vec<u8> {
        let run = content["origin"]["run"].as_str().expect("a run has a name").to_string();
        self.restore();
        self.write(content);
        let mut text = fs::read(self.partial().join(self.path_of_manifest())).expect("a manifest is read");
        text.truncate(memchr::memmem::rfind(&text, CHECKSUM.as_bytes()).expect("a manifest has a checksum"));
        text = replaced(&text, &run, "0123456789abcdef");
        text = replaced(&text, &self.root.path().display().to_string(), "logs");
        for (name, value) in NAMES.iter().zip(&self.values) {
            text = replaced(&text, &format!("\"{value}\""), &format!("\"{name}\""));
        }
        text
    }

    /// Puts `input` in place of the file `path`, in a frame with the right checksums, and into the manifest as `key`.
    fn doctor(&self, (path, name, key): (&str, &str, &str), input: &[u8]) {
        self.restore();
        let whole = self.partial().join(path);
        fs::remove_file(&whole).expect("the file is there");
        let mut file = CheckedWriter::create(&whole, "training", 1).expect("a file is created");
        file.put(input).expect("it is written");
        let record: FileRecord = file.finish(name, HEADER_LEN as u64).expect("it is finished");
        let mut content = self.manifest();
        content[key] = serde_json::to_value(record).expect("a record is JSON");
        self.write(content);
    }

    /// Goes on with whatever is there, to its end or to an error; whether that is the end.
    fn go_on(&self) -> bool {
        let output = self.root.path().join("kept.model");
        let Ok(mut checkpoint) = TrainCheckpoint::open(&output) else { return false };
        let _ = (checkpoint.dataset().is_dir(), checkpoint.position());
        let config = checkpoint.config().clone();
        let _ = checkpoint.reconfigure(&config);
        let dataset = Dataset::open(self.root.path().join("log.pec")).expect("the dataset is untouched");
        let stop = Arc::new(AtomicBool::new(false));
        let ctx = context().with_cancel(stop.clone());
        std::thread::scope(|scope| {
            let (done, is_done) = channel::<()>();
            scope.spawn(move || {
                // An error says that it is done, or that it takes too long.
                let _ = is_done.recv_timeout(ENOUGH);
                stop.store(true, Ordering::Relaxed);
            });
            let resumed = checkpoint.resume(&dataset, &ctx);
            drop(done);
            resumed.is_ok()
        })
    }

    fn best_name(&self) -> &str {
        self.files.keys().find(|name| name.starts_with("best-")).expect("there are best tables")
    }

    fn payload(&self, path: &str) -> Vec<u8> {
        let bytes = &self.files[path];
        let at = bytes.len() - 32;
        let covered = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) as usize;
        bytes[HEADER_LEN..covered].to_vec()
    }
}

/// The manifest, among files as they were written.
pub(super) fn manifest(input: &[u8]) {
    go_on_with_manifest(input);
}

fn go_on_with_manifest(input: &[u8]) -> bool {
    with_kept(|kept| {
        kept.restore();
        let mut text = input.to_vec();
        for (name, value) in NAMES.iter().zip(&kept.values) {
            text = replaced(&text, name, value);
        }
        let end = format!("{CHECKSUM}{:016x}\"\n}}\n", xxh3_64(&text));
        text.extend_from_slice(end.as_bytes());
        fs::write(kept.partial().join(kept.path_of_manifest()), text).expect("a manifest is written");
        kept.go_on()
    })
}

/// As it was left, between two epochs; in the middle of an epoch, with windows that are open; and of a deterministic run, in the
/// middle of its grid.
pub(super) fn manifest_seeds() -> Vec<Vec<u8>> {
    with_kept(|kept| {
        let content = kept.manifest();
        let window = content["origin"]["plan"]["window"].clone();
        let mut seeds = vec![kept.text(content.clone())];
        for (deterministic, position) in [
            (false, json!({"next": 1, "open": [{"number": 0, "trained": 3}], "steps": []})),
            (true, json!({"next": 0, "open": [], "steps": [2, 2, 2, 2, 2, 2]})),
        ] {
            let mut content = content.clone();
            let config = &mut content["origin"]["config"];
            config["deterministic"] = deterministic.into();
            config["stream"]["block_items"] = 2.into();
            let place = &mut content["state"]["place"];
            place["cut"] = json!({"window": window, "lanes": 1, "sorted": deterministic});
            place["position"] = position;
            seeds.push(kept.text(content));
        }
        seeds
    })
}

/// The tables in training.
pub(super) fn tables(input: &[u8]) {
    with_kept(|kept| {
        kept.doctor((&format!("{}/tables", kept.slot), "tables", "tables"), input);
        kept.go_on();
    });
}

pub(super) fn tables_seeds() -> Vec<Vec<u8>> {
    with_kept(|kept| vec![kept.payload(&format!("{}/tables", kept.slot))])
}

/// The best tables so far.
pub(super) fn best(input: &[u8]) {
    with_kept(|kept| {
        let name = kept.best_name();
        kept.doctor((name, name, "best"), input);
        kept.go_on();
    });
}

pub(super) fn best_seeds() -> Vec<Vec<u8>> {
    with_kept(|kept| vec![kept.payload(kept.best_name())])
}

/// All that is asked of a log.
fn read(log: &RunLog) {
    assert!(log.moments().len() + log.epochs().len() + log.validations().len() <= log.records().len());
    let _ = (log.header(), log.events().count(), log.end(), log.is_cut_off(), log.is_being_written());
}

/// The log of a run: read whole, read while it grows, and gone on with.
pub(super) fn run_log(input: &[u8]) {
    with_kept(|kept| {
        let folder = kept.root.path().join("logged");
        // Mostly there is none: a log that cannot be read goes with its folder.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a folder is made");
        let path = folder.join(NAME);
        let (half, rest) = input.split_at(input.len() / 2);
        fs::write(&path, half).expect("a log is written");
        let mut growing = RunLog::open(&path);
        let append = |bytes: &[u8]| {
            let mut file = fs::OpenOptions::new().append(true).open(&path).expect("the log is there");
            std::io::Write::write_all(&mut file, bytes).expect("it is written");
        };
        append(rest);
        let Ok(whole) = RunLog::open(&path) else { return };
        read(&whole);
        if let Ok(growing) = &mut growing {
            growing.refresh().expect("what can be read whole can be read in pieces");
            assert_eq!(format!("{:?}", growing.records()), format!("{:?}", whole.records()));
        }
        let writer = RunLogWriter::resume(&folder, whole.header().clone(), (1.5, 100), &context());
        writer.message("told");
        drop(writer);
        let gone_on = RunLog::open(&path).expect("what was read is gone on with");
        read(&gone_on);
        assert_eq!(gone_on.records().len(), whole.records().len() + 2);
        assert!(gone_on.events().any(|event| event.what == RunHappening::Resumed));
    });
}

pub(super) fn run_log_seeds() -> Vec<Vec<u8>> {
    with_kept(|kept| {
        let log = replaced(&kept.files[NAME], &kept.root.path().display().to_string(), "logs");
        let mut other = log.clone();
        for line in [
            r#"{"k":"event","t":1.5,"at":1700000000000,"what":"rollback","e":1.0,"n":100,"text":"diverged"}"#,
            r#"{"k":"event","t":1.5,"at":1700000000000,"what":"checkpoint","e":1.5,"n":150}"#,
            r#"{"k":"end","t":2.5,"at":1700000000001,"status":"patience","epochs":2,"n":200,"best":{"epoch":1,"metric":"ndcg@20","value":0.5}}"#,
            r#"{"k":"what is yet to come","x":[1]}"#,
            r#"{"k":"now","t":1"#,
        ] {
            other.extend_from_slice(line.as_bytes());
            other.push(b'\n');
        }
        // Cut off in its last line.
        other.pop();
        vec![log, other]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_seeds_are_gone_on_with_to_the_end() {
        for (number, seed) in manifest_seeds().iter().enumerate() {
            assert!(go_on_with_manifest(seed), "seed {number}");
        }
        for end in ["tables", "best"] {
            let path =
                with_kept(|kept| if end == "best" { kept.best_name().into() } else { format!("{}/tables", kept.slot) });
            let name = if end == "best" { path.clone() } else { "tables".to_string() };
            let payload = with_kept(|kept| kept.payload(&path));
            assert!(with_kept(|kept| {
                kept.doctor((&path, &name, end), &payload);
                kept.go_on()
            }));
        }
    }
}
