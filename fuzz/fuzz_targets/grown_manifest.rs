//! Fuzzes the target `grown_manifest` of src/fuzzing.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| peccary::fuzzing::run("grown_manifest", input));
