//! Fuzzes the target `sweep_journal` of src/fuzzing.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| peccary::fuzzing::run("sweep_journal", input));
