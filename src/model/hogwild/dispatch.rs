//! Training on runs with the kernel of an instruction set, rule, precision and similarity.

#[cfg(target_arch = "aarch64")]
use super::super::kernel::Neon;
#[cfg(target_arch = "x86_64")]
use super::super::kernel::{Avx2, Avx512};
use super::super::kernel::{Bf16, Element, F32, InstructionSet, Portable};
use super::super::rule::{Adagrad, Adam, Rule, Sgd};
use super::super::{Precision, Similarity};
use super::{LossSample, MAX_NEGATIVES, MAX_STRIDE, Optimizer, Runs, Tables, Update, all_runs};
use crate::loss::Loss;

/// Trains on `runs` with the kernels of `set`, which the machine must have (see [`InstructionSet::available`]).
pub(crate) fn train<L: Loss>(
    set: InstructionSet,
    tables: &Tables,
    runs: Runs<'_>,
    loss: L,
    update: Update,
) -> LossSample {
    assert!(tables.users.factors.stride() <= MAX_STRIDE && (1..=MAX_NEGATIVES).contains(&runs.negatives_each));
    assert_eq!(runs.positives.len() * runs.negatives_each, runs.negatives.len());
    assert_eq!(runs.users.len(), runs.ends.len());
    assert!(set.is_available());
    if let Some(adjust) = runs.adjust {
        adjust.check(runs.positives.len(), runs.negatives.len());
    }
    if runs.adjust.is_none() && update.regularization.is_off() {
        with_optimizer::<L, false>(set, tables, runs, loss, update)
    } else {
        with_optimizer::<L, true>(set, tables, runs, loss, update)
    }
}

fn with_optimizer<L: Loss, const WEIGHTED: bool>(
    set: InstructionSet,
    tables: &Tables,
    runs: Runs<'_>,
    loss: L,
    update: Update,
) -> LossSample {
    match tables.optimizer() {
        Optimizer::Sgd => with_rule::<L, Sgd, WEIGHTED>(set, tables, runs, loss, update, Sgd),
        Optimizer::Adagrad { epsilon } => {
            with_rule::<L, Adagrad, WEIGHTED>(set, tables, runs, loss, update, Adagrad { epsilon })
        }
        Optimizer::Adam { beta1, beta2, epsilon } => {
            with_rule::<L, Adam, WEIGHTED>(set, tables, runs, loss, update, Adam { beta1, beta2, epsilon })
        }
    }
}

fn with_rule<L: Loss, R: Rule, const WEIGHTED: bool>(
    set: InstructionSet,
    tables: &Tables,
    runs: Runs<'_>,
    loss: L,
    update: Update,
    rule: R,
) -> LossSample {
    match tables.precision() {
        Precision::F32 => with_element::<F32, L, R, WEIGHTED>(set, tables, runs, loss, update, rule),
        Precision::Bf16 => with_element::<Bf16, L, R, WEIGHTED>(set, tables, runs, loss, update, rule),
    }
}

fn with_element<E: Element, L: Loss, R: Rule, const WEIGHTED: bool>(
    set: InstructionSet,
    tables: &Tables,
    runs: Runs<'_>,
    loss: L,
    update: Update,
    rule: R,
) -> LossSample {
    let cosine = update.similarity == Similarity::Cosine;
    // SAFETY: `train` made sure that the machine has the instruction set.
    unsafe {
        match (set, cosine) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, false) => avx512::<E, L, R, false, WEIGHTED>(tables, runs, loss, update, rule),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, true) => avx512::<E, L, R, true, WEIGHTED>(tables, runs, loss, update, rule),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, false) => avx2::<E, L, R, false, WEIGHTED>(tables, runs, loss, update, rule),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, true) => avx2::<E, L, R, true, WEIGHTED>(tables, runs, loss, update, rule),
            #[cfg(target_arch = "aarch64")]
            (InstructionSet::Neon, false) => {
                all_runs::<Neon, E, L, R, false, WEIGHTED>(tables, runs, loss, update, rule)
            }
            #[cfg(target_arch = "aarch64")]
            (InstructionSet::Neon, true) => all_runs::<Neon, E, L, R, true, WEIGHTED>(tables, runs, loss, update, rule),
            (_, false) => all_runs::<Portable, E, L, R, false, WEIGHTED>(tables, runs, loss, update, rule),
            (_, true) => all_runs::<Portable, E, L, R, true, WEIGHTED>(tables, runs, loss, update, rule),
        }
    }
}

/// # Safety
/// The machine has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn avx512<E: Element, L: Loss, R: Rule, const COSINE: bool, const WEIGHTED: bool>(
    t: &Tables,
    r: Runs<'_>,
    l: L,
    u: Update,
    o: R,
) -> LossSample {
    // SAFETY: passed on from the caller.
    unsafe { all_runs::<Avx512, E, L, R, COSINE, WEIGHTED>(t, r, l, u, o) }
}

/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<E: Element, L: Loss, R: Rule, const COSINE: bool, const WEIGHTED: bool>(
    t: &Tables,
    r: Runs<'_>,
    l: L,
    u: Update,
    o: R,
) -> LossSample {
    // SAFETY: passed on from the caller.
    unsafe { all_runs::<Avx2, E, L, R, COSINE, WEIGHTED>(t, r, l, u, o) }
}
