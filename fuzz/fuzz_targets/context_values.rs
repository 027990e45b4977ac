//! Fuzzes the target `context_values` of src/fuzzing.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| peccary::fuzzing::run("context_values", input));
