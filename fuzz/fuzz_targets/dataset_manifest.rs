//! Fuzzes the target `dataset_manifest` of src/fuzzing.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| peccary::fuzzing::run("dataset_manifest", input));
