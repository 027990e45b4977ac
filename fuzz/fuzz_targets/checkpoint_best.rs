//! Fuzzes the target `checkpoint_best` of src/fuzzing.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| peccary::fuzzing::run("checkpoint_best", input));
