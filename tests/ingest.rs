//! `ingest`, `inspect` and `verify` through the binary: what they make, and how they fail.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const LOG: &str = "user,item,time,weight,event\n\
    anna,tea,100,5,buy\nanna,milk,200,4,view\nanna,tea,300,1,view\nbert,tea,150,3,view\nbert,jam,400,2,buy\n\
    carl,milk,50,5,buy\ncarl,jam,60,4,buy\ncarl,tea,70,3,view\n";

/// A folder with a log in it.
pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new(log: impl AsRef<[u8]>) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.write("log.csv", log);
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        command().current_dir(self.folder.path()).args(arguments).output().unwrap()
    }

    /// Ingests `log.csv` to `out.pec`; what `--json` says.
    pub fn ingest(&self, flags: &[&str]) -> Value {
        let output = self.run(&[&["ingest", "--output", "out.pec", "--json", "--quiet", "log.csv"], flags].concat());
        assert!(output.status.success(), "{flags:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Ingesting `log.csv` must fail with a message that holds all of `words`, and leave nothing behind.
    pub fn fails(&self, flags: &[&str], words: &[&str]) {
        let before = self.names();
        let output = self.run(&[&["ingest", "--output", "out.pec", "--quiet", "log.csv"], flags].concat());
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{:?}: {message}", output.status);
        assert!(output.stdout.is_empty());
        for word in words {
            assert!(message.contains(word), "'{word}' is not in: {message}");
        }
        assert_eq!(self.names(), before, "something was left behind");
    }

    pub fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }
}

fn names(folder: &Path) -> Vec<String> {
    let name = |e: std::io::Result<std::fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = folder.read_dir().unwrap().map(name).collect();
    names.sort();
    names
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_peccary"))
}

/// Interactions of a part.
pub fn interactions(summary: &Value, part: &str) -> u64 {
    let parts = summary["parts"].as_array().unwrap();
    parts.iter().find(|p| p[0] == part).map_or(0, |p| p[1]["interactions"].as_u64().unwrap())
}

#[test]
fn a_log_becomes_a_dataset_that_says_what_it_holds() {
    let bench = Bench::new(LOG);
    let summary = bench.ingest(&["--event-column", "event", "--weight-column", "weight", "--split", "leave-one-out"]);
    assert_eq!((&summary["users"], &summary["items"], &summary["merged"]), (&3.into(), &3.into(), &1.into()));
    assert_eq!((interactions(&summary, "train"), interactions(&summary, "test")), (4, 3));
    let output = bench.run(&["inspect", "out.pec", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["kind"], "dataset");
    assert_eq!(report["events"], serde_json::json!(["buy", "view"]));
    assert_eq!(report["sources"][0]["rows"], 8);
    assert_eq!(report["options"]["split"], "leave-one-out");
    assert!((report["density"].as_f64().unwrap() - 7.0 / 9.0).abs() < 1e-9);
    let text = String::from_utf8(bench.run(&["inspect", "out.pec"]).stdout).unwrap();
    for word in ["Gini", "1970-01-01T00:00:50Z", "leave-one-out", "log.csv", "train/00000.shard"] {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
    let report: Value = serde_json::from_slice(&bench.run(&["verify", "out.pec", "--json"]).stdout).unwrap();
    assert_eq!((&report["valid"], &report["kind"]), (&true.into(), &"dataset".into()));
    assert_eq!(bench.names(), ["log.csv", "out.pec"]);
    assert!(!bench.path("out.pec/temporary").exists());
}

#[test]
fn every_filter_and_split_does_what_it_says() {
    type Case = (&'static [&'static str], u64, u64, u64, &'static str, u64);
    let cases: &[Case] = &[
        (&["--weight-column", "weight", "--min-weight", "3"], 6, 0, 0, "filtered_by_weight", 2),
        (&["--event-column", "event", "--keep-events", "buy"], 4, 0, 0, "filtered_by_event", 4),
        (&["--min-user-count", "3"], 3, 0, 0, "users_dropped", 2),
        (&["--min-item-count", "3"], 3, 0, 0, "items_dropped", 2),
        (&["--split", "time:1970-01-01T00:02:30Z"], 4, 0, 3, "users_not_split", 0),
        (&["--split", "leave-one-out", "--valid-split", "leave-one-out"], 5, 1, 1, "users_not_split", 2),
        (&["--split", "time:0.25", "--valid-split", "time:0.5"], 3, 3, 1, "rejected", 0),
    ];
    for (flags, train, valid, test, counter, count) in cases {
        let summary = Bench::new(LOG).ingest(flags);
        let parts = ["train", "valid", "test"].map(|p| interactions(&summary, p));
        assert_eq!(parts, [*train, *valid, *test], "{flags:?}: {summary}");
        assert_eq!(summary[*counter], *count, "{flags:?}");
    }
    let log: String = (0..2000).map(|i| format!("u{},i{}\n", i / 20, i % 20)).collect();
    let bench = Bench::new(log);
    let seeded = |seed: &str| {
        let summary = bench.ingest(&["--split", "random:0.2", "--seed", seed, "--force"]);
        assert!((300..500).contains(&interactions(&summary, "test")), "{summary}");
        summary["fingerprint"].clone()
    };
    assert_eq!(seeded("1"), seeded("1"));
    assert_ne!(seeded("1"), seeded("2"));
    assert_ne!(
        bench.ingest(&["--force"])["fingerprint"],
        bench.ingest(&["--force", "--hash-seed", "9"])["fingerprint"]
    );
}

#[test]
fn ready_made_parts_never_share_a_pair_with_train() {
    let bench = Bench::new("user,item\na,x\na,y\nb,x\n");
    bench.write("v.csv", "user,item\na,z\nb,y\n");
    bench.write("t.csv", "user,item\na,x\nb,y\nb,z\n");
    let summary = bench.ingest(&["--valid", "v.csv", "--test", "t.csv"]);
    let parts = ["train", "valid", "test"].map(|p| interactions(&summary, p));
    assert_eq!(parts, [3, 2, 1], "{summary}");
    assert!(bench.run(&["verify", "out.pec"]).status.success());
    bench.fails(&["--force", "--test", "t.csv", "--split", "random:0.1"], &["--test", "--split"]);
    bench.fails(&["--force", "--valid", "v.csv", "--valid-split", "random:0.1"], &["--valid", "--valid-split"]);
}

#[test]
fn reading_flags_are_obeyed() {
    let cases: &[(&str, &[&str], u64, u64)] = &[
        ("a::x\nb::y\n", &["--delimiter", "::", "--no-header"], 2, 2),
        ("user,item\nb,y\n", &["--no-header"], 2, 2),
        ("k,l\nb,y\n", &["--header"], 1, 1),
        ("a|x|1\nb|x|2\n", &["--user-column", "3", "--item-column", "2", "--delimiter", "|"], 2, 1),
        ("{\"user\":1,\"item\":\"x\"}\n", &["--format", "ndjson"], 1, 1),
        ("user,item\n\"a\",x\na,x\n", &[], 1, 1),
        ("user,item\n\"a\",x\na,x\n", &["--no-quotes"], 2, 1),
    ];
    for (log, flags, users, items) in cases {
        let summary = Bench::new(log).ingest(flags);
        assert_eq!((&summary["users"], &summary["items"]), (&(*users).into(), &(*items).into()), "{log:?} {flags:?}");
    }
    let times =
        |flags: &[&str]| Bench::new("user,item,when\na,x,5000\n").ingest(flags)["parts"][0][1]["time_range"][0].clone();
    assert_eq!(times(&[]), Value::Null);
    assert_eq!(times(&["--time-column", "when"]), 5_000_000);
    assert_eq!(times(&["--time-column", "when", "--time-unit", "milliseconds"]), 5000);
}

#[test]
fn bad_input_is_refused_with_its_place_and_a_remedy() {
    let row = |log: &[u8], flags: &[&str], words: &[&str]| {
        let words = [words, &["log.csv", "--on-error skip"]].concat();
        Bench::new(log).fails(flags, &words);
    };
    row(b"user,item\na,x\nb\nc\n", &[], &["line 3", "too few fields"]);
    row(b"user,item\na,x\nb,\xff\n", &[], &["line 3", "item is not valid UTF-8"]);
    row(b"user,item,time\na,x,1\nb,x,soon\n", &[], &["line 3", "'soon'"]);
    row(b"user,item,w\na,x,NaN\n", &["--weight-column", "w"], &["line 2", "NaN"]);
    row(b"user,item,w\na,x,-2\n", &["--weight-column", "w"], &["line 2", "'-2' is negative"]);
    let german = Bench::new("kunde,produkt,wann\nanna,tee,1700000000\nbert,saft,1700000001\n");
    german.fails(&[], &["'kunde,produkt,wann'", "--header", "--no-header", "--user-column"]);
    assert_eq!(german.ingest(&["--no-header"])["users"], 3);
    assert_eq!(german.ingest(&["--header", "--time-column", "wann", "--force"])["users"], 2);
    Bench::new("user,item\n").fails(&[], &["empty"]);
    Bench::new("").fails(&[], &["empty"]);
    Bench::new(LOG).fails(&["absent.csv"], &["absent.csv", "no such file"]);
    Bench::new(LOG).fails(&["--user-column", "uid"], &["'uid'", "'user', 'item', 'time'", "--user-column"]);
    let none = ["--weight-column", "weight", "--min-weight", "9"];
    Bench::new(LOG).fails(&none, &["no rows are left", "8 were read", "8 by --min-weight"]);
    Bench::new(LOG).fails(&["--min-user-count", "9"], &["no rows are left", "7 of the remaining", "--min-user-count"]);
    Bench::new(LOG).fails(&["--split", "time:1960-01-01"], &["no interactions are left to train on", "--split"]);
    Bench::new("a,x\n").fails(&["--split", "time:0.1"], &["log.csv has no time column", "--time-column"]);
    Bench::new(LOG).fails(&["--split", "half"], &["unknown split 'half'", "leave-one-out"]);
    Bench::new(LOG).fails(&["--memory", "10MiB"], &["--memory 10MiB is too small", "64MiB"]);
    Bench::new(LOG).fails(&["--min-weight", "2"], &["--weight-column"]);
    Bench::new(LOG).fails(&["--rejects", "r"], &["--on-error skip"]);
    let later = ["--split", "time:2020-01-01", "--valid-split", "time:2021-01-01"];
    Bench::new(LOG).fails(&later, &["--valid-split", "before"]);
    let bench = Bench::new(LOG);
    bench.write("other.csv", "user,item\na,x\n");
    bench.fails(&["other.csv"], &["other.csv has no time column", "log.csv"]);
}

#[test]
fn the_first_bad_row_is_named_whatever_the_threads() {
    let mut log: String = (0..400_000).map(|i| format!("user{i},item{}\n", i % 100)).collect();
    log.insert_str(log.len() / 2, "\n,\n");
    log.push_str("last\n");
    let line = log[..log.len() / 2 + 2].matches('\n').count();
    for threads in ["1", "2", "7"] {
        let bench = Bench::new(&log);
        let output = bench.run(&["ingest", "--output", "o", "--quiet", "--no-header", "log.csv", "--threads", threads]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        let found: usize = message.split("line ").nth(1).and_then(|t| t.split(':').next()?.parse().ok()).unwrap();
        assert!(found.abs_diff(line) <= 2, "{found} instead of about {line}: {message}");
    }
}

#[test]
fn a_truncated_gzip_is_told_and_leaves_nothing() {
    let bench = Bench::new(LOG);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all((0..9000).map(|i| format!("u{i},i{}\n", i * 7 % 1000)).collect::<String>().as_bytes()).unwrap();
    let bytes = encoder.finish().unwrap();
    bench.write("log.csv", &bytes[..bytes.len() - 20]);
    bench.fails(&[], &["log.csv", "truncated", "again"]);
    bench.fails(&["--on-error", "skip"], &["truncated"]);
    bench.write("log.csv", &bytes);
    assert_eq!(bench.ingest(&[])["rows_read"], 9000);
}

#[test]
fn skipped_rows_go_to_the_rejects_file() {
    let bench = Bench::new("user,item,time\na,x,1\nb,y\nc,z,never\nd,w,4\n");
    let summary = bench.ingest(&["--on-error", "skip"]);
    assert_eq!((&summary["rows_read"], &summary["rejected"]), (&4.into(), &2.into()));
    assert_eq!(summary["rejected_by_reason"], serde_json::json!({"too few fields": 1, "unreadable time": 1}));
    let text = std::fs::read_to_string(bench.path("out.pec.rejects.ndjson")).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&lines[0]["line"], &lines[0]["raw"]), (&3.into(), &"b,y".into()));
    assert_eq!((&lines[1]["line"], &lines[1]["source"]), (&4.into(), &"log.csv".into()));
    let clean = Bench::new(LOG);
    assert_eq!(clean.ingest(&["--on-error", "skip", "--rejects", "r.ndjson"])["rejects"], Value::Null);
    assert_eq!(clean.names(), ["log.csv", "out.pec"]);
}

#[test]
fn outputs_are_replaced_only_by_force_and_only_ours() {
    let bench = Bench::new(LOG);
    let first = bench.ingest(&[])["fingerprint"].clone();
    bench.fails(&[], &["out.pec", "--force"]);
    bench.write("log.csv", "user,item\na,x\nbad\n");
    bench.fails(&["--force"], &["line 3"]);
    let report: Value = serde_json::from_slice(&bench.run(&["inspect", "out.pec", "--json"]).stdout).unwrap();
    assert_eq!(report["fingerprint"], first, "a failed run must not touch what was there");
    bench.write("log.csv", "user,item\na,x\n");
    assert_eq!(bench.ingest(&["--force"])["users"], 1);
    let other = Bench::new(LOG);
    std::fs::create_dir(other.path("out.pec")).unwrap();
    other.write("out.pec/thesis.tex", "x");
    other.fails(&["--force"], &["--force replaces only"]);
}

#[test]
fn a_flipped_byte_anywhere_is_found() {
    let bench = Bench::new(LOG);
    bench.ingest(&["--split", "leave-one-out"]);
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in ["out.pec", "out.pec/train", "out.pec/test"] {
        let entries = bench.path(folder).read_dir().unwrap().map(|e| e.unwrap().path());
        files.extend(entries.filter(|p| p.is_file()));
    }
    assert_eq!(files.len(), 8);
    for file in &files {
        let good = std::fs::read(file).unwrap();
        for at in (0..good.len()).step_by(good.len() / 6 + 1) {
            let mut bad = good.clone();
            bad[at] ^= 4;
            std::fs::write(file, &bad).unwrap();
            assert!(peccary::Dataset::open(bench.path("out.pec")).is_err(), "{}: byte {at}", file.display());
        }
        let output = bench.run(&["verify", "out.pec"]);
        assert_eq!(output.status.code(), Some(1));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(message.contains(name), "{name} is not in: {message}");
        std::fs::write(file, &good).unwrap();
    }
    assert!(bench.run(&["verify", "out.pec"]).status.success());
    std::fs::remove_file(&files[0]).unwrap();
    assert_eq!(bench.run(&["verify", "out.pec"]).status.code(), Some(1));
}

#[test]
fn what_is_no_dataset_or_newer_is_told() {
    let bench = Bench::new(LOG);
    let says = |path: &str| {
        let output = bench.run(&["inspect", path]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(says("log.csv").contains("not a Peccary dataset or model: it is a file"));
    assert!(says("absent").contains("no such folder"));
    assert!(says(".").contains("no manifest.json"));
    bench.ingest(&[]);
    let manifest = bench.path("out.pec/manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"version\": 1", "\"version\": 99")).unwrap();
    assert!(says("out.pec").contains("format version 99, but this build reads up to 2; use a newer peccary"));
}

/// A process that is killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ctrl_c_leaves_what_was_there() {
    for (endless, existing) in [(true, false), (false, true)] {
        let bench = Bench::new(LOG);
        if existing {
            bench.ingest(&[]);
        }
        let before = bench.names();
        let child = command()
            .current_dir(bench.folder.path())
            .args(["ingest", "--output", "out.pec", "--force", "--quiet", "--no-header", "-"])
            .args(["--on-error", "skip"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Running(child);
        let mut pipe = child.0.stdin.take().unwrap();
        let rows: Vec<u8> = (0..50_000).flat_map(|i| format!("u{i},i{}\n", i % 977).into_bytes()).collect();
        pipe.write_all(&rows).unwrap();
        let begun = Instant::now();
        while !bench.path("out.pec.partial/temporary").exists() {
            assert!(begun.elapsed() < Duration::from_secs(20), "ingest never began");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Either rows keep coming, or the pipe stays open and silent.
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let writer = std::thread::spawn(move || {
            while endless && pipe.write_all(&rows).is_ok() {}
            let _ = stopped.recv();
            drop(pipe);
        });
        let signalled = Command::new("kill").args(["-INT", &child.0.id().to_string()]).status().unwrap();
        assert!(signalled.success());
        let status = child.0.wait().unwrap();
        let mut message = String::new();
        child.0.stderr.take().unwrap().read_to_string(&mut message).unwrap();
        assert_eq!(status.code(), Some(130), "{message}");
        assert!(message.contains("interrupted"), "{message}");
        assert_eq!(bench.names(), before, "something was left behind");
        drop(stop);
        writer.join().unwrap();
        if existing {
            assert!(bench.run(&["verify", "out.pec"]).status.success());
        }
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let log: String = (0..200_000).map(|i| format!("user{i},item{}\n", i % 1000)).collect();
    let bench = Bench::new(log);
    std::fs::create_dir(bench.path("small")).unwrap();
    // Mounted in a namespace of its own, so that it goes when the shell does.
    let script = "mount -t tmpfs -o size=3m none small || exit 77\n\
        \"$0\" ingest --quiet --output small/out.pec log.csv 2> message; code=$?\n\
        ls -A small > left; exit $code";
    let status = Command::new("unshare")
        .args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_peccary")])
        .current_dir(bench.folder.path())
        .status();
    match status.ok().and_then(|s| s.code()) {
        Some(1) if bench.path("message").exists() => {}
        code => {
            println!("skipped: a small file system cannot be mounted here ({code:?})");
            return;
        }
    }
    let message = std::fs::read_to_string(bench.path("message")).unwrap();
    assert!(message.contains("small") && message.contains("free some space"), "{message}");
    assert_eq!(std::fs::read_to_string(bench.path("left")).unwrap(), "");
}

#[test]
fn the_same_bytes_from_any_format_threads_and_memory() {
    let bench = Bench::new(LOG);
    let one = bench.ingest(&["--threads", "1", "--memory", "64MiB"]);
    let two = bench.ingest(&["--force", "--threads", "5", "--memory", "2GiB"]);
    assert_eq!(one["fingerprint"], two["fingerprint"]);
    bench.write("log.csv", LOG.replace(',', "\t"));
    assert_eq!(bench.ingest(&["--force", "--format", "tsv"])["fingerprint"], one["fingerprint"]);
    let mut lines: Vec<&str> = LOG.lines().skip(1).collect();
    lines.reverse();
    bench.write("log.csv", format!("user,item,time,weight,event\n{}\n", lines.join("\n")));
    assert_eq!(bench.ingest(&["--force"])["fingerprint"], one["fingerprint"]);
}

/// Peak resident memory in KiB of a running process, as far as it has come.
fn peak_memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

/// Peak resident memory in KiB of ingesting `log.csv` within 64 MiB, which must succeed.
fn peak_of_ingest(bench: &Bench, flags: &[&str]) -> u64 {
    let child = command()
        .current_dir(bench.folder.path())
        .args(["ingest", "--output", "out.pec", "--force", "--quiet", "--memory", "64MiB", "--no-header"])
        .args(["log.csv", "--json"])
        .args(flags)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Running(child);
    let mut peak = 0;
    let status = loop {
        peak = peak.max(peak_memory(child.0.id()).unwrap_or(0));
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success());
    println!("peak {peak} KiB with {flags:?}");
    peak
}

/// The budget of [`peak_of_ingest`] and 10 % more, in KiB; less than 8 MiB cannot be right.
const WITHIN: std::ops::RangeInclusive<u64> = 8 << 10..=(64 << 10) * 11 / 10;

#[test]
fn memory_stays_within_the_budget() {
    // Uniform rows, then one user with far more rows than fit, then one pair repeated as often.
    let mut log = Vec::new();
    for i in 0..1_500_000u64 {
        let hash = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        writeln!(log, "user{},item{},{}", hash % 200_000, hash % 49_999, i).unwrap();
        writeln!(log, "robot,item{},{}", hash % 150_000, i).unwrap();
        writeln!(log, "stuck,item7,{}", i % 5).unwrap();
    }
    let bench = Bench::new(log);
    for flags in [&["--min-user-count", "2", "--split", "time:0.1"][..], &[]] {
        let peak = peak_of_ingest(&bench, &[flags, &["--time-column", "3"]].concat());
        assert!(WITHIN.contains(&peak), "{peak} KiB with {flags:?}");
    }
    assert!(bench.run(&["verify", "out.pec", "--quiet"]).status.success());
}

#[test]
fn millions_of_distinct_users_need_no_memory_each() {
    // Their ids alone, with a hash and a length each, are twice the budget.
    let log: Vec<u8> =
        (0..3_200_000u64).flat_map(|i| format!("visitor-{:020},item{}\n", i ^ 0x5555, i % 1000).into_bytes()).collect();
    let bench = Bench::new(log);
    let peak = peak_of_ingest(&bench, &[]);
    assert!(WITHIN.contains(&peak), "{peak} KiB");
    let report: Value = serde_json::from_slice(&bench.run(&["inspect", "out.pec", "--json"]).stdout).unwrap();
    assert_eq!(report["users"], 3_200_000);
}

#[test]
fn memory_stays_within_the_budget_with_several_very_active_users() {
    let mut log = Vec::new();
    for user in 0..5 {
        for item in 0..200_000u64 {
            writeln!(log, "robot{user},item{item},{}", item % 1000).unwrap();
        }
    }
    let bench = Bench::new(log);
    for flags in [&["--min-item-count", "2", "--split", "leave-one-out"][..], &["--split", "random:0.5"]] {
        let peak = peak_of_ingest(&bench, &[flags, &["--time-column", "3"]].concat());
        assert!(WITHIN.contains(&peak), "{peak} KiB with {flags:?}");
    }
    bench.write("log.csv", (0..600_000).map(|item| format!("robot,item{item}\n")).collect::<String>());
    bench.fails(&["--force", "--memory", "64MiB"], &["a user has more than", "larger --memory"]);
    bench.write("log.csv", (0..1_600_000).map(|i| format!("user{},item{i}\n", i / 9)).collect::<String>());
    bench.fails(&["--force", "--memory", "64MiB"], &["1600000 distinct items", "pass --memory"]);
}

#[test]
fn memory_stays_within_the_budget_with_bad_rows_and_long_ids() {
    let mut log = b"user,item\n".repeat(10);
    log.extend(b"x\n".repeat(4_000_000));
    let bench = Bench::new(log);
    let peak = peak_of_ingest(&bench, &["--on-error", "skip"]);
    assert!(WITHIN.contains(&peak), "{peak} KiB");
    let rejects = std::fs::read(bench.path("out.pec.rejects.ndjson")).unwrap();
    assert_eq!(rejects.iter().filter(|b| **b == b'\n').count(), 4_000_000);
    let long = "x".repeat(2000);
    bench.write("log.csv", (0..30_000).map(|i| format!("{long}{i},{}\n", i % 100)).collect::<String>());
    let peak = peak_of_ingest(&bench, &["--on-error", "skip"]);
    assert!(WITHIN.contains(&peak), "{peak} KiB");
}

#[test]
fn an_open_quote_never_swallows_the_rest_of_the_log() {
    let bench = Bench::new("user,item\nu1,i1\nu2,\"i2\nu3,i3\nu4,i4\n");
    for flags in [&[][..], &["--on-error", "skip"]] {
        bench.fails(flags, &["line 3", "never closed", "--no-quotes"]);
    }
    assert_eq!(bench.ingest(&["--no-quotes"])["rows_read"], 4);
}

#[test]
fn the_same_file_twice_is_refused_whatever_it_is_called() {
    let bench = Bench::new(LOG);
    bench.write("other.csv", "user,item,time,weight,event\n");
    std::os::unix::fs::symlink(bench.path("log.csv"), bench.path("link.csv")).unwrap();
    let same = "is the same file as log.csv: its rows would count twice; name it once";
    std::fs::hard_link(bench.path("log.csv"), bench.path("hard.csv")).unwrap();
    bench.fails(&["log.csv"], &["log.csv", same]);
    bench.fails(&["other.csv", "./log.csv"], &["./log.csv", same]);
    bench.fails(&["link.csv"], &["link.csv", same]);
    bench.fails(&["hard.csv"], &["hard.csv", same]);
    bench.fails(&["--test", "log.csv"], &["log.csv", same]);
    bench.fails(&["."], &["same file"]);
    // Files without rows are said in JSON, and without progress, too.
    let summary = bench.ingest(&["other.csv", "--split", "time:2100-01-01"]);
    let warnings = summary["warnings"].to_string();
    assert!(
        warnings.contains("other.csv: not a single row") && warnings.contains("the test part is empty"),
        "{warnings}"
    );
    let text = bench.run(&["ingest", "log.csv", "other.csv", "--output", "again.pec", "--quiet"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("warning: other.csv: not a single row"));
}

#[test]
fn an_empty_part_is_said_and_a_slash_at_the_end_does_no_harm() {
    let bench = Bench::new("user,item,time\na,x,1\na,y,2\nb,x,3\n");
    let made = bench.run(&["ingest", "log.csv", "--output", "late.pec/", "--split", "time:2030-01-01"]);
    let text = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success() && text.contains("the test part is empty"), "{text}");
}

#[test]
fn rejects_of_an_earlier_run_do_not_stay() {
    let bench = Bench::new("user,item\na,x\nb\n");
    bench.write("out.pec.rejects.ndjson", "precious");
    for flags in [&["--on-error", "skip"][..], &[]] {
        bench.fails(flags, &["out.pec.rejects.ndjson: exists already", "--force"]);
    }
    bench.ingest(&["--on-error", "skip", "--force"]);
    let text = std::fs::read_to_string(bench.path("out.pec.rejects.ndjson")).unwrap();
    assert!(text.contains("too few fields"), "{text}");
    bench.fails(&["--force"], &["line 3"]);
    assert_eq!(std::fs::read_to_string(bench.path("out.pec.rejects.ndjson")).unwrap(), text);
    bench.write("log.csv", "user,item\na,x\n");
    assert_eq!(bench.ingest(&["--on-error", "skip", "--force"])["rejects"], Value::Null);
    assert_eq!(bench.names(), ["log.csv", "out.pec"]);
    bench.write("out.pec.rejects.ndjson", "of an earlier run");
    bench.ingest(&["--force"]);
    assert_eq!(bench.names(), ["log.csv", "out.pec"]);
    std::fs::create_dir(bench.path("out.pec.rejects.ndjson")).unwrap();
    bench.fails(&["--force"], &["out.pec.rejects.ndjson: is not a regular file"]);
}

#[test]
fn damage_in_parquet_is_an_error_and_never_a_panic_on_the_screen() {
    let bench = Bench::new("");
    let size = ["--users", "20", "--items", "10", "--interactions", "50"];
    assert!(bench.run(&[&["synth", "--quiet", "--output", "log.parquet"][..], &size].concat()).status.success());
    let whole = std::fs::read(bench.path("log.parquet")).unwrap();
    let mut caught = 0;
    for at in (whole.len() / 2..whole.len() - 8).step_by(3) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        bench.write("log.parquet", flipped);
        let output = bench.run(&["ingest", "log.parquet", "--output", "o", "--force", "--quiet"]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 1)) && !message.contains("panicked"), "byte {at}: {message}");
        caught += usize::from(message.contains("contradict each other"));
    }
    assert!(caught > 0, "no damage was of the kind that makes the reader panic");
}
