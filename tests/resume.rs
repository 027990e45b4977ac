//! `ingest --resume`: real processes killed at several points, resumed, and compared byte by byte with one that ran through.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// A folder with a log of 400,000 rows, every 5,000th of them bad.
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        let mut log = String::new();
        for i in 0..400_000u64 {
            let hash = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            match i % 5000 {
                7 => log += "bad\n",
                _ => {
                    log += &format!(
                        "user{},item{},{},{}\n",
                        hash % 60_000,
                        hash % 1999,
                        1000 + i,
                        ["a", "b"][i as usize % 2]
                    )
                }
            }
        }
        std::fs::write(bench.path("log.csv"), log).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peccary"));
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    /// Must succeed.
    fn run(&self, arguments: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    }

    /// Must fail with a message that holds all of `words`.
    fn fails(&self, arguments: &[&str], words: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output));
        for word in words {
            assert!(text(&output).contains(word), "'{word}' is not in: {}", text(&output));
        }
    }

    /// Starts a process and ends it by `signal` as soon as `when` says so; whether it got so far before it ended.
    fn stop(&self, arguments: &[&str], signal: &str, mut when: impl FnMut(&Path) -> bool) -> bool {
        let mut child =
            self.command(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_and_stop(&mut child, signal, || when(&self.path("out.pec.partial")))
    }

    /// The dataset, and what lies beside it, by name.
    fn files(&self, output: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.path(output), "", &mut files);
        if let Ok(rejects) = std::fs::read(self.path(&format!("{output}.rejects.ndjson"))) {
            files.insert("rejects".into(), rejects);
        }
        files
    }

    fn assert_equal(&self, what: &str) {
        let (wanted, found) = (self.files("reference.pec"), self.files("out.pec"));
        assert!(wanted.len() > 4, "{what}");
        assert_eq!(wanted.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{what}");
        for (name, bytes) in &wanted {
            assert!(found[name] == *bytes, "{what}: {name} differs");
        }
        assert!(!self.path("out.pec.partial").exists(), "{what}: the folder should be gone");
    }
}

fn wait_and_stop(child: &mut Child, signal: &str, mut when: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if when() {
            Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
            child.wait().unwrap();
            return true;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing happens");
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files);
        } else {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

/// Says yes when the journal has been replaced `count` times since it was first asked.
fn checkpoints(count: usize) -> impl FnMut(&Path) -> bool {
    let mut seen: Option<(u64, i64)> = None;
    let mut changes = 0;
    let mut first = true;
    move |folder| {
        let now = folder.join("journal").metadata().ok().map(|m| (m.ino(), m.mtime_nsec()));
        changes += usize::from(now != seen && !first);
        (seen, first) = (now, false);
        changes >= count
    }
}

/// Says yes when users are being written.
fn writing(folder: &Path) -> bool {
    let Ok(mut entries) = folder.read_dir() else { return false };
    entries.any(|e| e.is_ok_and(|e| e.path().join("train").join("00000.shard").exists()))
}

#[test]
fn killed_at_any_point_and_resumed_gives_the_same_bytes() {
    let bench = Bench::new();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&std::fs::read(bench.path("log.csv")).unwrap()).unwrap();
    std::fs::write(bench.path("log.csv.gz"), encoder.finish().unwrap()).unwrap();
    let size = ["--users", "5000", "--items", "3000", "--interactions", "400000", "--events"];
    bench.run(&[&["synth", "--quiet", "--output", "log.parquet"][..], &size].concat());
    let text = ["--no-header", "--time-column", "3", "--on-error", "skip"];
    let cases: [(&[&str], &[&str]); 4] = [
        (&[&["log.csv"][..], &text].concat(), &["--split", "time:0.1", "--valid-split", "leave-one-out"]),
        (&[&["log.csv.gz"][..], &text].concat(), &["--min-user-count", "5", "--min-item-count", "3"]),
        (&["log.parquet", "--event-column", "event"], &["--split", "random:0.2"]),
        (
            &[&["log.csv", "--valid", "log.csv.gz"][..], &text].concat(),
            &["--event-column", "4", "--exposure-events", "b", "--split", "time:0.3"],
        ),
    ];
    for (inputs, flags) in cases {
        let common = [&["ingest", "--quiet"][..], inputs, flags].concat();
        let call = |more: &[&'static str]| [&common[..], more].concat();
        bench.run(&call(&["--output", "reference.pec", "--force"]));
        let out = ["--output", "out.pec", "--force", "--memory", "64MiB", "--checkpoint", "0"];
        let out = |more: &[&'static str]| [&call(&out)[..], more].concat();
        let killed = [
            bench.stop(&out(&[]), "-KILL", checkpoints(2)),
            bench.stop(&out(&["--resume"]), "-KILL", checkpoints(3)),
            bench.stop(&out(&["--resume", "--threads", "1"]), "-INT", checkpoints(1)),
            bench.stop(&out(&["--resume"]), "-KILL", writing),
        ];
        assert_eq!(killed, [true; 4], "{common:?} ended too early to be interrupted");
        assert!(!bench.path("out.pec").exists());
        bench.run(&call(&["--output", "out.pec", "--memory", "1GiB", "--threads", "3", "--resume"]));
        bench.assert_equal(&format!("{common:?}"));
        for name in ["out.pec", "reference.pec"] {
            std::fs::remove_dir_all(bench.path(name)).unwrap();
            let _ = std::fs::remove_file(bench.path(&format!("{name}.rejects.ndjson")));
        }
    }
    let left: Vec<_> = bench.folder.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "the logs alone: {left:?}");
}

#[test]
fn what_an_interrupted_ingest_left_is_neither_lost_nor_mixed() {
    let bench = Bench::new();
    let plain = ["ingest", "--quiet", "log.csv", "--no-header", "--on-error", "skip", "--output", "out.pec"];
    let call = |more: &[&'static str]| [&plain[..], more].concat();
    std::fs::write(bench.path("more.csv"), "1,2,3\n").unwrap();
    bench.fails(&call(&["--resume"]), &["nothing to resume", "without --resume"]);
    assert!(bench.stop(&call(&["--checkpoint", "0"]), "-KILL", checkpoints(2)));
    bench.fails(&call(&[]), &["out.pec.partial", "--resume", "--restart"]);
    bench.fails(&call(&["--force"]), &["out.pec.partial", "--resume", "--restart"]);
    // Options and inputs must be those of the start.
    bench.fails(&call(&["--resume", "--split", "random:0.1", "--time-column", "3"]), &["--split", "--time-column"]);
    bench.fails(&call(&["--resume", "more.csv"]), &["there were 1 inputs and are 2"]);
    let log = std::fs::read(bench.path("log.csv")).unwrap();
    let modified = bench.path("log.csv").metadata().unwrap().modified().unwrap();
    let put = |bytes: &[u8], time| {
        std::fs::write(bench.path("log.csv"), bytes).unwrap();
        std::fs::File::options().write(true).open(bench.path("log.csv")).unwrap().set_modified(time).unwrap();
    };
    put(&log[..log.len() - 9], modified);
    bench.fails(&call(&["--resume"]), &["log.csv was", "bytes and is"]);
    put(&log, modified + Duration::from_secs(1));
    bench.fails(&call(&["--resume"]), &["log.csv was modified"]);
    let mut other = log.clone();
    other[0] = b'U';
    put(&other, modified);
    bench.fails(&call(&["--resume"]), &["the content of log.csv changed"]);
    put(&log, modified);
    // A journal that is not whole is no journal.
    let journal = bench.path("out.pec.partial/journal");
    let good = std::fs::read(&journal).unwrap();
    for at in [0, 30, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&journal, bad).unwrap();
        bench.fails(&call(&["--resume"]), &["journal", "--restart"]);
    }
    std::fs::write(&journal, &good).unwrap();
    // While one works there, another does not: the first waits for a pipe here.
    let waits = ["ingest", "--quiet", "-", "--no-header", "--output", "busy.pec"];
    let mut child = bench.command(&waits).stdin(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !bench.path("busy.pec.partial/temporary").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "ingest never began");
        std::thread::sleep(Duration::from_millis(5));
    }
    for more in [&["--resume"][..], &["--restart"], &["--force"]] {
        let again = [&waits[..], more].concat();
        bench.fails(&again, &["another ingest to this output is running"]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    bench.run(&call(&["--resume"]));
    bench.run(&["ingest", "--quiet", "log.csv", "--no-header", "--on-error", "skip", "--output", "reference.pec"]);
    bench.assert_equal("after all that");
    // And to begin anew is possible as well.
    assert!(bench.stop(&call(&["--checkpoint", "0", "--force"]), "-KILL", checkpoints(3)));
    bench.run(&call(&["--restart", "--force"]));
    bench.assert_equal("begun anew");
    std::fs::create_dir(bench.path("out.pec.partial")).unwrap();
    std::fs::write(bench.path("out.pec.partial/thesis.tex"), "x").unwrap();
    bench.fails(&call(&["--restart", "--force"]), &["is not its own"]);
}

#[test]
fn ctrl_c_tells_how_to_go_on_and_a_bad_row_may_be_skipped_then() {
    let bench = Bench::new();
    let plain = ["ingest", "--quiet", "log.csv", "--no-header", "--output", "out.pec"];
    let call = |more: &[&'static str]| [&plain[..], more].concat();
    let arguments = call(&["--on-error", "skip", "--checkpoint", "0"]);
    let mut child = bench.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut enough = checkpoints(2);
    assert!(wait_and_stop(&mut child, "-INT", || enough(&bench.path("out.pec.partial"))));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    for word in ["interrupted", "out.pec.partial (", "--resume", "remove that folder"] {
        assert!(text(&output).contains(word), "'{word}' is not in: {}", text(&output));
    }
    std::fs::remove_dir_all(bench.path("out.pec.partial")).unwrap();
    // The first bad row of this log comes late.
    let log: Vec<u8> = (0..600_000).flat_map(|i| format!("u{},i{}\n", i / 5, i % 977).into_bytes()).collect();
    std::fs::write(bench.path("log.csv"), [&log[..], b"bad\n"].concat()).unwrap();
    bench.fails(&call(&["--checkpoint", "0"]), &["line 600001", "--on-error skip", "--resume"]);
    bench.run(&call(&["--resume", "--on-error", "skip"]));
    bench.run(&["ingest", "--quiet", "log.csv", "--no-header", "--on-error", "skip", "--output", "reference.pec"]);
    bench.assert_equal("skipping from there on");
}

#[test]
fn a_pipe_is_resumed_only_when_it_has_been_read() {
    let bench = Bench::new();
    let plain = ["ingest", "--quiet", "-", "--no-header", "--on-error", "skip", "--output"];
    let call = |more: &[&'static str]| [&plain[..], more].concat();
    let piped = |arguments: &[&str]| {
        let log = std::fs::File::open(bench.path("log.csv")).unwrap();
        bench.command(arguments).stdin(log).spawn().unwrap()
    };
    assert!(piped(&call(&["reference.pec"])).wait().unwrap().success());
    let mut child = piped(&call(&["out.pec", "--checkpoint", "0"]));
    assert!(wait_and_stop(&mut child, "-KILL", || bench.path("out.pec.partial/temporary").exists()));
    let journal = bench.path("out.pec.partial/journal").exists();
    assert!(!journal, "inside of a pipe there is no checkpoint");
    bench.fails(&call(&["out.pec", "--resume"]), &["nothing to resume", "before its first checkpoint"]);
    let mut child = piped(&call(&["out.pec", "--checkpoint", "0"]));
    assert!(wait_and_stop(&mut child, "-KILL", || bench.path("out.pec.partial/journal").exists()));
    bench.run(&call(&["out.pec", "--resume"]));
    bench.assert_equal("a pipe that had been read");
}

/// Puts something in the way of the output when all rows have been read.
struct InTheWay(PathBuf);

impl peccary::Progress for InTheWay {
    fn begin(&self, name: &str, _: Option<u64>, _: peccary::Unit, _: std::sync::Arc<peccary::Live>) {
        if name == "sorting and writing" {
            std::fs::create_dir_all(self.0.join("taken")).unwrap();
        }
    }

    fn end(&self) {}

    fn message(&self, _: &str) {}
}

#[test]
fn what_was_read_is_kept_until_the_dataset_is_there() {
    use peccary::*;
    let folder = tempfile::tempdir().unwrap();
    let (log, output) = (folder.path().join("log.csv"), folder.path().join("log.pec"));
    std::fs::write(&log, "user,item\na,x\na,y\nb,x\n").unwrap();
    let run = |leftover, ctx: &Context| {
        let how = IngestRun { leftover, checkpoint: Duration::ZERO, force: false };
        ingest(&Inputs::from(vec![Input::Path(log.clone())]), &IngestOptions::default(), &output, how, ctx)
    };
    let ctx = Context::new(1, ByteSize(64 << 20));
    let stopped = run(Leftover::Refuse, &ctx.clone().with_progress(std::sync::Arc::new(InTheWay(output.clone()))));
    assert!(stopped.unwrap_err().to_string().contains("exists already"));
    std::fs::remove_dir_all(&output).unwrap();
    assert_eq!(run(Leftover::Resume, &ctx).unwrap().parts[0].1.interactions, 3);
    assert!(!folder.path().join("log.pec.partial").exists());
}
