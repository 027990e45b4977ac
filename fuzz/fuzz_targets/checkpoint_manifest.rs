//! Fuzzes the target `checkpoint_manifest` of src/fuzzing.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| peccary::fuzzing::run("checkpoint_manifest", input));
