//! How negatives came about: every candidate, what filtered it, and why one was chosen. Written down where they are
//! drawn, for the positives that somebody asks about, and without a draw of its own.

use std::fmt;

use super::source::Refused;
use super::{Scores, SharedBlock};

/// Candidates of one positive that are written down, about: a negative that begins beyond them is left out.
const MOST: usize = 1 << 14;

/// What kept a candidate from being a negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filtered {
    /// The user has it.
    Positive,
    /// It is a negative of this positive already.
    Repeated,
    /// It is not of the context of the positive.
    SameContext,
    /// It is too near to the positive.
    MinDistance,
    /// Its score is outside the band.
    Band,
}

impl Filtered {
    /// As in the audit, and where there is one, as the key in TOML.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Positive => "positive",
            Self::Repeated => "without replacement",
            Self::SameContext => "same_context",
            Self::MinDistance => "min_distance",
            Self::Band => "band",
        }
    }

    /// Whether it was refused as it was drawn, before the component looked at it.
    fn at_the_draw(self) -> bool {
        matches!(self, Self::Positive | Self::Repeated | Self::SameContext)
    }
}

/// Why a candidate became the negative. `of` counts the candidates that passed the filters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Chosen {
    First,
    Hardest {
        of: u32,
    },
    Top {
        top: u32,
        of: u32,
    },
    Softmax {
        chance: f32,
        of: u32,
    },
    Adaptive {
        aim: f32,
        of: u32,
    },
    Violation {
        by: f32,
        tries: u32,
    },
    Shared,
    /// A uniform one, where the component had nothing to propose; `context` if it had to be of the same context.
    Filled {
        context: bool,
    },
    /// No candidate passed or violated: the last one, without weight; with `context` any, because nothing of the same
    /// context is allowed.
    Void {
        context: bool,
    },
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::First => write!(f, "first"),
            Self::Hardest { of } => write!(f, "hardest of {of}"),
            Self::Top { top, of } => write!(f, "among top {top} of {of}"),
            Self::Softmax { chance, of } => write!(f, "softmax: {chance:.3} among {of}"),
            Self::Adaptive { aim, of } => write!(f, "nearest of {of} to {aim:.3}"),
            Self::Violation { by, tries } => write!(f, "violates by {by:.3}, try {tries}"),
            Self::Shared => write!(f, "shared by the block"),
            Self::Filled { context: false } => write!(f, "filled in: nothing to propose"),
            Self::Filled { context: true } => write!(f, "filled in of the same context"),
            Self::Void { context: false } => write!(f, "no weight: none passed"),
            Self::Void { context: true } => write!(f, "no weight: nothing of the same context"),
        }
    }
}

/// A candidate for one negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// Which of the positive's negatives it was a candidate for, from 0.
    pub(crate) slot: u32,
    /// Which component of the mixture proposed it; 0 without one.
    pub(crate) component: u8,
    pub(crate) item: u32,
    /// NaN until it is known.
    pub(crate) score: f32,
    /// Added to the score that it was selected by.
    pub(crate) noise: f32,
    pub(crate) filtered: Option<Filtered>,
    pub(crate) chosen: Option<Chosen>,
    /// What it counts in the loss, if it was chosen.
    pub(crate) weight: f32,
    /// Added to its score in the loss, if it was chosen; NaN where nothing is.
    pub(crate) correction: f32,
}

impl Candidate {
    /// Whether it stands in for what its component could not propose.
    pub(crate) fn is_filled(&self) -> bool {
        matches!(self.chosen, Some(Chosen::Filled { .. }))
    }

    /// Whether it has no weight, because no candidate passed.
    pub(crate) fn is_void(&self) -> bool {
        matches!(self.chosen, Some(Chosen::Void { .. }))
    }
}

/// How the negatives of one positive came about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) user: u32,
    pub(crate) positive: u32,
    pub(crate) score: f32,
    /// In the order in which they were drawn.
    pub(crate) candidates: Vec<Candidate>,
}

impl Decision {
    /// Bytes that a decision takes while it is made, at most: no negative has more candidates.
    pub(crate) const MOST_BYTES: usize = (MOST + super::MAX_CANDIDATES) * size_of::<Candidate>() * 2;
}

/// Who asks.
pub(crate) trait Auditor: Sync {
    /// Whether it asks about the positive `item` of `user`.
    fn takes(&self, user: u32, item: u32) -> bool;

    /// Takes what it asked about.
    fn keep(&self, decision: Decision);
}

/// A decision in the making.
#[derive(Clone, Debug)]
pub(super) struct Trail {
    decision: Decision,
    slot: u32,
    component: u8,
    /// The negatives so far.
    taken: Vec<u32>,
    full: bool,
}

impl Trail {
    /// Of the positive `item` of `user`, if `auditor` asks about it.
    pub(super) fn begin(auditor: Option<&dyn Auditor>, user: u32, item: u32) -> Option<Self> {
        auditor.filter(|auditor| auditor.takes(user, item))?;
        let decision = Decision { user, positive: item, score: f32::NAN, candidates: Vec::new() };
        Some(Self { decision, slot: 0, component: 0, taken: Vec::new(), full: false })
    }

    /// The negative `slot` comes next, from `component`.
    pub(super) fn next(&mut self, slot: usize, component: usize) {
        self.full = self.decision.candidates.len() >= MOST;
        (self.slot, self.component) = (slot as u32, component as u8);
    }

    /// A draw was refused.
    pub(super) fn refuse(&mut self, item: u32, why: Refused) {
        // So that what is left fits, however often nothing is found.
        if self.decision.candidates.len() < MOST {
            let filtered = match why {
                Refused::Outside => Filtered::SameContext,
                Refused::Excluded if self.taken.contains(&item) => Filtered::Repeated,
                Refused::Excluded => Filtered::Positive,
            };
            self.candidate(item, f32::NAN, 0.0, Some(filtered));
        }
    }

    /// A candidate was looked at. `score` is NaN where it did not matter.
    pub(super) fn candidate(&mut self, item: u32, score: f32, noise: f32, filtered: Option<Filtered>) {
        if !self.full {
            let (slot, component) = (self.slot, self.component);
            let (chosen, weight, correction) = (None, f32::NAN, f32::NAN);
            let one = Candidate { slot, component, item, score, noise, filtered, chosen, weight, correction };
            self.decision.candidates.push(one);
        }
    }

    /// The noise of the last candidate.
    pub(super) fn last_noise(&self) -> f32 {
        self.decision.candidates.last().map_or(0.0, |last| last.noise)
    }

    /// The negative is `item`, the candidate with `behind` others after it.
    pub(super) fn choose(&mut self, item: u32, behind: usize, weight: f32, why: Chosen) {
        self.taken.push(item);
        let candidates = &mut self.decision.candidates;
        if let Some(at) = candidates.len().checked_sub(behind + 1).filter(|_| !self.full) {
            (candidates[at].chosen, candidates[at].weight) = (Some(why), weight);
        }
    }

    /// The negative is the candidate `item`, without weight: none passed.
    pub(super) fn make_do(&mut self, item: u32) {
        // Draws that were refused may have come after it.
        let looked = |c: &&Candidate| !c.filtered.is_some_and(Filtered::at_the_draw);
        let behind = self.decision.candidates.iter().rev().position(|c| c.item == item && looked(&c)).unwrap_or(0);
        self.choose(item, behind, 0.0, Chosen::Void { context: false });
    }

    /// All negatives are there: looks up the scores that nobody needed before.
    pub(super) fn complete(&mut self, positive: f32, scores: &impl Scores) {
        let Decision { user, score, candidates, .. } = &mut self.decision;
        *score = positive;
        let unknown: Vec<usize> = (0..candidates.len()).filter(|k| candidates[*k].score.is_nan()).collect();
        let items: Vec<u32> = unknown.iter().map(|k| candidates[*k].item).collect();
        let mut found = vec![0.0; items.len()];
        scores.of_user(*user, &items, &mut found);
        unknown.into_iter().zip(found).for_each(|(k, score)| candidates[k].score = score);
    }

    /// Hands the decision over. `corrections` are those of the negatives, in turn, or none.
    pub(super) fn end(mut self, corrections: &[f32], auditor: &dyn Auditor) {
        for candidate in self.decision.candidates.iter_mut().filter(|c| c.chosen.is_some()) {
            candidate.correction = corrections.get(candidate.slot as usize).copied().unwrap_or(f32::NAN);
        }
        auditor.keep(self.decision);
    }
}

/// What looks on while a plain sampler draws.
pub(super) trait Onlooker {
    /// The negatives of a positive of `user` come next.
    fn begin(&mut self, user: u32, block: &[u32], position: u32);
    /// A draw was refused.
    fn refused(&mut self, block: &[u32], position: u32);
    /// The next negative.
    fn drawn(&mut self, block: &[u32], position: u32);
    /// There are no more negatives; `complete` if there are as many as there are to be.
    fn end(&mut self, complete: bool);
}

/// Costs nothing.
pub(super) struct NoOne;

impl Onlooker for NoOne {
    #[inline(always)]
    fn begin(&mut self, _: u32, _: &[u32], _: u32) {}
    #[inline(always)]
    fn refused(&mut self, _: &[u32], _: u32) {}
    #[inline(always)]
    fn drawn(&mut self, _: &[u32], _: u32) {}
    #[inline(always)]
    fn end(&mut self, _: bool) {}
}

/// Writes down what an auditor asks about.
pub(super) struct Looking<'a, S> {
    auditor: &'a dyn Auditor,
    scores: &'a S,
    trail: Option<Trail>,
}

impl<'a, S: Scores> Looking<'a, S> {
    pub(super) fn new(auditor: &'a dyn Auditor, scores: &'a S) -> Self {
        Self { auditor, scores, trail: None }
    }
}

impl<S: Scores> Onlooker for Looking<'_, S> {
    fn begin(&mut self, user: u32, block: &[u32], position: u32) {
        self.trail = Trail::begin(Some(self.auditor), user, block[position as usize]);
    }

    fn refused(&mut self, block: &[u32], position: u32) {
        if let Some(trail) = &mut self.trail {
            trail.refuse(block[position as usize], Refused::Excluded);
        }
    }

    fn drawn(&mut self, block: &[u32], position: u32) {
        if let Some(trail) = &mut self.trail {
            let item = block[position as usize];
            trail.candidate(item, f32::NAN, 0.0, None);
            trail.choose(item, 0, 1.0, Chosen::First);
            trail.next(trail.taken.len(), 0);
        }
    }

    fn end(&mut self, complete: bool) {
        if let Some(mut trail) = self.trail.take().filter(|_| complete) {
            let mut score = [0f32];
            self.scores.of_user(trail.decision.user, &[trail.decision.positive], &mut score);
            trail.complete(score[0], self.scores);
            trail.end(&[], self.auditor);
        }
    }
}

/// Hands over what `auditor` asks of a block of positives that share negatives.
pub(crate) fn audit_block(block: &SharedBlock, scores: &impl Scores, auditor: &dyn Auditor) {
    let negatives = &block.items[..block.negatives];
    // Pairs that are masked come in the order of their positives.
    let mut masked = &block.masked[..];
    for (p, (user, item)) in block.user_of.iter().zip(&block.item_of).enumerate() {
        let (own, later) = masked.split_at(masked.iter().take_while(|(of, _)| *of as usize == p).count());
        masked = later;
        let (user, item) = (block.users[*user as usize], block.items[*item as usize]);
        let Some(mut trail) = Trail::begin(Some(auditor), user, item) else { continue };
        let mut out = vec![0.0; negatives.len()];
        scores.of_user(user, negatives, &mut out);
        for (slot, (negative, score)) in negatives.iter().zip(out).enumerate() {
            trail.next(slot, 0);
            let taken = own.iter().any(|(_, masked)| *masked as usize == slot);
            trail.candidate(*negative, score, 0.0, taken.then_some(Filtered::Positive));
            if !taken {
                trail.choose(*negative, 0, 1.0, Chosen::Shared);
            }
        }
        let mut score = [0f32];
        scores.of_user(user, &[item], &mut score);
        trail.complete(score[0], scores);
        // What a loss subtracts.
        let corrections: Vec<f32> = block.corrections.iter().take(negatives.len()).map(|c| -c).collect();
        trail.end(&corrections, auditor);
    }
}
