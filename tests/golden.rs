//! Datasets and models that earlier builds wrote, kept under `tests/golden/`: this build reads them as those did.

use std::fs;
use std::path::{Path, PathBuf};

use peccary::{
    Context, Dataset, EvaluateOptions, Model, Part, RecommendOptions, RecommendUsers, Stored, evaluate, recommend,
};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

fn golden(version: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version).join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-5 * (1.0 + b.abs())
}

#[test]
fn datasets_of_version_1_are_read_as_they_were_written() {
    let ctx = Context::default();
    let dataset = Dataset::open(golden("v1", "clicks.pec")).unwrap();
    dataset.verify(&ctx).unwrap();
    let recorded = json(&golden("v1", "clicks.inspection.json"));
    let manifest = serde_json::to_value(dataset.manifest()).unwrap();
    for key in ["fingerprint", "users", "items", "parts", "exposures", "contexts", "columns", "events", "hash_seed"] {
        assert!(!recorded[key].is_null() && manifest[key] == recorded[key], "{key}: {}", manifest[key]);
    }
    let statistics = serde_json::to_value(dataset.statistics(&ctx).unwrap()).unwrap();
    for key in ["/density", "/activity/gini", "/activity/median", "/popularity/gini", "/popularity/max"] {
        let [now, then] = [&statistics, &recorded].map(|value| value.pointer(key).unwrap().as_f64().unwrap());
        assert!(near(now, then), "{key} is {now} and was {then}");
    }
    assert_eq!(columns(&dataset), [true; 4]);
    for (ids, special) in [(dataset.users(), "Zoë, \"u7\""), (dataset.items(), "<script>"), (dataset.items(), "../i5")]
    {
        let dense = ids.find(special).unwrap();
        assert_eq!(ids.id(dense), Some(special));
    }
    let (exposures, contexts) = (dataset.exposures().unwrap(), dataset.contexts().unwrap());
    let shown: usize = (0..dataset.users().len()).map(|user| exposures.user(user).len()).sum();
    assert_eq!(shown as u64, exposures.summary().exposures);
    let device = contexts.column("device").unwrap();
    let mut devices: Vec<_> = (0..2).map(|value| contexts.value(device, value)).collect();
    devices.sort();
    assert_eq!(devices, ["desk", "phone"]);
}

/// Whether the first user with interactions has times, weights, counts and events.
fn columns(dataset: &Dataset) -> [bool; 4] {
    let train = dataset.part(Part::Train).unwrap();
    let rows = (0..dataset.users().len()).map(|user| train.user(user)).find(|rows| !rows.items.is_empty()).unwrap();
    [rows.times.len(), rows.weights.len(), rows.counts.len(), rows.events.len()].map(|len| len == rows.items.len())
}

#[test]
fn models_of_version_1_score_as_they_did() {
    let ctx = Context::default();
    let dataset = Dataset::open(golden("v1", "clicks.pec")).unwrap();
    for name in ["biased", "cosine"] {
        let model = Model::open(golden("v1", &format!("{name}.model"))).unwrap();
        model.verify(&ctx).unwrap();
        model.check_dataset(&dataset).unwrap();
        let recorded = json(&golden("v1", &format!("{name}.evaluation.json")));
        let evaluation = evaluate(&model, &dataset, &EvaluateOptions::default(), &ctx).unwrap();
        let metrics = recorded["metrics"].as_object().unwrap();
        assert!(metrics.len() > 5);
        for (metric, value) in metrics {
            let now = evaluation.metrics.get(metric).unwrap_or_else(|| panic!("{metric} is gone"));
            assert!(near(now, value.as_f64().unwrap()), "{name}: {metric} is {now} and was {value}");
        }

        let text = fs::read_to_string(golden("v1", &format!("{name}.recommendations.ndjson"))).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let options = RecommendOptions { k: 5, ..RecommendOptions::default() };
        recommend(&model, &dataset, &RecommendUsers::All, options, &ctx, |now| {
            let then = lines.next().expect("as many users");
            assert_eq!(dataset.users().id(now.user), then["user"].as_str());
            let items = then["items"].as_array().unwrap();
            assert_eq!(now.items.len(), items.len());
            for ((item, score), recorded) in now.items.iter().zip(items) {
                assert_eq!(dataset.items().id(*item), recorded["item"].as_str(), "{name}: {then}");
                assert!(near(f64::from(*score), recorded["score"].as_f64().unwrap()), "{name}: {score} in {then}");
            }
            Ok(())
        })
        .unwrap();
        assert!(lines.next().is_none());
    }
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => assert!(fs::copy(entry.path(), target).is_ok()),
        }
    }
}

#[test]
fn a_newer_version_is_refused_by_name_and_not_as_damage() {
    let root = tempfile::tempdir().unwrap();
    for name in ["clicks.pec", "biased.model"] {
        // The manifest of a newer build, whole and with a right checksum.
        let newer = root.path().join(name);
        copy(&golden("v1", name), &newer);
        let path = newer.join("manifest.json");
        let text = fs::read_to_string(&path).unwrap().replacen("\"version\": 1,", "\"version\": 7,", 1);
        let body = &text[..text.rfind("  \"checksum\": \"").unwrap()];
        fs::write(&path, format!("{body}  \"checksum\": \"{:016x}\"\n}}\n", xxh3_64(body.as_bytes()))).unwrap();
        let error = Stored::open(&newer).err().unwrap().to_string();
        assert!(error.contains("format version 7, but this build reads up to"), "{error}");
        assert!(error.contains("use a newer peccary"), "{error}");

        // A file of a newer kind among those of this one.
        let mixed = root.path().join(format!("mixed.{name}"));
        copy(&golden("v1", name), &mixed);
        let path = mixed.join("items.dict");
        let mut bytes = fs::read(&path).unwrap();
        bytes[16] = 9;
        fs::write(&path, bytes).unwrap();
        let error = Stored::open(&mixed).err().unwrap().to_string();
        assert!(error.contains("items.dict") && error.contains("format version 9"), "{error}");
    }
}
