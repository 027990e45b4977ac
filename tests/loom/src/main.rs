//! What `docs/hogwild.md` promises of racing trainers, checked in every execution that loom finds the memory
//! model to allow: the sources are those of the product, but for the cells of memory, which are loom's.
#![allow(dead_code)] // the product uses more of these sources

mod kernel;
#[path = "../../../src/model/rule.rs"]
mod rule;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kernel::cell::{self, Memory};
use kernel::{Lanes, Portable};
use rule::{Adagrad, Adam, Rule};

/// Runs `trainer` twice at a time on a row that begins as `start`, in every order, and hands `check` what the two
/// returned and what the row then holds.
fn race<const N: usize, T: Send + 'static>(
    name: &str,
    start: [f32; N],
    trainer: impl Fn(usize, *mut f32) -> T + Copy + Send + Sync + 'static,
    check: impl Fn([T; 2], [f32; N]) + Send + Sync + 'static,
) {
    let model = loom::model::Builder::new();
    // Only addresses are taken from it; the values are in loom's cells.
    let row: &'static mut [f32; N] = Box::leak(Box::new(start));
    let address = row.as_mut_ptr().expose_provenance();
    let executions = Arc::new(AtomicUsize::new(0));
    let count = executions.clone();
    model.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Memory::begin(row);
        let at = move || std::ptr::with_exposed_provenance_mut::<f32>(address);
        let other = loom::thread::spawn(move || trainer(1, at()));
        let own = trainer(0, at());
        let other = other.join().unwrap();
        // SAFETY: the address of `row`.
        let end = std::array::from_fn(|i| unsafe { cell::load(at().add(i)) });
        check([own, other], end);
    });
    println!("{name}: {} executions", executions.load(Ordering::Relaxed));
}

fn main() {
    floats_of_a_racing_row();
    adagrad_loses_an_update_at_worst();
    adam_never_divides_by_zero();
}

/// Every float that is read is one that somebody stored.
fn floats_of_a_racing_row() {
    let trainer = |who: usize, row: *mut f32| {
        let mut seen = [0f32; 2];
        for (i, seen) in seen.iter_mut().enumerate() {
            // SAFETY: the row has two floats.
            unsafe {
                *seen = Portable::load_one(row.add(i));
                Portable::store_one(row.add(i), *seen + [10.0, 100.0][who]);
            }
        }
        seen
    };
    race("every float of a racing row is one that was stored", [1.0, 2.0], trainer, |seen, end| {
        for i in 0..2 {
            let start = [1.0, 2.0][i];
            let stored = [seen[0][i] + 10.0, seen[1][i] + 100.0];
            assert!(seen[0][i] == start || seen[0][i] == stored[1], "read {} from nowhere", seen[0][i]);
            assert!(seen[1][i] == start || seen[1][i] == stored[0], "read {} from nowhere", seen[1][i]);
            // Joining orders both trainers' stores before this load: never the start again, at worst one update lost.
            assert!(stored.contains(&end[i]), "{} was stored by nobody", end[i]);
        }
    });
}

/// The accumulator is what one of the two stored.
fn adagrad_loses_an_update_at_worst() {
    let rule = Adagrad { epsilon: 1e-8 };
    // SAFETY: one float of state; the portable kernel needs no instruction set.
    let trainer = move |who: usize, state: *mut f32| unsafe { rule.rate::<Portable>(1.0, state, [4.0, 9.0][who]) };
    race("adagrad loses an update at worst", [0.25], trainer, |rates, [sum]| {
        assert!([4.25, 9.25, 13.25].contains(&sum), "{sum}");
        let possible = |sums: [f32; 2], rate: f32| sums.iter().any(|s| (rate - 1.0 / (s + 1e-8).sqrt()).abs() < 1e-6);
        assert!(possible([4.25, 13.25], rates[0]) && possible([9.25, 13.25], rates[1]), "{rates:?}");
    });
}

/// Whatever mix of the other trainer's state it reads.
fn adam_never_divides_by_zero() {
    let rule = Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-8 };
    // SAFETY: three floats of state; the portable kernel needs no instruction set.
    let trainer = move |who: usize, state: *mut f32| unsafe { rule.rate::<Portable>(0.01, state, [4.0, 9.0][who]) };
    race("adam never divides by zero, nor steps too far", [0.0; 3], trainer, |rates, [v, c1, c2]| {
        // The state may be a mix of both trainers', but each part is a possible one.
        let [first, second] = [0.01f32 * 4.0, 0.01 * 9.0];
        let possible = [first, second, 0.99 * first + second, 0.99 * second + first];
        assert!(possible.iter().any(|p| (p - v).abs() < 1e-6), "second moment {v}");
        assert!([0.1f32, 0.19].iter().any(|p| (p - c1).abs() < 1e-6), "complement {c1}");
        assert!([0.01f32, 0.0199].iter().any(|p| (p - c2).abs() < 1e-6), "complement {c2}");
        // A step of a mix: at most η / c₁ / √(v / c₂) with the least c₁ and v and the largest c₂.
        let most = 0.01 / 0.1 / (first / 0.0199f32).sqrt();
        assert!(rates.iter().all(|rate| *rate > 0.0 && *rate <= most * 1.001), "{rates:?} above {most}");
    });
}
