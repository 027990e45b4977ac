//! Fuzzes the target `run_log` of src/fuzzing.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| peccary::fuzzing::run("run_log", input));
