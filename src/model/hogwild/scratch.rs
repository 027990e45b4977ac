//! Memory that the kernel works in.

use super::{GROUP, MAX_STRIDE};

/// Room for a user's gradient.
#[repr(align(64))]
pub(super) struct UserGradient(pub(super) [f32; MAX_STRIDE]);

/// What a group needs while it is at work, by item; made once a batch.
pub(super) struct Scratch {
    pub(super) dots: [f32; GROUP],
    pub(super) squares: [f32; GROUP],
    pub(super) scores: [f32; GROUP],
    pub(super) shifted: [f32; GROUP],
    pub(super) gradient: [f32; GROUP],
    pub(super) toward_user: [f32; GROUP],
    pub(super) own: [f32; GROUP],
    pub(super) rates: [f32; GROUP],
    pub(super) user_gradient: UserGradient,
}

impl Scratch {
    pub(super) fn new() -> Self {
        let zeros = [0f32; GROUP];
        Self {
            dots: zeros,
            squares: zeros,
            scores: zeros,
            shifted: zeros,
            gradient: zeros,
            toward_user: zeros,
            own: zeros,
            rates: zeros,
            user_gradient: UserGradient([0f32; MAX_STRIDE]),
        }
    }
}
