//! Ids and inputs that were made to do harm: they are text, never paths, markup or commands, and never memory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use crate::limited::limited;
use arrow_array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use assert_cmd::Command;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use peccary::Dataset;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// Every file below `folder`, by its path from there.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        for entry in path.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            found.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_string());
        }
    }
    found
}

/// Ids that mean something to a file system, a browser, a shell, a terminal or a spreadsheet.
fn hostile() -> Vec<String> {
    let short = [
        "../../x",
        "/etc/passwd",
        "..",
        ".",
        "a/b",
        "a\0b",
        "two\nlines",
        "\r",
        "<script>alert(1)</script>",
        "$(reboot)",
        "\u{1b}[2J\u{1b}]0;title\u{7}",
        "\u{9b}31m",
        "\u{202e}gnp.exe",
        "'; DROP TABLE users; --",
        "=cmd|'/C calc'!A0",
        "\"",
        "%s%n",
        "é",
    ];
    short.map(String::from).into_iter().chain(["long".repeat(2560)]).collect()
}

#[test]
fn ids_never_become_paths_markup_or_commands() {
    let root = tempfile::tempdir().unwrap();
    let inner = root.path().join("one/two/three");
    fs::create_dir_all(&inner).unwrap();
    let ids = hostile();
    let mut log = File::create(inner.join("log.ndjson")).unwrap();
    for (u, user) in ids.iter().enumerate() {
        for (i, item) in ids.iter().enumerate() {
            if (u + i) % 3 != 0 {
                let time = 1_700_000_000 + u * 100 + i;
                writeln!(log, "{}", json!({"user": user, "item": item, "time": time, "event": item, "device": user}))
                    .unwrap();
            }
        }
    }
    drop(log);
    let run = |args: &[&str]| -> Output {
        let output = Command::cargo_bin("peccary").unwrap().current_dir(&inner).args(args).output().unwrap();
        for text in [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()) {
            // JSON for a program, which is no terminal, has ids as they are.
            if text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()) {
                continue;
            }
            let obeyed = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            assert!(!text.contains(obeyed), "{args:?}: {text:?}");
        }
        output
    };
    let good = |args: &[&str]| {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let ingest = ["ingest", "log.ndjson", "--output", "log.pec", "--event-column", "event", "--context", "device"];
    good(&[&ingest[..], &["--split", "random:0.1", "--valid-split", "random:0.1"]].concat());
    good(&["verify", "log.pec"]);
    good(&["inspect", "log.pec"]);
    good(&["train", "log.pec", "--output", "log.model", "--dim", "4", "--epochs", "2", "--audit", "audit.parquet"]);
    good(&["verify", "log.model"]);
    good(&["evaluate", "log.model", "log.pec"]);
    for name in ["top.ndjson", "top.csv", "top.parquet"] {
        good(&["recommend", "log.model", "log.pec", "--all", "--k", "4", "--output", name]);
    }
    let names =
        |folder: &str, names: &[&str]| -> Vec<String> { names.iter().map(|n| format!("{folder}{n}")).collect() };
    let part = |part: &str| names(&format!("log.pec/{part}/"), &["00000.shard", "00000.positives"]);
    let mut expected = names("", &["log.ndjson", "audit.parquet", "top.ndjson", "top.csv", "top.parquet"]);
    expected
        .extend(names("log.pec/", &["manifest.json", "users.dict", "items.dict", "popularity.pec", "contexts.pec"]));
    expected.extend([part("train"), part("valid"), part("test")].concat());
    expected.push("log.pec/train/00000.contexts".into());
    let prefix =
        |names: Vec<String>| -> BTreeSet<String> { names.iter().map(|n| format!("one/two/three/{n}")).collect() };
    let there: BTreeSet<String> =
        files(root.path()).into_iter().filter(|name| !name.starts_with("one/two/three/log.model/")).collect();
    assert_eq!(there, prefix(expected), "nothing is named after an id");
    let model = files(&inner.join("log.model"));
    assert!(model.iter().all(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || "./".contains(c))), "{model:?}");

    // Text is what it was, in data; and is escaped where people read it.
    let dataset = Dataset::open(inner.join("log.pec")).unwrap();
    assert!(ids.iter().all(|id| dataset.users().find(id).is_some() && dataset.items().find(id).is_some()));
    let lines = fs::read_to_string(inner.join("top.ndjson")).unwrap();
    let users: BTreeSet<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["user"].as_str().unwrap().into())
        .collect();
    assert_eq!(users, ids.iter().cloned().collect());
    for id in ids.iter().filter(|id| !id.contains('\0')) {
        let given = format!("--user={id}");
        run(&["recommend", "log.model", "log.pec", &given]);
        let text = good(&["explain", "log.model", "log.pec", &given, "--candidates"]);
        assert!(!text.contains(id.as_str()) || !id.chars().any(char::is_control));
        good(&["similar", "log.model", &format!("--item={id}")]);
        // Of what is not there, ids like it are named.
        let unknown = run(&["recommend", "log.model", "log.pec", &format!("--user={id}?")]);
        assert_eq!(unknown.status.code(), Some(1));
    }
    assert_eq!(files(root.path()).len(), there.len() + model.len(), "looking at ids makes no files");
}

/// Ingests `log` within 96 MiB, under a limit that is not much more; returns what was said.
fn ingest_bomb(folder: &Path, log: &str) -> (bool, String) {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let args = [
        "ingest",
        &path(log),
        "--output",
        &path("out.pec"),
        "--memory",
        "96MiB",
        "--threads",
        "2",
        "--quiet",
        "--force",
    ];
    let run = limited(192 * MIB, &args).run();
    assert!(run.output.status.code().is_some(), "{log}: {}", run.describe());
    (run.output.status.success(), String::from_utf8_lossy(&run.output.stderr).into_owned())
}

/// Compresses `count` times `piece`, behind a header.
fn compressed<W: Write>(mut out: W, header: &str, piece: &[u8], count: usize) -> W {
    out.write_all(header.as_bytes()).unwrap();
    (0..count).for_each(|_| out.write_all(piece).unwrap());
    out
}

#[test]
fn compressed_text_that_expands_without_end_is_refused_within_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| File::create(folder.path().join(name)).unwrap();
    let piece = vec![b'a'; 1 << 20];
    let gzip = |name: &str| flate2::write::GzEncoder::new(file(name), flate2::Compression::new(6));
    let zstd = |name: &str| zstd::stream::write::Encoder::new(file(name), 3).unwrap();
    for (name, is_gzip, header) in [
        ("field.csv.gz", true, "user,item\nu,"),
        ("field.csv.zst", false, "user,item\nu,"),
        ("first.csv.zst", false, ""),
        ("quoted.csv.zst", false, "user,item\nu,\""),
        ("text.ndjson.zst", false, "{\"user\":\"u\",\"item\":\"i\"}\n{\"user\":\""),
    ] {
        match is_gzip {
            true => drop(compressed(gzip(name), header, &piece, 256).finish().unwrap()),
            false => drop(compressed(zstd(name), header, &piece, 256).finish().unwrap()),
        }
        let stored = fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(stored < MIB, "{name} has {stored} bytes for 256 MiB");
        let (success, said) = ingest_bomb(folder.path(), name);
        assert!(!success && said.contains("begins a record of more than"), "{name}: {said}");
    }
    // Many short records are data, however well they compress.
    let rows: Vec<u8> = (0..40_000).flat_map(|n| format!("u{},i{}\n", n % 50, n % 70).into_bytes()).collect();
    drop(compressed(zstd("rows.csv.zst"), "user,item\n", &rows, 20).finish().unwrap());
    let (success, said) = ingest_bomb(folder.path(), "rows.csv.zst");
    assert!(success, "{said}");
}

/// Writes a Parquet file of one batch again and again.
fn parquet(path: &Path, properties: WriterProperties, users: ArrayRef, items: ArrayRef, batches: usize) {
    let batch = RecordBatch::try_from_iter([("user", users), ("item", items)]).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    for _ in 0..batches {
        writer.write(&batch).unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn parquet_that_expands_without_end_is_refused_or_read_within_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let zstd = || WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap()));
    let long = "a".repeat(12 << 20);
    let numbers = |count: i32| Arc::new(Int32Array::from_iter_values(0..count)) as ArrayRef;

    // A page of 144 MiB.
    let texts = Arc::new(StringArray::from_iter_values((0..12).map(|_| &long))) as ArrayRef;
    let plain =
        zstd().set_dictionary_enabled(false).set_data_page_size_limit(1 << 30).set_write_batch_size(1024).build();
    parquet(&path("page.parquet"), plain, numbers(12), texts, 1);
    let (success, said) = ingest_bomb(folder.path(), "page.parquet");
    assert!(!success && said.contains("has a page of") && said.contains("--memory"), "{said}");

    // A dictionary of one long text, and 100 rows that have it: a gigabyte, were it written out.
    let texts = Arc::new(StringArray::from_iter_values(["a".repeat(10 << 20)])) as ArrayRef;
    let ones = zstd().set_dictionary_page_size_limit(1 << 30).build();
    let batch = RecordBatch::try_from_iter([("user", numbers(1)), ("item", texts)]).unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(path("dictionary.parquet")).unwrap(), batch.schema(), Some(ones)).unwrap();
    (0..100).for_each(|_| writer.write(&batch).unwrap());
    writer.close().unwrap();
    assert!(fs::metadata(path("dictionary.parquet")).unwrap().len() < MIB);
    let (success, said) = ingest_bomb(folder.path(), "dictionary.parquet");
    assert!(!success && said.contains("the longest possible is 65535"), "{said}");

    // Pages of one long text each.
    let texts = Arc::new(StringArray::from_iter_values(["a".repeat(10 << 20)])) as ArrayRef;
    let pages = zstd().set_dictionary_enabled(false).set_data_page_size_limit(1).set_write_batch_size(1).build();
    parquet(&path("pages.parquet"), pages, numbers(1), texts, 64);
    let (success, said) = ingest_bomb(folder.path(), "pages.parquet");
    assert!(!success && said.contains("the longest possible is 65535"), "{said}");

    // A footer that states two billion of something.
    let names = Arc::new(StringArray::from_iter_values(["a", "b", "c"])) as ArrayRef;
    parquet(&path("footer.parquet"), zstd().build(), numbers(3), names, 1);
    let good = fs::read(path("footer.parquet")).unwrap();
    assert!(ingest_bomb(folder.path(), "footer.parquet").0);
    let end = good.len() - 8;
    let start = end - u32::from_le_bytes(good[end..end + 4].try_into().unwrap()) as usize;
    let mut refused = 0;
    // In place of each list of a few elements one of 2,147,483,647.
    for at in (start..end).filter(|at| good[*at] & 0x0f == 0x0c && matches!(good[*at] >> 4, 1..=4)).take(6) {
        let mut bad = good[..at].to_vec();
        bad.extend_from_slice(&[0xfc, 0xff, 0xff, 0xff, 0xff, 0x07]);
        bad.extend_from_slice(&good[at + 1..end]);
        bad.extend_from_slice(&((end - start + 5) as u32).to_le_bytes());
        bad.extend_from_slice(b"PAR1");
        fs::write(path("lie.parquet"), bad).unwrap();
        let (success, said) = ingest_bomb(folder.path(), "lie.parquet");
        refused += usize::from(!success && said.contains("cannot be read as Parquet"));
    }
    assert!(refused > 0);
}
