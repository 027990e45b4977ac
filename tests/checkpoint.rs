//! `train --resume`: real processes interrupted at many moments, gone on with, and compared with ones that ran through.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::trained::Running;
use serde_json::Value;

struct Bench {
    folder: tempfile::TempDir,
    /// Of the moments at which processes are killed.
    state: u64,
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

impl Bench {
    /// A folder with a planted dataset of 60,000 interactions.
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap(), state: 7 };
        let size = ["--users", "3000", "--items", "1200", "--interactions", "60000"];
        bench.run(&[&["synth", "--quiet", "--output", "log.csv"], &size[..]].concat());
        let split = ["--split", "time:0.1", "--valid-split", "time:0.1"];
        bench.run(&[&["ingest", "--quiet", "log.csv", "--output", "log.pec"], &split[..]].concat());
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peccary"));
        command.current_dir(self.folder.path()).args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Must succeed.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        text(&output)
    }

    /// What `--json` prints of a run that must succeed.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).arg("--json").output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Must fail with this code, and a message that holds all of `words`.
    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str], words: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        for word in words {
            assert!(text(&output).contains(word), "'{word}' is not in: {}", text(&output));
        }
        text(&output)
    }

    /// A moment between `least` and `most` milliseconds.
    fn moment(&mut self, least: u64, most: u64) -> Duration {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(least + (self.state >> 33) % (most - least))
    }

    fn has_checkpoint(&self) -> bool {
        ["a", "b"].iter().any(|slot| self.path("out.partial").join(slot).join("manifest.json").exists())
    }

    /// Trains to `out` with `signal`s at random moments, going on each time with other threads, until it is through. What
    /// it ends with, and how often it was gone on with.
    fn interrupted(&mut self, arguments: &[&str], signal: &str) -> (Output, u32) {
        let mut resumed = 0;
        loop {
            let threads = ["1", "2", "3"][resumed as usize % 3];
            let mut call = vec!["train", "--resume", "out", "--threads", threads];
            if !self.has_checkpoint() {
                call = [&["train", "log.pec", "--output", "out"], arguments].concat();
            } else {
                resumed += 1;
            }
            let mut command = self.command(&[&call[..], &["--json"]].concat());
            // Files: nobody reads a pipe before the end, and a report is larger than one holds.
            let [out, err] = ["stdout", "stderr"].map(|name| self.path(name));
            let create = |path: &Path| std::fs::File::create(path).unwrap();
            let mut child = Running::from(command.stdout(create(&out)).stderr(create(&err)).spawn().unwrap());
            // Not for ever: on a machine that is busy it might never come to the end.
            let (least, most) = if resumed < 12 { (40, 900) } else { (200_000, 200_001) };
            let until = Instant::now() + self.moment(least, most);
            while Instant::now() < until && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(4));
            }
            child.signal(signal);
            let status = child.wait().unwrap();
            let output = Output { status, stdout: std::fs::read(out).unwrap(), stderr: std::fs::read(err).unwrap() };
            if output.status.success() {
                return (output, resumed);
            }
            match signal {
                // It was killed right behind the publishing, and what it would have reported is lost.
                _ if text(&output).contains("this training is over") => {}
                "-KILL" => assert_eq!(output.status.code(), None, "{}", text(&output)),
                _ => assert_eq!(output.status.code(), Some(130), "{}", text(&output)),
            }
        }
    }

    fn factors(&self, model: &str) -> [Vec<u8>; 2] {
        ["users.factors", "items.factors"].map(|name| {
            let found = [self.path(model).join(name), self.path(model).join("v000001").join(name)];
            found.iter().find_map(|path| std::fs::read(path).ok()).expect("a published table")
        })
    }
}

/// Loss, triples, skipped positives and negatives of each epoch: what must be the same of two reports.
fn learnt(report: &Value) -> Vec<Value> {
    let of = |epoch: &Value| {
        let mut epoch = epoch.clone();
        let fields = epoch.as_object_mut().unwrap();
        fields.remove("seconds");
        fields.remove("triples_per_second");
        epoch
    };
    report["epochs"].as_array().unwrap().iter().map(of).collect()
}

/// Interrupted at many moments, a deterministic run gives the same bits.
#[track_caller]
fn the_same_bits(arguments: &[&str], signal: &str) {
    let mut bench = Bench::new();
    let arguments = [arguments, &["--deterministic", "--dimensions", "24", "--negatives", "6"]].concat();
    let reference = bench.json(&[&["train", "log.pec", "--output", "reference"], &arguments[..]].concat());
    let (output, resumed) = bench.interrupted(&arguments, signal);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(learnt(&report), learnt(&reference), "{arguments:?}");
    assert!(bench.factors("out") == bench.factors("reference"), "{arguments:?}: after {resumed} interruptions");
    assert!(!bench.path("out.partial").exists(), "nothing is left beside the model");
    if let Some(validation) = reference.get("validation") {
        assert_eq!(report["validation"]["best_epoch"], validation["best_epoch"]);
        assert_eq!(report["validation"]["best_value"], validation["best_value"]);
    }
    assert!(resumed > 0, "{arguments:?}: it was through before the first interruption");
    // One that is killed before it has kept anything leaves no trace of having gone on.
    let told = report["checkpoints"]["resumed"].as_u64().unwrap();
    assert!(told > 0 && told <= u64::from(resumed), "{told} of {resumed}");
}

#[test]
fn kill_9_at_any_moment_leaves_a_checkpoint_from_which_adam_comes_to_the_same_bits() {
    the_same_bits(&["--epochs", "400", "--optimizer", "adam", "--checkpoint-every", "60ms"], "-KILL");
}

#[test]
fn sigterm_keeps_listwise_training_with_dropout_where_it_stands() {
    let loss = ["--loss", "bsl", "--user-dropout", "0.1", "--epochs", "40", "--window", "9000"];
    the_same_bits(&[&loss[..], &["--checkpoint-every", "300000-triples"]].concat(), "-TERM");
}

#[test]
fn ctrl_c_keeps_validation_plateaus_and_the_best_epoch() {
    let validated = ["--metric", "ndcg@20", "--schedule", "plateau", "--lr-patience", "2", "--validate-users", "500"];
    let more = ["--epochs", "25", "--optimizer", "adagrad", "--checkpoint-every", "epoch", "--lr", "0.2"];
    the_same_bits(&[&validated[..], &more].concat(), "-INT");
}

#[test]
fn tables_in_files_and_bfloat16_are_kept_as_well() {
    let bench = Bench::new();
    let base = ["train", "log.pec", "--output", "x", "--deterministic", "--precision", "bf16", "--dimensions", "24"];
    let refused = bench.fails(1, &[&base[..], &["--negatives", "6", "--memory", "1MiB"]].concat(), &["at least"]);
    let bytes: u64 = refused.split('(').nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let budget = bytes.to_string();
    let flags = ["--precision", "bf16", "--epochs", "12", "--checkpoint-every", "50ms", "--memory", &budget];
    drop(bench);
    the_same_bits_within(&flags, &budget);
}

/// As [`the_same_bits`], in a budget in which tables are in files, killed once.
fn the_same_bits_within(arguments: &[&str], budget: &str) {
    let bench = Bench::new();
    let arguments = [arguments, &["--deterministic", "--dimensions", "24", "--negatives", "6"]].concat();
    let reference = bench.json(&[&["train", "log.pec", "--output", "reference"], &arguments[..]].concat());
    assert_ne!(reference["plan"]["tables"], "memory");
    assert_eq!(reference["plan"]["checkpoint"]["copy"], 0);
    let mut child = Running::from(
        bench.command(&[&["train", "log.pec", "--output", "out"], &arguments[..]].concat()).spawn().unwrap(),
    );
    let began = Instant::now();
    while !bench.has_checkpoint() && child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(120), "there never was a checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.signal("-KILL");
    assert!(!child.wait().unwrap().success(), "it was through before it was killed");
    bench.run(&["train", "--resume", "out", "--memory", budget]);
    assert!(bench.factors("out") == bench.factors("reference"));
}

#[test]
fn what_was_interrupted_is_neither_lost_nor_mixed() {
    let bench = Bench::new();
    let call = |more: &[&'static str]| [&["train", "log.pec", "--output", "out", "--epochs", "100000"], more].concat();
    bench.fails(1, &["train", "--resume", "out"], &["out.partial", "nothing to resume", "--output"]);
    let mut child =
        Running::from(bench.command(&call(&["--checkpoint-every", "30ms", "--seed", "4"])).spawn().unwrap());
    let began = Instant::now();
    while !bench.has_checkpoint() {
        assert!(began.elapsed() < Duration::from_secs(60), "there never was a checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    // While one works there, another does not.
    for other in [&["train", "--resume", "out"][..], &call(&[]), &call(&["--restart"])] {
        bench.fails(1, other, &["a training or an update of this model is running"]);
    }
    child.signal("-INT");
    let output = child.end();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    for word in ["interrupted", "of 100000 epochs", "out.partial", "peccary train --resume out", "remove that folder"] {
        assert!(text(&output).contains(word), "'{word}' is not in: {}", text(&output));
    }
    for other in [&call(&[])[..], &call(&["--force"]), &call(&["--checkpoint-every", "off"])] {
        bench.fails(1, other, &["out.partial", "--resume out", "--restart"]);
    }
    // What contradicts it is named; what is the same is not.
    let resume = |more: &[&'static str]| [&["train", "--resume", "out"], more].concat();
    let different = ["--seed", "5", "--dim", "32", "--metric", "ndcg@5", "--epochs", "100000"];
    let said =
        bench.fails(1, &resume(&different), &["seed was 4 and is 5", "dimensions was 64 and is 32", "validation"]);
    assert!(!said.contains("epochs was"), "{said}");
    for (flag, word) in [("--force", "--force"), ("--restart", "--restart"), ("--list-losses", "--list-losses")] {
        bench.fails(2, &resume(&[flag]), &["--resume", word]);
    }
    bench.fails(2, &resume(&["--audit", "a.parquet"]), &["--resume", "--audit"]);
    bench.fails(2, &resume(&["--output", "other"]), &["--resume", "--output"]);
    bench.run(&["ingest", "--quiet", "log.csv", "--output", "other.pec"]);
    bench.fails(1, &["train", "other.pec", "--resume", "out"], &["other.pec", "is not what it was", "--restart"]);
    bench.fails(1, &resume(&["--memory", "1MiB"]), &["needs at least"]);
    // A checkpoint that is damaged is passed over for the one before; without any there is a remedy.
    let manifests: Vec<_> =
        ["a", "b"].iter().map(|slot| bench.path("out.partial").join(slot).join("manifest.json")).collect();
    let flip = |path: &Path, at: f64| {
        let mut bytes = std::fs::read(path).unwrap();
        let at = (bytes.len() as f64 * at) as usize;
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    assert!(manifests.iter().all(|path| path.exists()), "two checkpoints");
    let moved = bench.path("moved.pec");
    std::fs::rename(bench.path("log.pec"), &moved).unwrap();
    flip(&manifests[0], 0.5);
    for signal in ["-INT", "-TERM"] {
        let mut child = Running::from(bench.command(&["train", "moved.pec", "--resume", "out"]).spawn().unwrap());
        std::thread::sleep(Duration::from_millis(900));
        child.signal(signal);
        // The second signal may come while the checkpoint is written: one of before is there.
        child.signal(signal);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(bench.has_checkpoint());
    }
    for slot in ["a", "b"] {
        let tables = bench.path("out.partial").join(slot).join("tables");
        // One that was being written when the second signal came may be empty.
        if tables.metadata().is_ok_and(|tables| tables.len() > 0) {
            flip(&tables, 0.3);
        }
    }
    bench.fails(1, &["train", "--resume", "out"], &["no checkpoint in out.partial is whole", "tables", "--restart"]);
    bench.run(&["train", "moved.pec", "--output", "out", "--epochs", "1", "--restart"]);
    assert!(!bench.path("out.partial").exists());
    std::fs::create_dir(bench.path("out2.partial")).unwrap();
    std::fs::write(bench.path("out2.partial/thesis.tex"), "x").unwrap();
    bench.fails(1, &["train", "moved.pec", "--output", "out2", "--restart"], &["out2.partial", "something else"]);
    bench.fails(2, &call(&["--checkpoint-every", "10"]), &["10m", "epoch", "off"]);
    bench.fails(
        1,
        &["train", "moved.pec", "--output", "z", "--rollback-factor", "2"],
        &["divergence.factor", "below 1"],
    );
}

#[test]
fn a_run_of_racing_threads_that_is_interrupted_learns_as_well() {
    let mut bench = Bench::new();
    let flags = ["--epochs", "300", "--threads", "2", "--window", "12000", "--checkpoint-every", "80ms"];
    let recall = |bench: &Bench, model: &str| {
        let report = bench.json(&["evaluate", model, "log.pec"]);
        report["metrics"]["recall@20"].as_f64().unwrap_or_else(|| panic!("{report}"))
    };
    bench.run(&[&["train", "log.pec", "--output", "reference"], &flags[..]].concat());
    let (_, resumed) = bench.interrupted(&flags, "-KILL");
    let (through, interrupted) = (recall(&bench, "reference"), recall(&bench, "out"));
    assert!(
        resumed > 0 && (interrupted / through - 1.0).abs() < 0.1,
        "{interrupted} against {through}, {resumed} times"
    );
    bench.run(&["train", "log.pec", "--output", "out", "--force", "--epochs", "2", "--quiet"]);
    let (_, resumed) = bench.interrupted(&[&flags[..], &["--force"]].concat(), "-TERM");
    let interrupted = recall(&bench, "out");
    assert!(
        resumed > 0 && (interrupted / through - 1.0).abs() < 0.1,
        "{interrupted} against {through}, {resumed} times"
    );
}

#[test]
fn a_run_that_diverges_goes_back_and_on_with_a_lower_rate() {
    let bench = Bench::new();
    let wild = ["--l2", "0", "--schedule", "constant", "--epochs", "8", "--rollback-factor", "1e-3"];
    let train = |output: &'static str| [&["train", "log.pec", "--output", output], &wild[..]].concat();
    // From the start, before there is a checkpoint.
    let report = bench.json(&[&train("first")[..], &["--lr", "1e5"]].concat());
    let rollbacks = report["rollbacks"].as_array().unwrap();
    assert!(!rollbacks.is_empty() && rollbacks.len() <= 3, "{rollbacks:?}");
    assert!(rollbacks[0].get("checkpoint").is_none() && rollbacks[0]["factor"] == 1e-3, "{rollbacks:?}");
    assert!(rollbacks[0]["reason"].as_str().unwrap().contains("row of"), "{rollbacks:?}");
    // From a checkpoint: with a warm-up the rate is low enough at first.
    let warm = ["--warm-up", "7", "--lr", "1", "--checkpoint-every", "epoch"];
    let output = bench.command(&[&train("second")[..], &warm].concat()).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for word in
        ["diverged in epoch", "back to the last good checkpoint", "0.001 times the learning rate", "rollback 1 of 3"]
    {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
    bench.run(&["verify", "second"]);
    // The same bits each time where that is asked for.
    let fixed = [&warm[..], &["--deterministic"]].concat();
    let report = bench.json(&[&train("third")[..], &fixed].concat());
    assert!(report["rollbacks"][0].get("checkpoint").is_none(), "deterministic runs go back to their start");
    bench.json(&[&train("fourth")[..], &fixed].concat());
    assert!(bench.factors("third") == bench.factors("fourth"));
    // At most so often, or not at all.
    let said = bench.fails(
        1,
        &[&train("fifth")[..], &["--lr", "1e5", "--rollbacks", "0"]].concat(),
        &["diverged", "--learning-rate"],
    );
    assert!(!said.contains("rollback 1"), "{said}");
    bench.fails(2, &[&train("fifth")[..], &["--no-rollback"]].concat(), &["--rollback-factor"]);
    let once = ["--rollbacks", "1", "--rollback-factor", "0.9"];
    let wild = ["train", "log.pec", "--output", "sixth", "--lr", "1e9", "--l2", "0"];
    bench.fails(1, &[&wild[..], &once].concat(), &["rollback 1 of 1", "diverged in epoch"]);
    assert!(!bench.path("sixth").exists() && !bench.path("sixth.partial").exists());
}

/// Copies a folder of files and folders of files.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let (path, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(std::fs::copy(path, to.join(name)).unwrap()),
        }
    }
}

#[test]
fn checkpoints_of_a_model_that_is_published_are_in_nobodys_way() {
    let bench = Bench::new();
    let train = ["train", "log.pec", "--output", "out", "--epochs", "40", "--checkpoint-every", "epoch", "--quiet"];
    let mut child = Running::from(bench.command(&train).spawn().unwrap());
    // What there is at some moment is what a process leaves that is killed between publishing and tidying up.
    loop {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its first checkpoint");
        child.signal("-STOP");
        if bench.has_checkpoint() {
            break;
        }
        child.signal("-CONT");
        std::thread::sleep(Duration::from_millis(2));
    }
    copy(&bench.path("out.partial"), &bench.path("copy"));
    // Nobody removes it before it is published, and two are not at it at once.
    bench.fails(1, &["train", "log.pec", "--output", "out"], &["a training or an update"]);
    child.signal("-CONT");
    assert!(child.wait().unwrap().success());
    assert!(!bench.path("out.partial").exists());
    let put_back = || copy(&bench.path("copy"), &bench.path("out.partial"));

    put_back();
    let said = bench.fails(1, &["train", "--resume", "out"], &["this training is over", "version 1 of the model"]);
    assert!(!said.contains("rollback") && !bench.path("out.partial").exists(), "{said}");
    bench.fails(1, &["train", "--resume", "out"], &["nothing to resume"]);

    put_back();
    bench.fails(1, &["update", "out", "log.pec"], &["nothing has been appended"]);
    assert!(!bench.path("out.partial").exists());

    put_back();
    let said = bench.run(&["train", "log.pec", "--output", "out", "--epochs", "1"]);
    assert!(said.contains("version 1 of the model"), "{said}");
    assert!(!bench.path("out.partial").exists());

    // Version 2 is the current one now.
    put_back();
    bench.fails(1, &["train", "--resume", "out"], &["peccary rollback out --to 1"]);

    // One that the model knows nothing of stays.
    put_back();
    bench.run(&["prune", "out", "--keep", "1"]);
    bench.fails(1, &["train", "log.pec", "--output", "out"], &["--restart"]);
    bench.fails(1, &["update", "out", "log.pec"], &["--restart"]);
    assert!(bench.has_checkpoint());
}

#[test]
fn what_an_update_that_is_killed_leaves_goes_with_the_next() {
    let bench = Bench::new();
    bench.run(&["train", "log.pec", "--output", "out", "--epochs", "1", "--quiet"]);
    let size = ["--users", "3000", "--items", "1200", "--interactions", "60000", "--seed", "3"];
    bench.run(&[&["synth", "--quiet", "--output", "more.csv"], &size[..]].concat());
    bench.run(&["ingest", "--quiet", "--append", "log.pec", "more.csv"]);
    let update = ["update", "out", "log.pec", "--epochs", "100000", "--patience", "100000", "--quiet"];
    let log = bench.path("out.partial").join("run.ndjson");
    for next in ["update", "train"] {
        let mut child = Running::from(bench.command(&update).spawn().unwrap());
        while !std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            assert!(child.try_wait().unwrap().is_none(), "it ended before its log was there");
            std::thread::sleep(Duration::from_millis(2));
        }
        // While it runs it is left alone.
        for other in [&["train", "log.pec", "--output", "out"][..], &["train", "--resume", "out"], &update] {
            bench.fails(1, other, &["out.partial", "a training or an update"]);
            assert!(log.is_file());
        }
        child.signal("-KILL");
        child.wait().unwrap();
        assert!(log.is_file());
        match next {
            "update" => bench.run(&["update", "out", "log.pec", "--epochs", "1", "--quiet", "--replay", "0"]),
            _ => bench.run(&["train", "log.pec", "--output", "out", "--epochs", "1", "--quiet"]),
        };
        assert!(!bench.path("out.partial").exists(), "{next}");
        bench.run(&["rollback", "out", "--to", "1"]);
    }
    let tables = bench.path("out");
    let left = tables.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.starts_with(".tmp")));
}
