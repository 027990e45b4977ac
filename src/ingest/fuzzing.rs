//! Logs and what an interrupted ingest left, for the fuzzers: any bytes are read, and read alike however they are cut.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

use super::read::{
    BadRow, Block, Limits, Position, ReadError, Row, RowSink, Scratch, Source, Table, open, open_at, sources,
};
use super::{
    Column, Format, IngestOptions, IngestRun, Input, Inputs, Leftover, OnError, ReadOptions, TimeUnit, ingest,
};
use crate::fuzzing::{context, log, scratch};
use crate::synth::{PlantedModel, SynthConfig, SynthFormat, save_synth};

/// Rows that are looked at: a few compressed bytes may hold millions.
const MOST: usize = 20_000;

thread_local! {
    static FOLDER: TempDir = scratch();
    static INTERRUPTED: RefCell<Option<Interrupted>> = const { RefCell::new(None) };
}

/// Takes what is read as text.
#[derive(Default)]
struct Seen(Vec<String>);

impl RowSink for Seen {
    type Error = ();

    fn row(&mut self, row: Row<'_>) -> Result<(), ()> {
        let words = [row.user, row.item, row.event.unwrap_or_default()].map(std::str::from_utf8);
        assert!(words.iter().all(Result::is_ok), "what is handed on is UTF-8");
        assert!(row.weight.is_none_or(|weight| weight >= 0.0 && weight.is_finite()));
        let context: Vec<_> = row.context.iter().flat_map(|key| key.values()).collect();
        self.0.push(format!("{words:?} {:?} {:?} {context:?}", row.time, row.weight));
        if self.0.len() < MOST { Ok(()) } else { Err(()) }
    }

    fn bad(&mut self, bad: BadRow<'_>) -> Result<(), ()> {
        self.0.push(format!("{bad} {}", bad.raw.len()));
        if self.0.len() < MOST { Ok(()) } else { Err(()) }
    }
}

/// What blocks hold, and where each of them began.
fn collect(blocks: impl Iterator<Item = Result<Block, ReadError>>) -> (Vec<String>, bool) {
    let (mut seen, mut scratch) = (Seen::default(), Scratch::default());
    for block in blocks {
        let Ok(block) = block else { return (seen.0, false) };
        if block.parse(&mut scratch, &mut seen).is_err() {
            return (seen.0, false);
        }
    }
    (seen.0, true)
}

fn source_of(name: &str, bytes: &[u8], options: &ReadOptions) -> Source {
    FOLDER.with(|folder| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a log is written");
        sources(&[Input::Path(path)], options).expect("it is there").remove(0)
    })
}

/// Reads in small blocks and in large ones, and from the middle on: the rows are the same.
fn text(format: Format, input: &[u8]) {
    let Some((&[choice, size], bytes)) = input.split_first_chunk::<2>() else { return };
    let bit = |at: u32| choice >> at & 1 == 1;
    let column = |wanted: bool, name: &str| wanted.then(|| Column::Name(name.into()));
    let options = ReadOptions {
        format: Some(format),
        quotes: !bit(0),
        header: [None, Some(true), Some(false)][usize::from(choice >> 1 & 3).min(2)],
        weight: column(bit(3), "weight"),
        event: column(bit(4), "event"),
        context: column(bit(5), "device").into_iter().collect(),
        time_unit: [TimeUnit::Auto, TimeUnit::Seconds, TimeUnit::Milliseconds, TimeUnit::Rfc3339]
            [usize::from(choice >> 6)],
        ..ReadOptions::default()
    };
    let source = source_of("log", bytes, &options);
    let limits = |block_bytes| Limits { block_bytes, record_bytes: 1 << 20 };
    let Ok(whole) = open(&source, &options, limits(1 << 20)) else { return };
    let (expected, complete) = collect(whole);
    let small = limits(usize::from(size) + 1);
    let mut places: Vec<(Position, usize)> = Vec::new();
    let mut blocks = open(&source, &options, small).expect("it was opened before");
    let (mut seen, mut scratch) = (Seen::default(), Scratch::default());
    loop {
        places.push((blocks.position(), seen.0.len()));
        let Some(block) = blocks.next() else { break };
        let Ok(block) = block else { break };
        if block.parse(&mut scratch, &mut seen).is_err() {
            break;
        }
    }
    if complete {
        assert_eq!(seen.0, expected, "blocks of {} bytes", small.block_bytes);
        let (place, before) = places[places.len() / 2];
        let rest = open_at(&source, &options, small, place, &|| false).expect("it was opened before");
        assert_eq!(collect(rest).0, expected[before..], "from {place:?}");
    }
}

pub(crate) fn delimited(input: &[u8]) {
    text(Format::Csv, input);
}

pub(crate) fn ndjson(input: &[u8]) {
    text(Format::Ndjson, input);
}

/// A table of attributes: its records are the same in blocks of every size.
pub(crate) fn table(input: &[u8]) {
    let Some((size, bytes)) = input.split_first() else { return };
    let source = source_of("table.csv", bytes, &ReadOptions::default());
    let Some(path) = source.path() else { return };
    let read = |block_bytes| {
        let mut records: Vec<Vec<String>> = Vec::new();
        let read = Table::open(path, Limits { block_bytes, record_bytes: 1 << 20 }).and_then(|table| {
            let ids = table.item_column(Some("item"));
            table.read::<ReadError>(|fields| {
                records.push(fields.iter().map(ToString::to_string).collect());
                Ok(if fields[ids].is_empty() { Err("the item id is empty".into()) } else { Ok(()) })
            })
        });
        (records, read.map_err(|error| error.to_string()))
    };
    assert_eq!(read(usize::from(*size) + 1), read(1 << 20));
}

pub(crate) fn table_seeds() -> Vec<Vec<u8>> {
    let texts =
        ["item,name,year\ni1,\"a, \"\"b\"\"\nc\",1999\r\n\ni2,,\n", "name\titem\nx\ti1\n", "a;item;b\n1.5;i1;\"\"\n"];
    texts.map(|text| [&[7], text.as_bytes()].concat()).into()
}

/// Compressed or not: the first bytes tell.
pub(crate) fn compressed(input: &[u8]) {
    let options = ReadOptions::default();
    let source = source_of("packed", input, &options);
    let limits = Limits { block_bytes: 1 << 12, record_bytes: 1 << 16 };
    if let Ok(blocks) = open(&source, &options, limits) {
        collect(blocks);
    }
}

pub(crate) fn parquet(input: &[u8]) {
    let column = |name: &str| Some(Column::Name(name.into()));
    let all = ReadOptions {
        format: Some(Format::Parquet),
        weight: column("weight"),
        event: column("event"),
        ..ReadOptions::default()
    };
    for options in [ReadOptions { weight: None, event: None, ..all.clone() }, all] {
        let source = source_of("columns", input, &options);
        if let Ok(blocks) = open(&source, &options, Limits::default()) {
            collect(blocks);
        }
    }
}

pub(crate) fn csv_seeds() -> Vec<Vec<u8>> {
    let quoted = "\"u\"\"1\",\"i,1\",2024-01-31T12:00:00Z\n\"a\nb\",c,1700000000\nu,i,12\r\n";
    [(0b11_1010, log()), (0, quoted.to_string()), (0b100, "1::2::5::978300760\n1::3::4::978302109\n".to_string())]
        .map(|(choice, text)| [&[choice, 40], text.as_bytes()].concat())
        .into()
}

pub(crate) fn ndjson_seeds() -> Vec<Vec<u8>> {
    let line = "{\"user\":\"u\\u00e9\",\"item\":7,\"time\":1.5e9,\"weight\":2,\"event\":\"view\",\"device\":\"phone\",\"x\":[{}]}\n";
    let nested =
        "{\"user\":{\"id\":\"a\"},\"item\":\"b\"}\n\n{\"user\":\"c\",\"item\":\"d\",\"time\":\"2024-01-31\"}\n";
    [(0b11_1000, line.repeat(3)), (0, nested.to_string())]
        .map(|(choice, text)| [&[choice, 30], text.as_bytes()].concat())
        .into()
}

pub(crate) fn compressed_seeds() -> Vec<Vec<u8>> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(log().as_bytes()).expect("memory takes it");
    let zstd = zstd::encode_all(log().as_bytes(), 3).expect("memory takes it");
    vec![gzip.finish().expect("memory takes it"), zstd, log().into_bytes()]
}

pub(crate) fn parquet_seeds() -> Vec<Vec<u8>> {
    let size =
        SynthConfig { users: 5, items: 7, interactions: 30, weights: true, events: true, ..SynthConfig::default() };
    let planted = PlantedModel::new(&size, &context()).expect("a model is planted");
    FOLDER.with(|folder| {
        let path = folder.path().join("seed.parquet");
        save_synth(&planted, SynthFormat::Parquet, &path, true, &context()).expect("a log is written");
        vec![fs::read(&path).expect("it is there")]
    })
}

/// An ingest that was interrupted, and its files.
struct Interrupted {
    folder: TempDir,
    files: BTreeMap<String, Vec<u8>>,
}

impl Interrupted {
    fn new() -> Self {
        let folder = scratch();
        fs::write(folder.path().join("1.csv"), log()).expect("a log is written");
        fs::write(folder.path().join("2.csv"), "user,item,time,weight,event,device\nu1,i1,never,1,cart,desk\n")
            .expect("a log");
        let interrupted = Self { folder, files: BTreeMap::new() };
        interrupted.run(Leftover::Refuse, OnError::Fail).expect_err("a row is bad");
        let partial = interrupted.partial();
        let mut files = BTreeMap::new();
        for name in ["", "temporary"] {
            for entry in partial.join(name).read_dir().expect("it was kept") {
                let entry = entry.expect("it is listed");
                if entry.path().is_file() {
                    let name = Path::new(name).join(entry.file_name()).to_string_lossy().into_owned();
                    files.insert(name, fs::read(entry.path()).expect("it is read"));
                }
            }
        }
        Self { files, ..interrupted }
    }

    /// The journal that was left, behind its first line.
    fn body(&self) -> &[u8] {
        let bytes = &self.files["journal"];
        &bytes[bytes.iter().position(|b| *b == b'\n').expect("a first line") + 1..]
    }

    fn partial(&self) -> std::path::PathBuf {
        self.folder.path().join("out.pec.partial")
    }

    fn run(&self, leftover: Leftover, on_error: OnError) -> Result<u64, String> {
        let path = |name: &str| self.folder.path().join(name);
        let column = |name: &str| Some(Column::Name(name.into()));
        let device = vec![Column::Name("device".into())];
        let read =
            ReadOptions { weight: column("weight"), event: column("event"), context: device, ..ReadOptions::default() };
        let options = IngestOptions {
            read,
            on_error,
            exposure_events: vec!["view".into()],
            split: "time:0.2".parse()?,
            ..IngestOptions::default()
        };
        let inputs = Inputs::from(["1.csv", "2.csv"].map(|name| Input::Path(path(name))).to_vec());
        let run = IngestRun { force: true, leftover, checkpoint: Duration::ZERO };
        let summary = ingest(&inputs, &options, &path("out.pec"), run, &context()).map_err(|e| e.to_string())?;
        Ok(summary.counts.rows_read)
    }

    /// Resumes, `file` having been replaced.
    fn resume(&self, file: &str, bytes: &[u8]) -> Result<u64, String> {
        let _ = fs::remove_dir_all(self.partial());
        fs::create_dir_all(self.partial().join("temporary")).expect("a folder is made");
        for (name, content) in &self.files {
            fs::write(self.partial().join(name), if name == file { bytes } else { content })
                .expect("a file is written");
        }
        self.run(Leftover::Resume, OnError::Skip)
    }
}

fn with_interrupted<T>(use_it: impl FnOnce(&Interrupted) -> T) -> T {
    INTERRUPTED.with_borrow_mut(|interrupted| use_it(interrupted.get_or_insert_with(Interrupted::new)))
}

/// A journal of this text, which gets the marks of the inputs as they are here, and the checksum that belongs to it.
fn journal_of(interrupted: &Interrupted, text: &[u8]) -> Vec<u8> {
    let mut body = text.to_vec();
    if let Ok(Value::Object(mut journal)) = serde_json::from_slice(text) {
        let there: Value = serde_json::from_slice(interrupted.body()).expect("a journal is JSON");
        journal.insert("inputs".into(), there["inputs"].clone());
        body = Value::Object(journal).to_string().into_bytes();
    }
    [format!("peccary-ingest-journal 1 {:016x}\n", xxh3_64(&body)).as_bytes(), &body].concat()
}

/// The journal behind its first line, among files as they were left.
pub(crate) fn journal(input: &[u8]) {
    let _ = with_interrupted(|interrupted| interrupted.resume("journal", &journal_of(interrupted, input)));
}

pub(crate) fn journal_seeds() -> Vec<Vec<u8>> {
    with_interrupted(|interrupted| {
        let mut journal: Value = serde_json::from_slice(interrupted.body()).expect("a journal is JSON");
        journal["inputs"] = Value::Null;
        // Where this folder happens to be is no part of a seed.
        let here = interrupted.folder.path().display().to_string();
        vec![journal.to_string().replace(&here, "logs").into_bytes()]
    })
}

/// A temporary file, which has no checksum, of the length that it had.
pub(crate) fn temporary(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    with_interrupted(|interrupted| {
        let names: Vec<&String> = interrupted.files.keys().filter(|name| name.starts_with("temporary")).collect();
        let name = names[usize::from(*choice) % names.len()];
        let mut content = interrupted.files[name].clone();
        content.iter_mut().zip(bytes).for_each(|(old, new)| *old = *new);
        let _ = interrupted.resume(name, &content);
    });
}

pub(crate) fn temporary_seeds() -> Vec<Vec<u8>> {
    with_interrupted(|interrupted| {
        let names = interrupted.files.keys().filter(|name| name.starts_with("temporary"));
        (0..).zip(names).map(|(at, name)| [&[at], &interrupted.files[name][..]].concat()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interrupted_ingest_left_is_resumed_unless_it_lies() {
        let body = String::from_utf8(journal_seeds().remove(0)).unwrap();
        with_interrupted(|interrupted| {
            let resume = |body: &str| interrupted.resume("journal", &journal_of(interrupted, body.as_bytes()));
            assert_eq!(resume(&body), Ok(91));
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            let refused = |pointer: &str, lie: serde_json::Value| {
                let mut value = value.clone();
                *value.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = lie;
                let error = resume(&value.to_string()).expect_err(pointer);
                assert!(error.contains("out.pec.partial"), "{pointer}: {error}");
            };
            use serde_json::json;
            refused("/read/spills", json!([[], [], []]));
            refused("/read/spills", json!([[0, 0, 0], [0, 0, 0], [0, 0, 0]]));
            refused("/read/spills/1", json!([0]));
            refused("/read/spills/0", json!(vec![0u64; 1 << 16]));
            refused("/read/rows", json!([]));
            refused("/read/rows/0", json!(u64::MAX));
            refused("/read/bytes/0", json!(u64::MAX));
            refused("/read/counts/kept", json!(u64::MAX));
            refused("/read/counts/kept", json!(3));
            refused("/read/counts/exposed", json!(1u64 << 40));
            refused("/read/layout/time", json!(false));
            refused("/read/histogram/shift", json!(64));
            refused("/read/histogram/counts/0/1", json!(u64::MAX));
            refused("/read/events", json!(["cart", "cart"]));
            refused("/read/events", json!((0..300).map(|n| n.to_string()).collect::<Vec<_>>()));
            refused("/read/events", json!([]));
            refused("/read/contexts", json!([["desk"], ["desk"]]));
            refused("/read/contexts", json!([["desk", "phone"], ["phone", "desk"]]));
            refused("/read/contexts", json!([]));
            refused("/read/place/source", json!(3));
        });
    }

    #[test]
    fn a_temporary_file_of_a_part_that_there_is_not_is_an_error() {
        with_interrupted(|interrupted| {
            let records =
                |name: &&String| name.starts_with("temporary/") && name[10..].parse::<u32>().is_ok_and(|n| n < 4);
            for name in interrupted.files.keys().filter(records) {
                let error = interrupted.resume(name, &vec![0xff; interrupted.files[name].len()]).unwrap_err();
                assert!(error.contains("out.pec.partial") && error.contains("--restart"), "{error}");
            }
        });
    }
}
