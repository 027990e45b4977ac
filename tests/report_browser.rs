//! The report in a browser: `tests/browser/run.sh` drives Chromium over a page whose ids try to be markup.

use std::process::Command;

use crate::reported::{attributes, data_of, hostile, json};
use serde_json::Value;

/// What `run.sh` exits with where there is no Chromium.
const SKIPPED: i32 = 77;

#[test]
fn a_reader_sees_the_runs_numbers_and_nothing_else_runs() {
    let case = hostile();
    let page = case.path("report.html");
    json(&["calibrate", &case.model, &case.dataset, "--method", "platt"]);
    let table = attributes(&case);
    let also = ["--against", &case.other, "--attributes", &table];
    json(&[&["report", &case.model, &case.dataset, "--output", &page], &also[..]].concat());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/run.sh");
    let output = Command::new("sh").args([script, env!("CARGO_TARGET_TMPDIR"), &page]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(SKIPPED) {
        // Past the harness, which keeps what a passing test prints to itself.
        std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes()).unwrap();
        return;
    }
    assert!(output.status.success(), "{said}");
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(as_read(seen), as_read(data_of(&page)), "the browser reads what was written");
}

/// With all numbers as a browser has them: 1.0 is 1 there.
fn as_read(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::from(number.as_f64()),
        Value::Array(all) => all.into_iter().map(as_read).collect(),
        Value::Object(all) => all.into_iter().map(|(key, value)| (key, as_read(value))).collect(),
        other => other,
    }
}
