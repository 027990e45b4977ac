//! A small log with ids that try to be markup, ingested and trained on through the binary, for the tests of the report.

use std::io::Write;

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Ids that a page must show as text.
pub const NASTY: [&str; 9] = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "\"><img src=x onerror=alert(3)>",
    "'onmouseover='alert(4)",
    "<!--<script>",
    "&lt;b&gt; &amp; ]]>",
    "a\u{1}b\u{7f}\u{202e}gnp.exe\u{2028}",
    "{}{}{0} ${alert(5)} `x`",
    "naïve 日本語 🦙",
];

/// A dataset with times and all parts, and two models of it.
pub struct Case {
    folder: TempDir,
    pub log: String,
    pub dataset: String,
    pub model: String,
    pub other: String,
}

impl Case {
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }
}

/// Runs a command that must succeed, and returns its JSON.
pub fn json(arguments: &[&str]) -> Value {
    let output = Command::cargo_bin("peccary").unwrap().args(arguments).args(["--json", "--quiet"]).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// 300 users and 120 items in three groups, whose ids are nasty, and some of 10 KB.
pub fn hostile() -> Case {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let id = |what: &str, n: u64| match n % 12 {
        9 => format!("{what}{n}{}", "<x>".repeat(3_400)),
        k if (k as usize) < NASTY.len() => format!("{}{what}{n}", NASTY[k as usize]),
        _ => format!("{what}{n}"),
    };
    let (log, dataset) = (path("log.ndjson"), path("log.pec"));
    let mut file = std::io::BufWriter::new(std::fs::File::create(&log).unwrap());
    let mut state = 1u64;
    let mut draw = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for at in 0..9_000u64 {
        let user = draw(300);
        // Mostly items of the user's group, the popular ones more often.
        let group = if draw(5) == 0 { draw(3) } else { user % 3 };
        let item = 3 * draw(40).min(draw(40)) + group;
        let row = json!({ "user": id("u", user), "item": id("i", item), "time": 1_700_000_000 + 60 * at });
        writeln!(file, "{row}").unwrap();
    }
    file.into_inner().unwrap();
    let ingest = ["ingest", &log, "--output", &dataset, "--split", "time:0.1", "--valid-split", "random:0.1"];
    json(&ingest);
    let (model, other) = (path("one.model"), path("two.model"));
    let train = ["--dim", "16", "--epochs", "6", "--metric", "ndcg@10"];
    json(&[&["train", &dataset, "--output", &model], &train[..]].concat());
    json(&[&["train", &dataset, "--output", &other, "--loss", "bsl", "--negatives", "40"], &train[..]].concat());
    Case { folder, log, dataset, model, other }
}

/// The numbers that a page holds.
pub fn data_of(page: &str) -> Value {
    let text = std::fs::read_to_string(page).unwrap();
    let (_, rest) = text.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

/// A table of the items but for some, with values that try to be markup.
pub fn attributes(case: &Case) -> String {
    let dataset = peccary::Dataset::open(&case.dataset).unwrap();
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut text = "item,kind,price,title\n".to_string();
    for item in (0..dataset.items().len()).filter(|item| !item.is_multiple_of(7)) {
        let id = quoted(dataset.items().id(item).unwrap());
        let (kind, title) = (quoted(NASTY[(item % 8) as usize]), quoted(&format!("{} {item}", NASTY[0])));
        text += &format!("{id},{kind},{},{title}\n", f64::from(item) / 2.0);
    }
    let path = case.path("items.csv");
    std::fs::write(&path, text).unwrap();
    path
}
