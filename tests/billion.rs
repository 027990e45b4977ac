//! The script behind docs/billion.md, at a hundredth of its size: from a pipe to recommendations inside the budget.

use std::path::Path;
use std::process::Command;

#[test]
fn the_billion_script_runs_at_a_hundredth_inside_its_budget() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: this test runs a script, which needs python3");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let figures = folder.path().join("figures.json");
    // The script itself fails where a step takes more anonymous memory than its budget.
    let output = Command::new("python3")
        .arg(top.join("benches/scale/billion.py"))
        .args(["--divisor", "100", "--binary", env!("CARGO_BIN_EXE_peccary")])
        .args([Path::new("--folder"), folder.path(), Path::new("--json"), &figures])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    for step in
        ["| ingest |", "| plan |", "| train one epoch |", "| evaluate 1,000 users |", "| recommend to 100 users |"]
    {
        assert!(told.contains(step), "no line {step} in\n{told}");
    }
    let figures: serde_json::Value = serde_json::from_slice(&std::fs::read(figures).unwrap()).unwrap();
    let rows = figures["steps"].as_array().unwrap().len();
    assert!(rows >= 6, "{rows} steps");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the script leaves only its figures behind");
}
