//! What real processes do to each other and to their disks: killed, stopped, cut off, full, read-only, two at once.
#![cfg(target_os = "linux")]

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::trained::Running;
use serde_json::Value;

/// A folder with a log and a dataset `data` with a test part.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(users: &str, items: &str, interactions: &str) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.run(&[
            "synth",
            "--output",
            "log.csv",
            "--users",
            users,
            "--items",
            items,
            "--interactions",
            interactions,
        ]);
        bench.run(&["ingest", "log.csv", "--output", "data", "--split", "random:0.2"]);
        bench
    }

    /// Enough to be busy with for a while.
    fn large() -> Self {
        Self::new("20000", "5000", "300000")
    }

    fn small() -> Self {
        Self::new("500", "200", "8000")
    }

    /// With a model `m`.
    fn trained(self) -> Self {
        self.run(&["train", "data", "--output", "m", "--epochs", "1", "--dim", "64"]);
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peccary"));
        command.current_dir(self.folder.path()).arg("--quiet").args(arguments).stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Must succeed.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn spawn(&self, arguments: &[&str]) -> Running {
        let command = &mut self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap().into()
    }

    /// Names in the folder, sorted.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.folder.path().read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Whether something lies under a temporary name of `target`.
    fn temporary(&self, target: &str) -> bool {
        self.names().iter().any(|name| name.starts_with(&format!(".{target}.tmp-")))
    }

    /// Waits until `what` is so.
    fn wait(&self, what: &str, until: impl Fn() -> bool) {
        let begun = Instant::now();
        while !until() {
            assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Runs shell code with a file system of its own at `small`, mounted with `options`; what it wrote to `message` and its
    /// exit code. `None`, said visibly, where that is not allowed. `$0` is the command.
    fn with_small_disk(&self, options: &str, script: &str) -> Option<(i32, String)> {
        std::fs::create_dir(self.path("small")).unwrap();
        let script = format!("mount -t tmpfs -o {options} none small || exit 77\n{script}");
        let status = Command::new("unshare")
            .args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_peccary")])
            .current_dir(self.folder.path())
            .status();
        match status.ok().and_then(|s| s.code()) {
            None | Some(77 | 126 | 127) => {
                let line = "skipped: a small file system cannot be mounted here\n";
                std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
                None
            }
            Some(code) => Some((code, std::fs::read_to_string(self.path("message")).unwrap_or_default())),
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether a process has mapped a file whose path ends so.
fn has_mapped(process: &Running, name: &str) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", process.id())).unwrap_or_default();
    maps.lines().any(|line| line.ends_with(name))
}

fn truncate(path: &Path, bytes: u64) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn a_dataset_cut_off_under_a_trainer_is_an_error_with_its_name() {
    let bench = Bench::large();
    let shard = bench.path("data/train/00000.shard");
    let whole = std::fs::read(&shard).unwrap();
    let train = ["train", "data", "--output", "m", "--epochs", "1000000"];
    // While it is checked, and in the middle of training.
    for training in [false, true] {
        let child = bench.spawn(&train);
        bench.wait("map", || has_mapped(&child, "train/00000.shard"));
        if training {
            bench.wait("training", || bench.temporary("m"));
            std::thread::sleep(Duration::from_millis(300));
        }
        truncate(&shard, 0);
        let output = child.end();
        let message = text(&output);
        assert_eq!(output.status.code(), Some(1), "{:?}: {message}", output.status);
        assert!(message.starts_with("error: ") && message.contains("train/00000.shard"), "{message}");
        assert!(message.contains("truncated") || message.contains("damaged"), "{message}");
        std::fs::write(&shard, &whole).unwrap();
    }
    bench.run(&["train", "data", "--output", "m", "--epochs", "1"]);
    assert_eq!(bench.names(), ["data", "log.csv", "m"], "the next run removed what was left");
}

#[test]
fn a_file_that_loses_less_than_a_page_is_noticed_before_a_model_appears() {
    let bench = Bench::small();
    let mut child = bench.spawn(&["train", "data", "--output", "m", "--epochs", "3000"]);
    bench.wait("training", || bench.temporary("m"));
    child.signal("-STOP");
    let path = bench.path("data/popularity.pec");
    truncate(&path, path.metadata().unwrap().len() - 40);
    child.signal("-CONT");
    let output = child.end();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("popularity.pec: damaged: it was truncated from"), "{}", text(&output));
    assert_eq!(bench.names(), ["data", "log.csv"]);
}

#[test]
fn a_model_cut_off_under_evaluate_and_recommend_is_an_error_with_its_name() {
    let bench = Bench::large().trained();
    let files = bench.path("m");
    for (command, file) in [("evaluate", "users.factors"), ("recommend", "items.factors")] {
        let path = find(&files, file);
        let whole = std::fs::read(&path).unwrap();
        let more: &[&str] = if command == "recommend" { &["--all", "--output", "top.csv"] } else { &[] };
        let child = bench.spawn(&[&[command, "m", "data"][..], more].concat());
        bench.wait("map", || has_mapped(&child, file));
        truncate(&path, 4096);
        let output = child.end();
        let message = text(&output);
        assert_eq!(output.status.code(), Some(1), "{:?}: {message}", output.status);
        assert!(message.starts_with("error: ") && message.contains(file), "{message}");
        assert!(!bench.path("top.csv").exists());
        std::fs::write(&path, &whole).unwrap();
    }
}

/// The file of that name below `folder`.
fn find(folder: &Path, name: &str) -> PathBuf {
    let entries: Vec<PathBuf> = folder.read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    let here = entries.iter().find(|path| path.ends_with(name)).cloned();
    here.or_else(|| entries.iter().filter(|p| p.is_dir()).map(|p| find(p, name)).next()).unwrap()
}

#[test]
fn a_bus_error_of_somebody_else_ends_the_process_as_ever() {
    let bench = Bench::small();
    let mut child = bench.spawn(&["train", "data", "--output", "m", "--epochs", "1000000"]);
    bench.wait("training", || bench.temporary("m"));
    let begun = Instant::now();
    let status = loop {
        // Rust's own handler, which looks for overflown stacks, takes the first one for an instruction to be tried again.
        child.signal("-BUS");
        std::thread::sleep(Duration::from_millis(50));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it lives on");
    };
    assert_eq!(status.signal(), Some(7));
}

#[test]
fn ctrl_c_leaves_nothing_of_evaluate_recommend_and_quickstart() {
    let bench = Bench::large().trained();
    let before = bench.names();
    let cases: [(&[&str], &str); 2] = [
        (&["evaluate", "m", "data"], "items.factors"),
        (&["recommend", "m", "data", "--all", "--output", "top.csv"], "items.factors"),
    ];
    for (arguments, file) in cases {
        let mut child = bench.spawn(arguments);
        bench.wait("map", || has_mapped(&child, file));
        child.signal("-INT");
        let output = child.end();
        assert_eq!(output.status.code(), Some(130), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains("interrupted"), "{}", text(&output));
        assert_eq!(bench.names(), before, "{arguments:?} left something");
    }
    let quickstart = ["quickstart", "--folder", "quick"];
    for reached in [".clicks.csv.tmp-", "clicks.pec.partial", ".clicks.model.tmp-"] {
        let mut child = bench.spawn(&[&quickstart[..], &["--force"]].concat());
        let names = || std::fs::read_dir(bench.path("quick")).into_iter().flatten();
        bench.wait(reached, || names().any(|e| e.unwrap().file_name().to_str().unwrap().starts_with(reached)));
        child.signal("-INT");
        let output = child.end();
        assert_eq!(output.status.code(), Some(130), "{reached}: {}", text(&output));
        let left: Vec<_> = names().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert!(left.iter().all(|name| name.starts_with("clicks.") && !name.contains("partial")), "{left:?}");
    }
    bench.run(&[&quickstart[..], &["--force"]].concat());
}

#[test]
fn what_kill_9_left_of_single_files_the_next_run_removes() {
    let bench = Bench::large().trained();
    let before = bench.names();
    let synth = ["synth", "--output", "new.csv", "--users", "200", "--items", "100"];
    let cases: [(&str, Vec<&str>, Vec<&str>); 2] = [
        (
            "new.csv",
            [&synth[..3], &["--interactions", "15000000"]].concat(),
            [&synth[..], &["--interactions", "2000"]].concat(),
        ),
        (
            "top.csv",
            vec!["recommend", "m", "data", "--all", "--k", "200", "--output", "top.csv"],
            vec!["recommend", "m", "data", "--user", "0", "--output", "top.csv"],
        ),
    ];
    for (target, long, again) in cases {
        let mut child = bench.spawn(&long);
        bench.wait("file", || bench.temporary(target));
        // Another one to the same target leaves the file of the first alone.
        if target == "new.csv" {
            bench.run(&again);
            assert!(bench.temporary(target), "that of the process at work");
            std::fs::remove_file(bench.path(target)).unwrap();
        }
        child.signal("-KILL");
        assert_eq!(child.end().status.signal(), Some(9));
        assert!(bench.temporary(target) && !bench.path(target).exists());
        let output = bench.output(&again);
        assert!(output.status.success() || text(&output).contains("user"), "{}", text(&output));
        assert!(!bench.temporary(target), "{target} is still there");
        let _ = std::fs::remove_file(bench.path(target));
    }
    assert_eq!(bench.names(), before);
}

#[test]
fn a_full_disk_is_told_by_train_and_recommend_and_leaves_nothing() {
    let bench = Bench::large().trained();
    for command in [
        "train data --output small/m --epochs 1 --dim 64",
        "recommend m data --all --k 50 --output small/top.csv",
        "synth --output small/more.csv",
    ] {
        let script = format!("\"$0\" --quiet {command} 2> message; code=$?; ls -A small >> message; exit $code");
        let Some((code, message)) = bench.with_small_disk("size=1m", &script) else { return };
        assert_eq!(code, 1, "{command}: {message}");
        let [line] = message.lines().collect::<Vec<_>>()[..] else { panic!("{command} left something: {message}") };
        assert!(line.contains("small/") && line.contains("free some space"), "{message}");
        std::fs::remove_dir(bench.path("small")).unwrap();
    }
}

#[test]
fn a_plan_on_a_full_disk_says_what_is_free() {
    let bench = Bench::small();
    let script = "\"$0\" plan data --output small/m > message 2>&1; code=$?; ls -A small >> message; exit $code";
    let Some((code, message)) = bench.with_small_disk("size=64k", script) else { return };
    assert!(
        code == 0 && message.contains("not timed: ") && message.contains("KiB free: too little"),
        "{code} {message}"
    );
}

#[test]
fn a_read_only_disk_is_read_from_and_refused_to_write_to() {
    let bench = Bench::small().trained();
    let script = "cp -r data m small && mount -o remount,ro small || exit 77\n\
        \"$0\" --quiet verify small/data && \"$0\" --quiet evaluate small/m small/data > /dev/null || exit 2\n\
        \"$0\" --quiet train small/data --output other --epochs 1 || exit 3\n\
        for call in 'ingest log.csv --output small/new' 'train data --output small/new --epochs 1' \\\n\
            'recommend m data --all --output small/new.csv' 'synth --output small/new' \\\n\
            'ingest log.csv --force --output small/data'; do\n\
          \"$0\" --quiet $call 2>> message; [ $? = 1 ] || exit 4\n\
        done";
    let Some((code, message)) = bench.with_small_disk("size=20m", script) else { return };
    assert_eq!(code, 0, "{message}");
    assert_eq!(message.lines().count(), 5, "{message}");
    for line in message.lines() {
        assert!(line.contains("small") && line.contains("read-only; choose another place"), "{line}");
    }
}

#[test]
fn ingest_over_a_dataset_in_use_does_not_disturb_who_uses_it() {
    let bench = Bench::large();
    let fingerprint = |name: &str| -> String {
        let report: Value = serde_json::from_str(&bench.run(&["inspect", name, "--json"])).unwrap();
        report["fingerprint"].as_str().unwrap().to_string()
    };
    let old = fingerprint("data");
    bench.run(&["synth", "--output", "new.csv", "--users", "300", "--items", "90", "--interactions", "5000"]);
    let mut child = bench.spawn(&["train", "data", "--output", "m", "--epochs", "20"]);
    bench.wait("training", || bench.temporary("m"));
    child.signal("-STOP");
    bench.run(&["ingest", "new.csv", "--output", "data", "--force"]);
    let new = fingerprint("data");
    assert_ne!(old, new);
    child.signal("-CONT");
    let output = child.end();
    assert!(output.status.success(), "{}", text(&output));
    bench.run(&["verify", "m"]);
    let manifest: Value = serde_json::from_slice(&std::fs::read(bench.path("m/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["dataset"], old.as_str(), "it was trained on what it had opened");
    let refused = bench.output(&["evaluate", "m", "data"]);
    assert!(!refused.status.success() && text(&refused).contains("data"), "{}", text(&refused));
}

#[test]
fn of_two_ingests_and_two_trainings_into_one_place_none_is_mixed() {
    let bench = Bench::large();
    let train = |seed| bench.spawn(&["train", "data", "--output", "m", "--epochs", "3", "--seed", seed]);
    let (one, two) = (train("1"), train("2"));
    let outputs = [one.end(), two.end()];
    let done = outputs.iter().filter(|output| output.status.success()).count();
    assert!(done >= 1, "{}{}", text(&outputs[0]), text(&outputs[1]));
    for output in outputs.iter().filter(|output| !output.status.success()) {
        assert_eq!(output.status.code(), Some(1));
        assert!(["m: ", "m.partial: "].iter().any(|place| text(output).contains(place)), "{}", text(output));
    }
    bench.run(&["verify", "m"]);
    assert!(!bench.temporary("m"));

    let ingest = || bench.spawn(&["ingest", "log.csv", "--output", "both"]);
    let (one, two) = (ingest(), ingest());
    let outputs = [one.end(), two.end()];
    assert!(outputs.iter().any(|output| output.status.success()), "{}{}", text(&outputs[0]), text(&outputs[1]));
    for output in outputs.iter().filter(|output| !output.status.success()) {
        let message = text(output);
        assert!(message.contains("another ingest to this output") || message.contains("exists already"), "{message}");
    }
    bench.run(&["verify", "both"]);
    assert!(!bench.path("both.partial").exists() && !bench.temporary("both"));
}
