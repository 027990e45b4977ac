//! What a batch needs while it is at work: room for a group's numbers, and the noise that rounding draws from.

use super::super::kernel::Lanes;
use super::{GROUP, MAX_STRIDE, Runs, TILES, Update};
use crate::mix::{GOLDEN, mix};

/// Room for a row of floats.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Row(pub(super) [f32; MAX_STRIDE]);

impl Row {
    /// Multiplies the first `tiles` tiles.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`.
    #[inline(always)]
    pub(super) unsafe fn scale<V: Lanes>(&mut self, factor: f32, tiles: usize) {
        let at = self.0.as_mut_ptr();
        assert!(tiles * 16 <= MAX_STRIDE);
        for tile in 0..tiles {
            // SAFETY: the tiles lie within the row; the caller vouches for the instruction set.
            unsafe { V::load(at, tile * 64).mul(V::splat(factor)).store(at, tile * 64) };
        }
    }
}

/// What a group needs while it is at work, by item; made once a batch.
pub(super) struct Scratch<V: Lanes> {
    pub(super) dots: [f32; GROUP],
    pub(super) squares: [f32; GROUP],
    pub(super) scores: [f32; GROUP],
    /// Scores with their offsets, where there are any.
    pub(super) shifted: [f32; GROUP],
    pub(super) gradient: [f32; GROUP],
    pub(super) toward_user: [f32; GROUP],
    pub(super) own: [f32; GROUP],
    /// What of each gradient is kept when it is clipped.
    pub(super) kept: [f32; GROUP],
    pub(super) rates: [f32; GROUP],
    pub(super) user_gradient: Row,
    /// With dropout the user's mask, and the row as the scores see it.
    pub(super) dropped: Vec<Row>,
    /// What masks are drawn from.
    pub(super) seed: u64,
    /// For each of the tiles that are kept in registers at once, so that none waits for another's.
    pub(super) noise: [V::Noise; TILES],
}

/// A seed of the noise that rounding draws from, of this batch's own: the same batch is rounded in the same way.
pub(super) fn noise_seed(runs: &Runs<'_>, update: &Update) -> u64 {
    let mut seed = u64::from(update.learning_rate.to_bits());
    for id in runs.users.iter().chain(runs.negatives).take(16) {
        seed = mix(seed.wrapping_mul(GOLDEN) ^ u64::from(*id));
    }
    seed
}

impl<V: Lanes> Scratch<V> {
    /// # Safety
    /// The machine has the instruction set of `V`.
    #[inline(always)]
    pub(super) unsafe fn new(mut seed: u64) -> Self {
        let zeros = [0f32; GROUP];
        let mut seeds = [[0u32; 16]; TILES];
        for state in seeds.iter_mut().flatten() {
            seed = seed.wrapping_add(GOLDEN);
            *state = mix(seed) as u32;
        }
        // SAFETY: passed on from the caller.
        let noise = unsafe { [V::noise(&seeds[0]), V::noise(&seeds[1]), V::noise(&seeds[2]), V::noise(&seeds[3])] };
        Self {
            dots: zeros,
            squares: zeros,
            scores: zeros,
            shifted: zeros,
            gradient: zeros,
            toward_user: zeros,
            own: zeros,
            kept: zeros,
            rates: zeros,
            user_gradient: Row([0f32; MAX_STRIDE]),
            dropped: Vec::new(),
            seed: 0,
            noise,
        }
    }

    /// Makes room for the masks of users, to be drawn from `seed`.
    pub(super) fn make_room_to_drop(&mut self, seed: u64) {
        self.dropped = vec![Row([0f32; MAX_STRIDE]); 2];
        self.seed = seed;
    }
}
