//! Behaviour through the public API and the binary, a module a file. One crate, not one a file: it links once, and all tests
//! share the threads.

mod limited;
mod reported;
mod trained;

mod append;
mod audit;
mod billion;
mod checkpoint;
mod dependencies;
mod deterministic;
mod evaluate;
mod exposures;
mod fold_in;
mod golden;
mod hold_out;
mod hostile;
mod ingest;
mod memory;
mod memory_train;
mod nearest;
mod plan;
mod processes;
mod quickstart;
mod real_logs;
mod recommend;
mod report;
mod report_browser;
mod resume;
mod runlog;
mod sweep;
mod synth;
mod train;
mod update;
mod validation;
mod versions;
mod watch;

#[test]
fn every_file_is_a_module() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"));
    for entry in folder.read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") {
            assert!(include_str!("main.rs").contains(&format!("\nmod {module};\n")), "tests/{name} is never run");
        }
    }
}
