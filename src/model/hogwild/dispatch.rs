//! Training on runs with the kernel of an instruction set, rule, precision and similarity.

#[cfg(target_arch = "aarch64")]
use super::super::kernel::Neon;
#[cfg(target_arch = "x86_64")]
use super::super::kernel::{Avx2, Avx512};
use super::super::kernel::{Bf16, Element, F32, InstructionSet, Portable};
use super::super::rule::{Adagrad, Adam, Rule, Sgd};
use super::super::{Precision, Similarity};
use super::{Apart, KernelLoss, LossSample, MAX_NEGATIVES, MAX_STRIDE, Optimizer, Runs, Tables, Update, all_runs};
use crate::loss::{Bpr, Loss};

/// Trains on `runs` with the kernels of `set`, which the machine must have (see [`InstructionSet::available`]).
///
/// Kernels cost minutes to compile and megabytes to carry, one for each instruction set, precision, rule, similarity and
/// loss. So plain BPR by plain SGD, which is what speed is asked of, has kernels of its own; whatever else there is goes
/// through those that call the loss once a group and know every weight.
pub(crate) fn train(
    set: InstructionSet,
    tables: &Tables,
    runs: Runs<'_>,
    loss: KernelLoss,
    update: Update,
) -> LossSample {
    assert!(tables.users.factors.stride() <= MAX_STRIDE && (1..=MAX_NEGATIVES).contains(&runs.negatives_each));
    assert_eq!(runs.positives.len() * runs.negatives_each, runs.negatives.len());
    assert_eq!(runs.users.len(), runs.ends.len());
    assert!(set.is_available());
    if let Some(adjust) = runs.adjust {
        adjust.check(runs.positives.len(), runs.negatives.len());
    }
    let plain = runs.adjust.is_none() && update.regularization.is_off();
    match (loss, tables.optimizer(), tables.precision()) {
        (KernelLoss::Bpr(bpr), Optimizer::Sgd, Precision::F32) if plain => {
            kernel::<F32, Bpr, Sgd, false>(set, tables, runs, bpr, update, Sgd)
        }
        (_, optimizer, Precision::F32) => by_rule::<F32>(set, tables, runs, loss.apart(set), update, optimizer),
        (_, optimizer, Precision::Bf16) => by_rule::<Bf16>(set, tables, runs, loss.apart(set), update, optimizer),
    }
}

fn by_rule<E: Element>(
    set: InstructionSet,
    tables: &Tables,
    runs: Runs<'_>,
    loss: Apart,
    update: Update,
    optimizer: Optimizer,
) -> LossSample {
    match optimizer {
        Optimizer::Sgd => kernel::<E, Apart, Sgd, true>(set, tables, runs, loss, update, Sgd),
        Optimizer::Adagrad { epsilon } => {
            kernel::<E, Apart, Adagrad, true>(set, tables, runs, loss, update, Adagrad { epsilon })
        }
        Optimizer::Adam { beta1, beta2, epsilon } => {
            kernel::<E, Apart, Adam, true>(set, tables, runs, loss, update, Adam { beta1, beta2, epsilon })
        }
    }
}

fn kernel<E: Element, L: Loss, R: Rule, const WEIGHTED: bool>(
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
