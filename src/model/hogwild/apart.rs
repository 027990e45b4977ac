//! Losses beside the kernels: a function of its own for each instruction set, called once a group. Kernels compiled for
//! every loss would take minutes and megabytes; for groups of some rows the call costs next to nothing.

use super::super::kernel::InstructionSet;
use crate::loss::{AnyLoss, Base, Bpr, Loss, OfLists, Terms};

/// A loss as kernels take it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KernelLoss {
    /// Plain BPR, which has kernels of its own.
    Bpr(Bpr),
    /// Any other.
    Any(AnyLoss),
}

impl KernelLoss {
    pub(crate) fn new(loss: AnyLoss) -> Self {
        match loss {
            AnyLoss { base: Base::Bpr(bpr), scale: 1.0, entropy: None } => Self::Bpr(bpr),
            loss => Self::Any(loss),
        }
    }

    /// Beside the kernels of `set`, which the machine must have.
    pub(super) fn apart(self, set: InstructionSet) -> Apart {
        let loss = match self {
            Self::Bpr(bpr) => AnyLoss { base: Base::Bpr(bpr), scale: 1.0, entropy: None },
            Self::Any(loss) => loss,
        };
        Apart::beside(loss, set)
    }
}

/// A loss whose gradient is not compiled into kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apart {
    loss: AnyLoss,
    /// That the machine has.
    set: InstructionSet,
    terms: Terms,
}

impl Apart {
    /// By the best instructions that this machine has.
    pub(crate) fn new(loss: AnyLoss) -> Self {
        Self::beside(loss, InstructionSet::detect())
    }

    fn beside(loss: AnyLoss, set: InstructionSet) -> Self {
        assert!(set.is_available());
        Self { loss, set, terms: loss.terms() }
    }
}

impl Apart {
    /// The gradient of a loss over lists, of positives that share all negatives: see [`AnyLoss::shared_gradient`].
    pub(crate) fn shared_gradient(
        &self,
        positives: &[f32],
        (negatives, weights): (&[f32], &[f32]),
        pg: &mut [f32],
        ng: &mut [f32],
        scratch: &mut [f32],
    ) {
        // SAFETY: whoever made this made sure that the machine has the set.
        unsafe {
            match self.set {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => {
                    shared_avx512(&self.loss, positives, (negatives, weights), pg, ng, scratch);
                }
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => shared_avx2(&self.loss, positives, (negatives, weights), pg, ng, scratch),
                _ => self.loss.shared_gradient(positives, (negatives, weights), pg, ng, scratch),
            }
        }
    }
}

impl Loss for Apart {
    #[inline(always)]
    fn terms(&self) -> Terms {
        self.terms
    }

    #[inline(always)]
    fn gradient(&self, positives: &[f32], negatives: &[f32], lists: OfLists<'_>, pg: &mut [f32], ng: &mut [f32]) {
        // SAFETY: whoever made this made sure that the machine has the set.
        unsafe {
            match self.set {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => avx512(&self.loss, positives, negatives, lists, pg, ng),
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => avx2(&self.loss, positives, negatives, lists, pg, ng),
                _ => plain(&self.loss, positives, negatives, lists, pg, ng),
            }
        }
    }

    fn value(&self, positives: &[f32], negatives: &[f32], lists: OfLists<'_>) -> f32 {
        self.loss.value(positives, negatives, lists)
    }
}

/// # Safety
/// The machine has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn avx512(loss: &AnyLoss, ps: &[f32], ns: &[f32], lists: OfLists<'_>, pg: &mut [f32], ng: &mut [f32]) {
    loss.gradient(ps, ns, lists, pg, ng);
}

/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(loss: &AnyLoss, ps: &[f32], ns: &[f32], lists: OfLists<'_>, pg: &mut [f32], ng: &mut [f32]) {
    loss.gradient(ps, ns, lists, pg, ng);
}

/// # Safety
/// The machine has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn shared_avx512(
    loss: &AnyLoss,
    ps: &[f32],
    ns: (&[f32], &[f32]),
    pg: &mut [f32],
    ng: &mut [f32],
    scratch: &mut [f32],
) {
    loss.shared_gradient(ps, ns, pg, ng, scratch);
}

/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn shared_avx2(
    loss: &AnyLoss,
    ps: &[f32],
    ns: (&[f32], &[f32]),
    pg: &mut [f32],
    ng: &mut [f32],
    scratch: &mut [f32],
) {
    loss.shared_gradient(ps, ns, pg, ng, scratch);
}

/// NEON included, which every AArch64 has.
#[inline(never)]
fn plain(loss: &AnyLoss, ps: &[f32], ns: &[f32], lists: OfLists<'_>, pg: &mut [f32], ng: &mut [f32]) {
    loss.gradient(ps, ns, lists, pg, ng);
}
