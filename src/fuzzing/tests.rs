//! Every target over its seeds, the corpus in `fuzz/corpus`, and mutations of both by fixed seeds.
//!
//! They run in a process of their own that may not map more than a gigabyte, so that a file that lies about its sizes and is
//! believed ends it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::{TARGETS, Target};

/// What the process below may map.
const MOST: u64 = 1 << 30;
/// Mutations of each target, and the time after which it is enough of them.
const MUTATIONS: u64 = 400;
const ENOUGH: Duration = Duration::from_millis(1500);
/// Asks for the work itself; its value is how many times as much of it.
const WORK: &str = "PECCARY_FUZZ";

fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
}

/// The files of the corpus, in order of their names; none where the folder is not there, as in a package.
fn files(target: &Target) -> Vec<Vec<u8>> {
    let Ok(entries) = corpus(target).read_dir() else {
        println!("skipped: no corpus of {}", target.name);
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Numbers that lengths and positions go wrong by.
const NUMBERS: [u64; 12] =
    [0, 1, 7, 8, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_fff0, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];
/// The same in text.
const WORDS: [&str; 10] =
    ["0", "-1", "4294967296", "18446744073709551615", "1e308", "NaN", "null", "[]", "\"\"", "../../x"];

/// Changes some bytes: bits, numbers in binary and in text, pieces left out, doubled or moved.
fn mutate(rng: &mut Xoshiro256PlusPlus, input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            bytes.push(rng.random());
        }
        let at = rng.random_range(0..bytes.len());
        let length = rng.random_range(1..=(bytes.len() - at).min(32));
        match rng.random_range(0..8) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 | 3 => {
                let number = NUMBERS[rng.random_range(0..NUMBERS.len())].to_le_bytes();
                let width = [1, 2, 4, 8][rng.random_range(0..4)];
                let at = if rng.random() { at / width * width } else { at };
                bytes.iter_mut().skip(at).zip(&number[..width]).for_each(|(old, new)| *old = *new);
            }
            4 => drop(bytes.drain(at..at + length)),
            5 => {
                let piece = bytes[at..at + length].to_vec();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
            6 => {
                // In place of a number in text, where there is one.
                let digits = bytes[at..].iter().position(u8::is_ascii_digit).map_or(at, |skip| at + skip);
                let end = digits + bytes[digits..].iter().take_while(|b| b.is_ascii_digit()).count();
                bytes.splice(digits..end, WORDS[rng.random_range(0..WORDS.len())].bytes());
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// Runs a target on `input`; a panic is reported with what made it.
fn run(target: &Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        let path = std::env::temp_dir().join(format!("peccary-crash-{}", target.name));
        std::fs::write(&path, input).unwrap();
        panic!("{} panics on the {} bytes in {}", target.name, input.len(), path.display());
    }
}

/// The work itself. Deterministic but for how many of the mutations there is time for.
fn work(times: u64) {
    setrlimit(Resource::As, Rlimit { current: Some(MOST), maximum: Some(MOST) }).unwrap();
    for target in TARGETS {
        let begun = Instant::now();
        let mut inputs = (target.seeds)();
        inputs.extend(files(target));
        inputs.push(Vec::new());
        inputs.iter().for_each(|input| run(target, input));
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(target.name.len() as u64 + times);
        let mut count = 0;
        while count < MUTATIONS * times && begun.elapsed() < ENOUGH * times as u32 {
            let input = &inputs[rng.random_range(0..inputs.len())];
            run(target, &mutate(&mut rng, input));
            count += 1;
        }
        println!("{}: {} inputs, {count} mutations in {:.1?}", target.name, inputs.len(), begun.elapsed());
    }
}

#[test]
fn no_bytes_make_a_parser_panic_or_ask_for_memory_without_end() {
    if let Some(times) = std::env::var(WORK).ok().and_then(|times| times.parse().ok()) {
        return work(times);
    }
    let name = "fuzzing::tests::no_bytes_make_a_parser_panic_or_ask_for_memory_without_end";
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(WORK, "1").output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{errors}", output.status);
    print!("{out}");
}

#[test]
fn the_corpus_is_that_of_the_targets() {
    let Ok(entries) = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").read_dir() else {
        return println!("skipped: no corpus");
    };
    let mut there: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    there.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    assert_eq!(there, names);
    for name in names {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz/fuzz_targets/{name}.rs"));
        assert!(own.is_file(), "{}", own.display());
    }
}

/// Writes the seeds into the corpus: `cargo test --release --lib fuzzing::tests::write -- --ignored`.
#[test]
#[ignore = "writes to the source tree"]
fn write_the_seeds_into_the_corpus() {
    for target in TARGETS {
        std::fs::create_dir_all(corpus(target)).unwrap();
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(corpus(target).join(format!("seed-{number}")), seed).unwrap();
        }
    }
}
