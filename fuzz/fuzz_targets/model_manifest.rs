//! Fuzzes the target `model_manifest` of src/fuzzing.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| peccary::fuzzing::run("model_manifest", input));
