//! Fuzzes the target `ingest_temporary` of src/fuzzing.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| peccary::fuzzing::run("ingest_temporary", input));
