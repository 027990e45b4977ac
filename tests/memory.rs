//! `--memory` as a promise: ingest, evaluation and recommendation under a hard limit, on more than fits.

use std::fs;
use std::path::Path;

use crate::limited::{Run, limited};
use assert_cmd::Command;

const MIB: u64 = 1 << 20;

/// The binary with these arguments, without a limit.
fn peccary(args: &[&str]) {
    Command::cargo_bin("peccary").unwrap().args(args).arg("--quiet").assert().success();
}

/// Writes what the system holds of the files in `folder` to the disk and drops it, so that they have to be read under
/// the limit. Returns their bytes.
fn drop_cached(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            if entry.file_type().unwrap().is_dir() {
                return drop_cached(&entry.path());
            }
            let file = fs::File::open(entry.path()).unwrap();
            file.sync_all().unwrap();
            #[cfg(target_os = "linux")]
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            entry.metadata().unwrap().len()
        })
        .sum()
}

/// Bytes of factors and interactions in `folders` that the system holds in its page cache; `None` where `fincore` is
/// not to be had.
fn cached(folders: &[&str]) -> Option<u64> {
    let mut files = Vec::new();
    let mut open: Vec<_> = folders.iter().map(std::path::PathBuf::from).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|ext| ext == "factors" || ext == "shard" || ext == "positives") {
            files.push(path);
        }
    }
    assert!(files.len() >= 4, "two tables, and a shard and its positives: {files:?}");
    let output = std::process::Command::new("fincore").args(["-b", "-n", "-o", "RES"]).args(files).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.lines().map(|line| line.trim().parse::<u64>().unwrap()).sum())
}

/// A model of a wide catalogue and its dataset.
struct Wide {
    folder: tempfile::TempDir,
    model: String,
    dataset: String,
    bytes: u64,
}

impl Wide {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        let (log, dataset, model) = (path("log.csv"), path("log.pec"), path("log.model"));
        let size = ["--users", "2000", "--items", "600000", "--interactions", "1100000"];
        peccary(&[&["synth", "--output", &log][..], &size].concat());
        peccary(&["ingest", &log, "--output", &dataset, "--split", "random:0.02"]);
        peccary(&["train", &dataset, "--output", &model, "--dim", "64", "--epochs", "1"]);
        let bytes = drop_cached(Path::new(&dataset)) + drop_cached(Path::new(&model));
        Self { folder, model, dataset, bytes }
    }

    fn run(&self, limit: u64, command: &str, memory: &str, args: &[&str]) -> Run {
        let against = (command == "compare").then_some("popularity");
        let mut all = vec![command, &self.model];
        all.extend(against);
        all.extend([&self.dataset, "--threads", "2", "--quiet", "--memory", memory]);
        drop_cached(Path::new(&self.dataset));
        drop_cached(Path::new(&self.model));
        limited(limit, &[&all[..], args].concat()).run()
    }
}

#[test]
fn evaluation_and_recommendation_stay_within_a_quarter_of_what_they_read() {
    if cfg!(not(target_os = "linux")) {
        println!("skipped: no way to limit a process's memory here");
        return;
    }
    let wide = Wide::new();
    let budget = 24 * MIB;
    assert!(wide.bytes >= 4 * budget, "model and dataset are {} MiB", wide.bytes / MIB);
    let within = |what: &str, run: &Run| {
        assert!(run.output.status.success(), "{what}: {}", run.describe());
        assert!(run.peak_anonymous < budget, "{what}: {}", run.describe());
    };

    // K is so large that all rankings together are more than the budget.
    let arguments = ["--k", "20,800", "--baselines", "popularity", "--json"];
    let evaluated = wide.run(budget, "evaluate", "24MiB", &arguments);
    within("evaluate", &evaluated);
    // All baselines, nearest items among them, which is the default.
    let by_sampling = ["--protocol", "sampled:99", "--k", "10", "--json"];
    let sampled = wide.run(budget, "evaluate", "24MiB", &by_sampling);
    within("evaluate --protocol sampled:99", &sampled);
    // The same by full ranking, of a few users: ranking all by nearest items takes long.
    let beside = wide.run(budget, "evaluate", "24MiB", &["--k", "20", "--users", "200", "--json"]);
    within("evaluate with all baselines", &beside);
    let compared = wide.run(budget, "compare", "24MiB", &["--k", "20", "--json"]);
    within("compare", &compared);
    // The same with a budget that the machine would not give: it is the budget that keeps it within.
    let bitten = wide.run(budget, "evaluate", "4GiB", &arguments);
    assert!(!bitten.output.status.success(), "the limit holds nobody: {}", bitten.describe());
    let unlimited = wide.run(1 << 40, "evaluate", "4GiB", &arguments);
    let but_nearest = [&by_sampling[..], &["--baselines", "popularity,recent,random"]].concat();
    let sampled_unlimited = wide.run(1 << 40, "evaluate", "4GiB", &but_nearest);
    let json =
        |run: &Run| -> serde_json::Value { serde_json::from_slice(&run.output.stdout).expect("one JSON object") };
    for run in [&sampled, &beside] {
        let baselines = json(run)["baselines"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(baselines, ["popularity", "recent", "item_knn", "random"], "{}", json(run)["notes"]);
    }
    let metrics = |run: &Run| {
        let mut json = json(run);
        json.as_object_mut().unwrap().remove("seconds");
        json.as_object_mut().unwrap().remove("notes");
        // The one that a small budget may change.
        json["baselines"].as_object_mut().unwrap().remove("item_knn");
        json
    };
    assert_eq!(metrics(&evaluated), metrics(&unlimited), "the budget changes no bit of the result");
    assert_eq!(metrics(&sampled), metrics(&sampled_unlimited), "nor of the sampled protocol's");

    for name in ["top.ndjson", "top.csv", "top.parquet"] {
        let output = wide.folder.path().join(name);
        let run = wide.run(budget, "recommend", "24MiB", &["--all", "--k", "20", "--output", output.to_str().unwrap()]);
        within(name, &run);
        assert!(fs::metadata(&output).unwrap().len() > 100_000);
    }
}

#[test]
fn what_is_read_leaves_the_page_cache_and_is_read_no_more_often_than_need_be() {
    if cfg!(not(target_os = "linux")) {
        println!("skipped: no way to look into the page cache here");
        return;
    }
    let wide = Wide::new();
    let output = wide.folder.path().join("top.csv");
    let recommend = ["--users", "500", "--output", output.to_str().unwrap(), "--force"];
    let cases: [(&str, &[&str]); 3] = [
        ("evaluate", &["--k", "20", "--baselines", "none"]),
        ("evaluate", &["--protocol", "sampled:99", "--k", "10", "--baselines", "none"]),
        ("recommend", &recommend),
    ];
    for (command, args) in cases {
        let run = wide.run(1 << 40, command, "24MiB", args);
        assert!(run.output.status.success(), "{command} {args:?}: {}", run.describe());
        // All is read once to check it, and then for each wave, of which there are few.
        println!("{command} {args:?}: {} MiB of {} read", run.read / MIB, wide.bytes / MIB);
        assert!(run.read < 8 * wide.bytes, "{command} {args:?}: {}", run.describe());
        let Some(left) = cached(&[&wide.model, &wide.dataset]) else {
            println!("skipped: no fincore to look into the page cache with");
            return;
        };
        println!("{} MiB left in the page cache", left / MIB);
        assert!(left < 24 * MIB, "{command} {args:?}: {} MiB are left in the page cache", left / MIB);
        // Where all fits the budget, it stays.
        let run = wide.run(1 << 40, command, "4GiB", args);
        assert!(run.output.status.success(), "{command} {args:?}: {}", run.describe());
        assert!(cached(&[&wide.model, &wide.dataset]).is_some_and(|left| left > wide.bytes / 2));
    }
}

#[test]
fn a_budget_that_is_too_small_is_refused_with_the_least_that_will_do() {
    let wide = Wide::new();
    let output = wide.folder.path().join("top.parquet");
    let dataset = peccary::Dataset::open(&wide.dataset).unwrap();
    let user = (0..dataset.users().len()).find(|user| !dataset.train().user(*user).items.is_empty()).unwrap();
    let (user, item) = (dataset.users().id(user).unwrap(), dataset.items().id(0).unwrap());
    let to_parquet = ["--user", user, "--force", "--output", output.to_str().unwrap()];
    let similar = ["--item", item, "--k", "1000000"];
    let cases: [(&str, &[&str]); 4] = [
        ("evaluate", &["--k", "200000", "--users", "1"]),
        ("evaluate", &["--protocol", "sampled:99", "--k", "10", "--users", "20"]),
        ("recommend", &to_parquet),
        ("similar", &similar),
    ];
    for (command, args) in cases {
        let run = |memory: &str| {
            let mut binary = Command::cargo_bin("peccary").unwrap();
            binary.args([command, &wide.model]).args((command != "similar").then_some(&wide.dataset));
            binary.args(args).args(["--threads", "2", "--quiet", "--memory", memory]).output().unwrap()
        };
        let refused = run("2MiB");
        let text = String::from_utf8(refused.stderr).unwrap();
        let least = text.split("needs --memory ").nth(1).and_then(|rest| rest.split('B').next()).unwrap_or_default();
        let least: u64 = least.parse().unwrap_or_else(|_| panic!("{command} {args:?}: {text}"));
        assert_eq!(refused.status.code(), Some(1), "{command} {args:?}: {text}");
        assert!(!run(&(least - 1).to_string()).status.success(), "{command} {args:?}: one byte less than {least}");
        let enough = run(&least.to_string());
        assert!(enough.status.success(), "{command} {args:?}: {}", String::from_utf8_lossy(&enough.stderr));
    }
}

#[test]
fn ingest_stays_within_a_quarter_of_the_log() {
    if cfg!(not(target_os = "linux")) {
        println!("skipped: no way to limit a process's memory here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (log, dataset, never) = (path("log.csv"), path("log.pec"), path("never.pec"));
    peccary(&["synth", "--output", &log, "--users", "300000", "--items", "50000", "--interactions", "11000000"]);
    let budget = 64 * MIB;
    drop_cached(folder.path());
    assert!(fs::metadata(&log).unwrap().len() >= 4 * budget);
    let ingest = |output: &str, memory: &str| {
        limited(budget, &["ingest", &log, "--output", output, "--threads", "2", "--quiet", "--memory", memory]).run()
    };
    let run = ingest(&dataset, "64MiB");
    assert!(run.output.status.success(), "{}", run.describe());
    assert!(run.peak_anonymous < budget, "{}", run.describe());
    let bitten = ingest(&never, "4GiB");
    assert!(!bitten.output.status.success(), "the limit holds nobody: {}", bitten.describe());
    assert!(!fs::exists(&never).unwrap(), "nothing appears of a run that was refused memory");

    // What is appended to it is held out within the same.
    let (more, model, held) = (path("more.csv"), path("log.model"), path("held.pec"));
    peccary(&["train", &dataset, "--output", &model, "--dim", "1", "--epochs", "1"]);
    let size = ["--users", "300000", "--items", "50000", "--interactions", "1000000", "--seed", "5"];
    peccary(&[&["synth", "--output", &more][..], &size].concat());
    peccary(&["ingest", "--append", &dataset, &more]);
    // With a good many of whom only a list is left.
    let ids: String = {
        let data = peccary::Dataset::open(&dataset).unwrap();
        (0..100_000).filter_map(|user| data.users().id(user).map(|id| format!("{id}\n"))).collect()
    };
    fs::write(path("gone.txt"), ids).unwrap();
    peccary(&["forget", &dataset, "--users", &path("gone.txt")]);
    let budget = 33 * MIB;
    assert!(drop_cached(Path::new(&dataset)) >= 3 * budget);
    let hold_out = |output: &str, memory: &str| {
        let args = ["hold-out", &dataset, "--since", &model, "--output", output, "--quiet", "--memory", memory];
        limited(budget, &args).run()
    };
    let run = hold_out(&held, "33MiB");
    assert!(run.output.status.success(), "{}", run.describe());
    assert!(run.peak_anonymous < budget, "{}", run.describe());
    let refused = hold_out(&never, "32MiB");
    let text = String::from_utf8_lossy(&refused.output.stderr).into_owned();
    assert!(text.contains("--memory 32MiB is too small for holding out what was appended"), "{text}");
    assert!(!fs::exists(&never).unwrap());
}
