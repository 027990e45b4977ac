//! Sixteen floats at a time: one small trait, one implementation an instruction set, chosen once at run time.
//!
//! Loads and stores of shared rows may race with those of other trainers. Every implementation therefore reaches
//! memory only by means that the compiler may not assume race-free: inline assembly, or relaxed atomics. The whole
//! argument is in `docs/hogwild.md`.

pub(super) mod bf16;
mod cell;
mod element;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use element::{Bf16, Element, F32};
pub(crate) use lanes::Lanes;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// AVX-512F.
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// NEON, on AArch64.
    Neon,
    /// Any machine, by relaxed atomic loads and stores.
    Portable,
}

impl InstructionSet {
    const BEST_FIRST: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// Whether this machine has everything that the kernels of the set are compiled with.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        let avx2 = || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        match self {
            #[cfg(target_arch = "x86_64")]
            // Hypervisors can hide what an AVX-512 machine must have.
            Self::Avx512 => is_x86_feature_detected!("avx512f") && avx2(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            Self::Portable => true,
            #[allow(unreachable_patterns)] // which are left depends on the architecture
            _ => false,
        }
    }

    /// The best one that this machine has. Cheap enough for every call of a kernel.
    pub fn detect() -> Self {
        Self::BEST_FIRST.into_iter().find(|set| set.is_available()).unwrap_or(Self::Portable)
    }

    /// Those that this machine has, best first.
    pub fn available() -> Vec<Self> {
        Self::BEST_FIRST.into_iter().filter(|set| set.is_available()).collect()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "AVX-512",
            Self::Avx2 => "AVX2",
            Self::Neon => "NEON",
            Self::Portable => "portable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[repr(align(64))]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Row([f32; 32]);

    #[repr(align(64))]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Halves([u16; 32]);

    /// What an implementation makes of every operation, on the second half of each row.
    unsafe fn run<V: Lanes>(a: &Row, b: &Row, c: f32) -> (Row, f32) {
        // Copies: what is shared is reached by pointers that may write, also where it is only read.
        let (mut out, mut a, mut b, mut c) = (*a, *a, *b, c);
        // SAFETY: rows are 32 floats, aligned to 64 bytes; the caller vouches for the instruction set.
        unsafe {
            let (x, y) = (V::load(a.0.as_mut_ptr(), 64), V::load(b.0.as_mut_ptr(), 64));
            let z = x.mul_add(y, V::splat(c)).mul(y);
            z.store(out.0.as_mut_ptr(), 64);
            V::store_one(out.0.as_mut_ptr().add(3), V::load_one(&raw mut c));
            V::prefetch(a.0.as_mut_ptr(), 64);
            let four = V::sum4([z, x, y, z]);
            assert!((four[1] - x.sum()).abs() < 1e-4 && (four[2] - y.sum()).abs() < 1e-4 && four[0] == four[3]);
            (out, four[0])
        }
    }

    /// Twice reads 16 bfloat16 of `halves`, adds `a`, and stores them rounded; and one bare bfloat16 in front of them.
    unsafe fn run_halves<V: Lanes>(halves: &mut Halves, a: &Row, seeds: &[u32; 16]) {
        let mut a = *a;
        // SAFETY: as above.
        unsafe {
            let mut noise = V::noise(seeds);
            let row = halves.0.as_mut_ptr();
            for _ in 0..2 {
                let sum = V::load_half(row, 32).mul_add(V::splat(1.0), V::load(a.0.as_mut_ptr(), 64));
                sum.store_half(row, 32, &mut noise);
            }
            V::store_one_half(row.add(3), 0x3F80);
        }
    }

    fn halves_oracle(halves: &mut Halves, a: &Row, seeds: &[u32; 16]) {
        for (i, seed) in seeds.iter().enumerate() {
            let mut state = *seed;
            for _ in 0..2 {
                state = bf16::next(state);
                let half = &mut halves.0[16 + i];
                *half = bf16::round(bf16::widen(*half) + a.0[16 + i], (state >> 16) as u16);
            }
        }
        halves.0[3] = 0x3F80;
    }

    fn oracle(a: &Row, b: &Row, c: f32) -> (Row, f32) {
        let mut out = *a;
        for i in 16..32 {
            out.0[i] = a.0[i].mul_add(b.0[i], c) * b.0[i];
        }
        out.0[3] = c;
        (out, out.0[16..].iter().sum())
    }

    proptest! {
        #[test]
        fn every_instruction_set_equals_the_oracle(
            a in proptest::array::uniform32(-2f32..2.0), b in proptest::array::uniform32(-2f32..2.0), c in -2f32..2.0,
        ) {
            let (a, b) = (Row(a), Row(b));
            let (row, sum) = oracle(&a, &b, c);
            for set in InstructionSet::available() {
                // SAFETY: the machine has the set.
                let (got, got_sum) = unsafe {
                    match set {
                        #[cfg(target_arch = "x86_64")]
                        InstructionSet::Avx512 => run::<Avx512>(&a, &b, c),
                        #[cfg(target_arch = "x86_64")]
                        InstructionSet::Avx2 => run::<Avx2>(&a, &b, c),
                        #[cfg(target_arch = "aarch64")]
                        InstructionSet::Neon => run::<Neon>(&a, &b, c),
                        _ => run::<Portable>(&a, &b, c),
                    }
                };
                prop_assert_eq!(got, row, "{}", set.name());
                prop_assert!((got_sum - sum).abs() <= 1e-4, "{}: {} {}", set.name(), got_sum, sum);
            }
        }

        #[test]
        fn every_instruction_set_rounds_to_the_same_bits(
            a in proptest::array::uniform32(addend()),
            halves in proptest::array::uniform32(any::<u16>()),
            seeds in proptest::array::uniform16(any::<u32>()),
        ) {
            let (a, start) = (Row(a), Halves(halves));
            let mut expected = start;
            halves_oracle(&mut expected, &a, &seeds);
            for set in InstructionSet::available() {
                let mut got = start;
                // SAFETY: the machine has the set.
                unsafe {
                    match set {
                        #[cfg(target_arch = "x86_64")]
                        InstructionSet::Avx512 => run_halves::<Avx512>(&mut got, &a, &seeds),
                        #[cfg(target_arch = "x86_64")]
                        InstructionSet::Avx2 => run_halves::<Avx2>(&mut got, &a, &seeds),
                        #[cfg(target_arch = "aarch64")]
                        InstructionSet::Neon => run_halves::<Neon>(&mut got, &a, &seeds),
                        _ => run_halves::<Portable>(&mut got, &a, &seeds),
                    }
                }
                prop_assert_eq!(got, expected, "{}", set.name());
            }
        }
    }

    /// Mostly numbers of the size of factors; also what must not be rounded, and the ends of the range.
    fn addend() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => -2f32..2.0, 2 => any::<f32>(), 1 => Just(f32::NAN), 1 => Just(f32::INFINITY), 1 => Just(f32::MAX),
            1 => Just(0.0)
        ]
    }
}
