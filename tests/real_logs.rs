//! Real logs, where they are at hand: in `../shared/data`, or where `PECCARY_DATA` says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use peccary::{Dataset, Interactions, Model, Part};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The path of a log, or `None` and a visible line where it is absent.
fn log(name: &str) -> Option<String> {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");
    let path = PathBuf::from(std::env::var("PECCARY_DATA").unwrap_or(shared.to_string())).join(name);
    if path.exists() {
        return Some(path.to_str().unwrap().to_string());
    }
    skipped(&format!("{} is absent", path.display()));
    None
}

/// Says why a test does nothing, past the harness, which keeps what a passing test prints to itself.
fn skipped(why: &str) {
    std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {why}\n").as_bytes()).unwrap();
}

/// A Python that has `tests/oracle/requirements.txt`, in an environment of its own that later runs find again; `None`
/// and a visible line where it is not to be had.
fn python() -> Option<PathBuf> {
    let requirements = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/requirements.txt");
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oracle");
    let python = environment.join("bin/python");
    let works = |program: &Path, arguments: &[&str]| match Command::new(program).args(arguments).output() {
        Err(error) => Err(format!("{}: {error}", program.display())),
        Ok(output) if !output.status.success() => {
            Err(format!("{} {arguments:?}: {}", program.display(), String::from_utf8_lossy(&output.stderr)))
        }
        Ok(_) => Ok(()),
    };
    let there = || works(&python, &["-c", "import pytrec_eval"]);
    let made = there().or_else(|_| {
        works(Path::new("python3"), &["-m", "venv", environment.to_str().unwrap()])?;
        // Without what these packages list and do not import here.
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", requirements];
        works(&python, &pip)?;
        there()
    });
    made.map_err(|why| skipped(&format!("no trec_eval from PyPI: {why}"))).ok().map(|()| python)
}

/// Runs a command that must succeed, and returns its JSON.
fn run(folder: &TempDir, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peccary"));
    let output = command.current_dir(folder.path()).args(arguments).args(["--json", "--quiet"]).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn check_ins_go_the_whole_way_with_their_own_ids() {
    let Some(log) = log("gowalla-checkins/checkins.csv.gz") else { return };
    let folder = tempfile::tempdir().unwrap();
    let summary = run(&folder, &["ingest", &log, "--split", "time:0.1", "--output", "d"]);
    assert!(summary["merged"].as_u64().unwrap() > 0, "some check-ins are repeated: {summary}");
    run(&folder, &["verify", "d"]);
    run(&folder, &["train", "d", "--output", "m", "--epochs", "10"]);
    let report = run(&folder, &["evaluate", "m", "d"]);
    for metric in ["recall@20", "ndcg@20"] {
        let of = |metrics: &Value| metrics[metric].as_f64().unwrap();
        let (model, popularity) = (of(&report["metrics"]), of(&report["baselines"]["popularity"]));
        assert!(model > 1.5 * popularity, "{metric}: {model}, popularity {popularity}");
    }
    let report = run(&folder, &["recommend", "m", "d", "--user", "u999"]);
    let items = report["by_user"][0]["items"].as_array().unwrap();
    assert_eq!((&report["by_user"][0]["user"], items.len()), (&"u999".into(), 10));
    assert!(items.iter().all(|item| item["item"].as_str().unwrap().starts_with("spot-")), "{report}");
    run(&folder, &["similar", "m", "--item", items[0]["item"].as_str().unwrap()]);
    // The page's numbers are those of evaluate, to the last bit.
    let page = run(&folder, &["report", "m", "d", "--output", "report.html"]);
    let evaluated = run(&folder, &["evaluate", "m", "d", "--slices", "activity,popularity,time:4"]);
    for key in ["metrics", "intervals", "baselines", "slices", "users", "interactions"] {
        assert_eq!(page["evaluations"][0][key], evaluated[key], "{key}");
    }
    let text = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    let (_, rest) = text.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let data: Value = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
    assert_eq!(data["models"][0]["evaluation"]["metrics"], evaluated["metrics"]);
    assert!(text.len() < 2 << 20, "{} bytes", text.len());
}

#[test]
fn gowalla_is_the_one_that_papers_count_and_its_recipes_keep_their_promise() {
    let (Some(train), Some(test)) = (log("gowalla-lightgcn/train.tsv.gz"), log("gowalla-lightgcn/test.tsv.gz")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let summary = run(&folder, &["ingest", &train, "--test", &test, "--output", "d"]);
    assert_eq!((&summary["users"], &summary["items"]), (&29_858.into(), &40_981.into()));
    let interactions = |part: usize| summary["parts"][part][1]["interactions"].as_u64().unwrap();
    assert_eq!((interactions(0), interactions(1)), (810_128, 217_242));
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recipes/gowalla-bpr.toml");
    run(&folder, &["train", "d", "--output", "m", "--config", recipe]);
    let report = run(&folder, &["evaluate", "m", "d", "--k", "20", "--baselines", "none"]);
    let of = |report: &Value, metric: &str| report["metrics"][metric].as_f64().unwrap();
    assert!(of(&report, "recall@20") >= 0.155 && of(&report, "ndcg@20") >= 0.130, "{}", report["metrics"]);

    // A short run of the softmax recipe is far beyond that already.
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recipes/gowalla-softmax.toml");
    run(&folder, &["train", "d", "--output", "m", "--force", "--config", recipe, "--epochs", "10"]);
    let report = run(&folder, &["evaluate", "m", "d", "--k", "20", "--baselines", "none"]);
    assert!(of(&report, "recall@20") >= 0.176 && of(&report, "ndcg@20") >= 0.146, "{}", report["metrics"]);
}

/// Recall, precision, NDCG, MRR and MAP of a model of Gowalla, against trec_eval over rankings that numpy makes.
#[test]
fn metrics_equal_those_of_trec_eval_on_gowalla() {
    let (Some(train), Some(test)) = (log("gowalla-lightgcn/train.tsv.gz"), log("gowalla-lightgcn/test.tsv.gz")) else {
        return;
    };
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    run(&folder, &["ingest", &train, "--test", &test, "--output", "d"]);
    run(&folder, &["train", "d", "--output", "m", "--dim", "32", "--epochs", "8", "--deterministic"]);
    let report = run(&folder, &["evaluate", "m", "d", "--k", "5,10,20", "--baselines", "none"]);

    let dataset = Dataset::open(folder.path().join("d")).unwrap();
    let model = Model::open(folder.path().join("m")).unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
    for (name, table) in [("users.f32", model.users()), ("items.f32", model.items())] {
        write(name, table.as_slice().iter().flat_map(|x| x.to_le_bytes()).collect());
    }
    let pairs = |part: &Interactions| {
        let of = |user: u32| part.user(user).items.iter().flat_map(move |item| [user, item.to_native()]);
        (0..dataset.users().len()).flat_map(of).flat_map(u32::to_le_bytes).collect()
    };
    write("seen.u32", pairs(dataset.train()));
    write("relevant.u32", pairs(dataset.part(Part::Test).unwrap()));
    let (users, items, stride) = (model.users().rows(), model.items().rows(), model.items().stride());
    let shape = json!({ "users": users, "items": items, "stride": stride, "k": [5, 10, 20] });
    write("shape.json", shape.to_string().into_bytes());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/trec.py");
    let output = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["users"], expected["users"]);
    let metrics = expected["metrics"].as_object().unwrap();
    assert_eq!(metrics.len(), 15);
    for (name, want) in metrics {
        let (got, want) = (report["metrics"][name].as_f64().unwrap(), want.as_f64().unwrap());
        assert!((got - want).abs() < 1e-6, "{name}: {got} {want}");
        assert!(want > 0.005, "a model that has learnt nothing shows nothing: {name} {want}");
    }

    let compared = run(&folder, &["compare", "m", "popularity", "d"]);
    assert_eq!(compared["verdict"], "a", "{}", compared["summary"]);
}

/// Twenty pairs of runs of the recipe that differ only by seed.
#[test]
#[ignore = "trains 40 models, some minutes: cargo test --release --test behaviour seeds -- --ignored --nocapture"]
fn seeds_are_told_apart_in_two_of_twenty_pairs_at_most() {
    let (Some(train), Some(test)) = (log("gowalla-lightgcn/train.tsv.gz"), log("gowalla-lightgcn/test.tsv.gz")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    run(&folder, &["ingest", &train, "--test", &test, "--output", "d"]);
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recipes/gowalla-bpr.toml");
    let mut told = 0;
    for pair in 0..20 {
        for (model, seed) in [("a", 2 * pair), ("b", 2 * pair + 1)] {
            let seed = seed.to_string();
            run(&folder, &["train", "d", "--output", model, "--force", "--config", recipe, "--seed", &seed]);
        }
        let compared = run(&folder, &["compare", "a", "b", "d"]);
        println!("pair {pair}: {}", compared["summary"]);
        told += u32::from(compared["verdict"] != "cannot_be_told");
    }
    assert!(told <= 2, "{told} of 20 pairs");
}

/// Seconds since 1970 at which the first of the seven days begins: 4 October 2010. What comes after them is held out.
const FIRST_DAY: i64 = 1_286_150_400;

/// The check-ins in pieces: before the seven days, each of them, and what comes after.
fn by_day(log: &str, folder: &TempDir) -> Vec<String> {
    let mut text = String::new();
    let compressed = fs::File::open(log).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(compressed), &mut text).unwrap();
    let mut pieces = vec!["user,spot,timestamp\n".to_string(); 9];
    for line in text.lines().skip(1) {
        let time: i64 = line.rsplit(',').next().unwrap().parse().unwrap();
        let day = (time - FIRST_DAY).div_euclid(86_400) + 1;
        pieces[day.clamp(0, 8) as usize] += &format!("{line}\n");
    }
    let written = pieces.iter().enumerate().map(|(day, piece)| {
        let path = folder.path().join(format!("{day}.csv"));
        fs::write(&path, piece).unwrap();
        path.to_str().unwrap().to_string()
    });
    written.collect()
}

/// Recall@20 and NDCG@20 of a model on what is held out.
fn quality(folder: &TempDir, model: &str) -> [f64; 2] {
    let report = run(folder, &["evaluate", model, "d", "--k", "20", "--baselines", "none"]);
    ["recall@20", "ndcg@20"].map(|metric| report["metrics"][metric].as_f64().unwrap())
}

/// Recall@20, NDCG@20 and seconds: of a model that was updated, and of one that was trained anew; and what `compare` says of
/// the two by NDCG@20, where a difference counts that is more than 2 %.
type Both = ([f64; 3], [f64; 3], String);

/// A model updated with seven days, one after the other; and beside it one that is trained anew on each of `anew`. Their
/// quality, and the seconds that the commands took.
fn seven_days(log: &str, seed: &str, anew: std::ops::RangeInclusive<usize>) -> Vec<Both> {
    let folder = tempfile::tempdir().unwrap();
    let pieces = by_day(log, &folder);
    run(&folder, &["ingest", &pieces[0], "--test", &pieces[8], "--output", "d"]);
    run(&folder, &["train", "d", "--output", "m", "--seed", seed]);
    let timed = |arguments: &[&str]| {
        let began = std::time::Instant::now();
        run(&folder, arguments);
        began.elapsed().as_secs_f64()
    };
    let mut days = Vec::new();
    for (day, piece) in pieces.iter().enumerate().take(8).skip(1) {
        run(&folder, &["ingest", "--append", "d", piece]);
        let updating = timed(&["update", "m", "d", "--seed", seed]);
        if anew.contains(&day) {
            let training = timed(&["train", "d", "--output", "anew", "--force", "--seed", seed]);
            let ([r, n], [of_anew, n_anew]) = (quality(&folder, "m"), quality(&folder, "anew"));
            let by = ["--k", "20", "--metrics", "ndcg@20", "--margin", "0.02"];
            let compared = run(&folder, &[&["compare", "m", "anew", "d"][..], &by].concat());
            let verdict = compared["verdict"].as_str().unwrap().to_string();
            days.push(([r, n, updating], [of_anew, n_anew, training], verdict));
        }
    }
    days
}

#[test]
fn after_seven_daily_updates_a_model_is_as_good_as_one_trained_anew() {
    let Some(log) = log("gowalla-checkins/checkins.csv.gz") else { return };
    let days = seven_days(&log, "1", 7..=7);
    let ([r, n, _], [r_anew, n_anew, _], verdict) = &days[0];
    // Seeds alone make a hundredth or two of difference: docs/update.md has the mean of ten.
    assert!(*r > 0.96 * r_anew && *n > 0.96 * n_anew && verdict != "b", "{days:?}");
}

#[test]
#[ignore = "trains 80 models and updates 70: cargo test --release --test behaviour daily_table -- --ignored --nocapture"]
fn daily_table() {
    let Some(log) = log("gowalla-checkins/checkins.csv.gz") else { return };
    const SEEDS: usize = 10;
    let seeds: Vec<_> = (0..SEEDS).map(|seed| seven_days(&log, &seed.to_string(), 1..=7)).collect();
    println!(
        "day   updated: recall@20  ndcg@20  seconds   anew: recall@20  ndcg@20  seconds   ratios and their standard errors"
    );
    let mut sums = [0.0; 3];
    for day in 0..7 {
        let mean = |of: &dyn Fn(&Both) -> f64| seeds.iter().map(|days| of(&days[day])).sum::<f64>() / SEEDS as f64;
        let [updated, anew] = [0, 1]
            .map(|side| [0, 1, 2].map(|number| mean(&|both| if side == 0 { both.0[number] } else { both.1[number] })));
        let ratios = [0, 1, 2].map(|number| updated[number] / anew[number]);
        // Of a ratio of means of pairs, by the delta method.
        let errors = [0, 1, 2].map(|number| {
            let square = |both: &Both| (both.0[number] - ratios[number] * both.1[number]).powi(2);
            (mean(&square) / (SEEDS - 1) as f64).sqrt() / anew[number]
        });
        sums.iter_mut().zip(ratios).for_each(|(sum, ratio)| *sum += ratio / 7.0);
        let [[r, n, s], [r2, n2, s2]] = [updated, anew];
        print!("{:3} {r:19.4} {n:8.4} {s:8.2} {r2:16.4} {n2:8.4} {s2:8.2}  ", day + 1);
        ratios.iter().zip(errors).for_each(|(ratio, error)| print!("  {ratio:.3} ±{error:.3}"));
        let told = |verdict: &str| seeds.iter().filter(|days| days[day].2 == verdict).count();
        println!("  better by more than 2 %: updated {}, anew {} of {SEEDS}", told("a"), told("b"));
    }
    println!("mean of the ratios {sums:.3?}");
    assert!(sums[0] > 0.98 && sums[1] > 0.98, "{sums:?}");
}
