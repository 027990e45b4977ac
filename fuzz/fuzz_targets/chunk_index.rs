//! Fuzzes the target `chunk_index` of src/fuzzing.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| peccary::fuzzing::run("chunk_index", input));
