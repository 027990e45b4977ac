//! A dataset or model of which one file is replaced by bytes to be parsed, in a frame that is right.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

use super::{context, log, scratch};
use crate::dataset::Dataset;
use crate::ingest::{
    Column, IngestOptions, IngestRun, Input, Inputs, ReadOptions, append_ingest, append_options, ingest,
};
use crate::storage::{CheckedWriter, HEADER_LEN, write_manifest};
use crate::train::{TrainConfig, train};

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const CHECKSUM: &str = "  \"checksum\": \"";

/// A folder, and its files as they were.
pub(super) struct Folder {
    root: TempDir,
    name: &'static str,
    files: BTreeMap<String, Vec<u8>>,
    manifest: Value,
    changed: Option<String>,
}

thread_local! {
    static DATASET: RefCell<Option<Folder>> = const { RefCell::new(None) };
    static GROWN: RefCell<Option<Folder>> = const { RefCell::new(None) };
    static MODEL: RefCell<Option<Folder>> = const { RefCell::new(None) };
}

/// Gives `use_it` this thread's dataset.
pub(super) fn with_dataset<T>(use_it: impl FnOnce(&mut Folder) -> T) -> T {
    DATASET.with_borrow_mut(|folder| use_it(folder.get_or_insert_with(|| Folder::new("log.pec"))))
}

/// Gives `use_it` this thread's dataset to which rows were appended twice.
pub(super) fn with_grown<T>(use_it: impl FnOnce(&mut Folder) -> T) -> T {
    GROWN.with_borrow_mut(|folder| use_it(folder.get_or_insert_with(|| Folder::new("grown.pec"))))
}

/// Gives `use_it` this thread's model, and the dataset that it was trained on.
pub(super) fn with_model<T>(use_it: impl FnOnce(&mut Folder, &Dataset) -> T) -> T {
    MODEL.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| Folder::new("log.model"));
        let dataset = Dataset::open(folder.root.path().join("log.pec")).expect("the dataset is untouched");
        use_it(folder, &dataset)
    })
}

impl Folder {
    fn new(name: &'static str) -> Self {
        let root = scratch();
        let path = |name: &str| root.path().join(name);
        let (inputs, options) = ingested(root.path());
        let dataset = Dataset::open(path("log.pec")).expect("the dataset is opened");
        let config = TrainConfig { dimensions: 3, epochs: 2, deterministic: true, ..TrainConfig::default() };
        train(&dataset, &config, &path("log.model"), false, &context()).expect("a model is trained");
        if name == "grown.pec" {
            ingest(&inputs, &options, &path(name), false, &context()).expect("the log is ingested");
            for piece in ["new", "newer"] {
                let rows = format!(
                    "user,item,time,weight,event,device\nu1,{piece},1800000000,1,cart,desk\n{piece},i1,1800000001,2,cart,desk\n"
                );
                fs::write(path(piece), rows).expect("a log is written");
                let more = append_options(path(name)).expect("a dataset tells its options");
                let inputs = Inputs::from(vec![Input::Path(path(piece))]);
                append_ingest(&inputs, &more, path(name), IngestRun::default(), &context()).expect("rows are appended");
            }
        }
        let mut files = BTreeMap::new();
        read_below(&path(name), "", &mut files);
        let manifest = serde_json::from_slice(&files[MANIFEST]).expect("a manifest is JSON");
        Self { root, name, files, manifest, changed: None }
    }

    /// Where it lies.
    pub(super) fn path(&self) -> std::path::PathBuf {
        self.root.path().join(self.name)
    }

    /// Room beside it.
    pub(super) fn beside(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    /// The manifest as it was, with what was doctored since.
    pub(super) fn manifest(&mut self) -> &mut Value {
        &mut self.manifest
    }

    /// The path that ends so, or the last of the files of a kind, as in `kind:chunks`.
    fn named(&self, end: &str) -> String {
        let found = match end.strip_prefix("kind:") {
            Some(kind) => {
                let is_of = |bytes: &[u8]| {
                    bytes.get(8..16).is_some_and(|b| {
                        b.strip_prefix(kind.as_bytes()).is_some_and(|rest| rest.iter().all(|b| *b == 0))
                    })
                };
                self.files.iter().rfind(|(_, bytes)| is_of(bytes)).map(|(path, _)| path)
            }
            None => self.files.keys().find(|path| path.ends_with(end)),
        };
        found.unwrap_or_else(|| panic!("there is no {end} among {:?}", self.files.keys())).clone()
    }

    /// The bytes of the file whose path ends so, as [`Folder::doctor`] takes them: the payload, and the root in 4 bytes.
    pub(super) fn payload(&self, end: &str) -> Vec<u8> {
        let bytes = &self.files[&self.named(end)];
        let word = |from_end: usize| {
            let at = bytes.len() - from_end;
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) as usize
        };
        let (covered, root) = (word(32), word(24) as u32);
        [&bytes[HEADER_LEN..covered], &root.to_le_bytes()].concat()
    }

    /// The whole file whose path ends so.
    pub(super) fn whole(&self, end: &str) -> Vec<u8> {
        self.files[&self.named(end)].clone()
    }

    /// Puts `input` in place of the file whose path ends so, in a frame with the right checksums, and into the manifest.
    pub(super) fn doctor(&mut self, end: &str, input: &[u8]) {
        let path = self.named(end);
        let header = &self.files[&path][8..20];
        let kind = String::from_utf8_lossy(&header[..8]).trim_end_matches('\0').to_string();
        let version = u32::from_le_bytes(header[8..].try_into().expect("4 bytes"));
        let (payload, root) = input.split_at(input.len().saturating_sub(4));
        let root = root.try_into().map_or(HEADER_LEN as u32, u32::from_le_bytes);
        self.change(&path, None);
        let mut file = CheckedWriter::create(&self.path().join(&path), &kind, version).expect("a file is created");
        file.put(payload).expect("it is written");
        let record = file.finish(&path, root.into()).expect("it is finished");
        self.record(&path, record.bytes, &record.checksum);
        self.save();
    }

    /// Puts `bytes` in place of the file whose path ends so as they are, but for `checksum`, and into the manifest.
    pub(super) fn replace(&mut self, end: &str, bytes: &[u8], checksum: &str) {
        let path = self.named(end);
        self.change(&path, Some(bytes));
        self.record(&path, bytes.len() as u64, checksum);
        self.save();
    }

    /// Writes the manifest as it is now.
    pub(super) fn save(&self) {
        let manifest = self.path().join(MANIFEST);
        let _ = fs::remove_file(&manifest);
        let mut content = self.manifest.clone();
        let fields = content.as_object_mut().expect("a manifest is an object");
        let format = fields.remove("format").and_then(|f| f.as_str().map(String::from)).expect("a format");
        let version = fields.remove("version").and_then(|v| v.as_u64()).expect("a version") as u32;
        fields.remove("checksum");
        write_manifest(&self.path(), &format, version, &content).expect("a manifest is written");
    }

    /// The manifest's text before its checksum, as [`Folder::write_text`] takes it.
    pub(super) fn text(&self) -> Vec<u8> {
        let text = &self.files[MANIFEST];
        let end = memchr::memmem::rfind(text, CHECKSUM.as_bytes()).expect("a manifest has a checksum");
        // Where this folder happens to be is no part of a seed.
        let here = self.root.path().display().to_string();
        String::from_utf8_lossy(&text[..end]).replace(&here, "logs").into_bytes()
    }

    /// Writes a manifest of this text and the checksum that belongs to it; the other files are those there were.
    pub(super) fn write_text(&mut self, text: &[u8]) {
        self.restore();
        let mut bytes = text.to_vec();
        bytes.extend_from_slice(format!("{CHECKSUM}{:016x}\"\n}}\n", xxh3_64(text)).as_bytes());
        fs::write(self.path().join(MANIFEST), bytes).expect("a manifest is written");
    }

    /// Sets a file aside, or writes it, having restored the one before.
    fn change(&mut self, path: &str, bytes: Option<&[u8]>) {
        if self.changed.as_deref() != Some(path) {
            self.restore();
            self.changed = Some(path.to_string());
        }
        self.manifest = serde_json::from_slice(&self.files[MANIFEST]).expect("a manifest is JSON");
        // A new file, for the one before may still be mapped.
        fs::remove_file(self.path().join(path)).expect("the file is there");
        if let Some(bytes) = bytes {
            fs::write(self.path().join(path), bytes).expect("a file is written");
        }
    }

    /// Puts everything back.
    pub(super) fn restore(&mut self) {
        if let Some(path) = self.changed.take() {
            let file = self.path().join(&path);
            fs::remove_file(&file).expect("the file is there");
            fs::write(&file, &self.files[&path]).expect("a file is written");
        }
        fs::write(self.path().join(MANIFEST), &self.files[MANIFEST]).expect("a manifest is written");
    }

    fn record(&mut self, path: &str, bytes: u64, checksum: &str) {
        let files = self.manifest["files"].as_array_mut().expect("a manifest lists files");
        let record = files.iter_mut().find(|f| f["path"] == path).expect("it lists this one");
        record["bytes"] = bytes.into();
        record["checksum"] = checksum.into();
    }
}

/// Ingests the small log into `log.pec` in `root`; what of, and how.
pub(super) fn ingested(root: &Path) -> (Inputs, IngestOptions) {
    let path = |name: &str| root.join(name);
    fs::write(path("log.csv"), log()).expect("the log is written");
    let column = |name: &str| Some(Column::Name(name.into()));
    let context_columns = vec![Column::Name("device".into())];
    let read = ReadOptions {
        weight: column("weight"),
        event: column("event"),
        context: context_columns,
        ..ReadOptions::default()
    };
    let options = IngestOptions {
        read,
        exposure_events: vec!["view".into()],
        split: "random:0.1".parse().expect("a split"),
        valid_split: "random:0.1".parse().expect("a split"),
        ..IngestOptions::default()
    };
    let inputs = Inputs::from(vec![Input::Path(path("log.csv"))]);
    ingest(&inputs, &options, &path("log.pec"), false, &context()).expect("the log is ingested");
    (inputs, options)
}

pub(super) fn read_below(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in folder.read_dir().expect("the folder is listed") {
        let entry = entry.expect("the folder is listed");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.path().is_dir() {
            true => read_below(&entry.path(), &format!("{name}/"), files),
            false => drop(files.insert(name, fs::read(entry.path()).expect("a file is read"))),
        }
    }
}
