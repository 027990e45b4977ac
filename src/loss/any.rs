//! Every loss as one type: which it is is looked up once for a group of positives, so that kernels need not be compiled
//! for each of them.

use super::{
    Atan, Bpr, Bsl, Ccl, Entropy, Focal, Hinge, Listwise, Logistic, Loss, OfLists, Psl, Relu, Softmax, Tanh, Terms,
    list,
};

/// A loss, whatever it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base {
    Bpr(Bpr),
    Logistic(Logistic),
    Focal(Focal),
    Hinge(Hinge),
    Listwise(AnyListwise),
}

/// A listwise loss, whichever it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AnyListwise {
    Softmax(Softmax),
    Bsl(Bsl),
    Ccl(Ccl),
    Tanh(Psl<Tanh>),
    Atan(Psl<Atan>),
    Relu(Psl<Relu>),
}

/// A loss with what goes with any of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnyLoss {
    pub(crate) base: Base,
    /// What the loss and its gradient are multiplied by.
    pub(crate) scale: f32,
    /// Entropy regularization of pairs and scores; losses over lists have their own.
    pub(crate) entropy: Option<Entropy>,
}

/// Does the same with the loss, as one over pairs or scores, or as one over lists.
macro_rules! each {
    ($base:expr, $loss:ident => $plain:expr, $list:expr) => {
        match $base {
            Base::Bpr($loss) => $plain,
            Base::Logistic($loss) => $plain,
            Base::Focal($loss) => $plain,
            Base::Hinge($loss) => $plain,
            Base::Listwise(AnyListwise::Softmax($loss)) => $list,
            Base::Listwise(AnyListwise::Bsl($loss)) => $list,
            Base::Listwise(AnyListwise::Ccl($loss)) => $list,
            Base::Listwise(AnyListwise::Tanh($loss)) => $list,
            Base::Listwise(AnyListwise::Atan($loss)) => $list,
            Base::Listwise(AnyListwise::Relu($loss)) => $list,
        }
    };
}

impl AnyLoss {
    /// The margin of a hinge on pairs; nothing for other losses.
    pub(crate) fn hinge_margin(&self) -> Option<f32> {
        if let Base::Hinge(hinge) = self.base { Some(hinge.margin) } else { None }
    }

    /// Whether it is a hinge on lists.
    pub(crate) fn is_ccl(&self) -> bool {
        matches!(self.base, Base::Listwise(AnyListwise::Ccl(_)))
    }

    /// Whether it is one over lists whose positives share the sums over negatives where they share the negatives.
    pub(crate) fn is_separate(&self) -> bool {
        fn separate<L: Listwise>(_: &L) -> bool {
            L::SEPARATE
        }
        fn never(_: &impl Loss) -> bool {
            false
        }
        each!(&self.base, loss => never(loss), separate(loss))
    }

    /// The gradient of a loss over lists, of positives that share all negatives, each of which counts `weights` times;
    /// `scratch` is as long as those. Nothing for other losses.
    #[inline(always)]
    pub(crate) fn shared_gradient(
        &self,
        positives: &[f32],
        (negatives, weights): (&[f32], &[f32]),
        pg: &mut [f32],
        ng: &mut [f32],
        scratch: &mut [f32],
    ) {
        fn nothing(_: impl Loss) {}
        each!(
            self.base,
            loss => nothing(loss),
            list::shared_gradient(loss, positives, (negatives, weights), pg, ng, scratch)
        );
        for g in pg.iter_mut().chain(ng) {
            *g *= self.scale;
        }
    }
}

impl Loss for AnyLoss {
    #[inline(always)]
    fn terms(&self) -> Terms {
        fn over_lists(_: &impl Listwise) -> Terms {
            Terms::Lists
        }
        each!(&self.base, loss => loss.terms(), over_lists(loss))
    }

    #[inline(always)]
    fn gradient(&self, positives: &[f32], negatives: &[f32], lists: OfLists<'_>, pg: &mut [f32], ng: &mut [f32]) {
        each!(
            self.base,
            loss => loss.gradient(positives, negatives, lists, pg, ng),
            list::gradient(loss, positives, negatives, lists, pg, ng)
        );
        match (self.entropy, self.terms()) {
            (Some(entropy), Terms::Pairs) => entropy.add_to_pairs(positives, negatives, pg, ng),
            (Some(entropy), Terms::Scores) => {
                entropy.add_to_scores(positives, pg);
                entropy.add_to_scores(negatives, ng);
            }
            _ => {}
        }
        if self.scale != 1.0 {
            for g in pg {
                *g *= self.scale;
            }
            for g in ng {
                *g *= self.scale;
            }
        }
    }

    fn value(&self, positives: &[f32], negatives: &[f32], lists: OfLists<'_>) -> f32 {
        let own = each!(
            self.base,
            loss => loss.value(positives, negatives, lists),
            list::value(loss, positives, negatives, lists)
        );
        let entropy = match (self.entropy, self.terms()) {
            (Some(entropy), Terms::Pairs) => entropy.of_pairs(positives, negatives),
            (Some(entropy), Terms::Scores) => entropy.of_scores(positives) + entropy.of_scores(negatives),
            _ => 0.0,
        };
        self.scale * (own + entropy)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_gradient_of_lists;
    use super::*;
    use proptest::prelude::*;

    fn bases(t: f32, entropy: Option<Entropy>) -> [Base; 10] {
        let inverse_temperature = t;
        [
            Base::Bpr(Bpr { inverse_temperature }),
            Base::Logistic(Logistic { inverse_temperature, smoothing: 0.2 }),
            Base::Focal(Focal { inverse_temperature, gamma: 2.0 }),
            Base::Hinge(Hinge { margin: 9.0 }),
            Base::Listwise(AnyListwise::Softmax(Softmax { inverse_temperature, entropy })),
            Base::Listwise(AnyListwise::Bsl(Bsl { inverse_temperature, exponent: 1.3, entropy })),
            // The margin is where no score comes near: there is no gradient at a kink.
            Base::Listwise(AnyListwise::Ccl(Ccl { margin: -9.0, weight: 3.0 })),
            Base::Listwise(AnyListwise::Tanh(Psl { inverse_temperature, surrogate: Tanh })),
            Base::Listwise(AnyListwise::Atan(Psl { inverse_temperature, surrogate: Atan })),
            Base::Listwise(AnyListwise::Relu(Psl { inverse_temperature, surrogate: Relu })),
        ]
    }

    proptest! {
        #[test]
        fn gradients_equal_differences(
            p in proptest::collection::vec(-0.9f32..0.9, 1..4), each in 1usize..6, t in 0.5f32..3.0, scale in 0.5f32..2.0,
            weight in 0f32..1.5, weighted: bool, offset: bool,
        ) {
            let numbers = |n: usize, seed: f32| (0..n).map(|j| (j as f32 * 0.7 + seed).sin() * 0.9).collect::<Vec<f32>>();
            let negatives = numbers(p.len() * each, 0.3);
            // One negative in four or so has no weight.
            let weights: Vec<f32> = numbers(if weighted { negatives.len() } else { 0 }, 1.7)
                .iter().map(|w| (w + 0.5).max(0.0)).collect();
            let (po, no) = if offset { (numbers(p.len(), 2.0), numbers(negatives.len(), 3.0)) } else { (vec![], vec![]) };
            let lists = OfLists { weights: &weights, positive_offsets: &po, negative_offsets: &no };
            let entropy = Some(Entropy { weight, inverse_temperature: t });
            for base in bases(t, entropy) {
                let of_pairs = entropy.filter(|_| !matches!(base, Base::Hinge(_)));
                check_gradient_of_lists(AnyLoss { base, scale, entropy: of_pairs }, &p, &negatives, lists);
            }
        }

        #[test]
        fn a_weight_counts_as_so_many_copies(
            p in -0.9f32..0.9, negatives in proptest::collection::vec((-0.9f32..0.9, 0usize..4), 1..6), t in 0.5f32..3.0,
        ) {
            prop_assume!(negatives.iter().any(|n| n.1 > 0));
            let entropy = Some(Entropy { weight: 0.3, inverse_temperature: t });
            let scores: Vec<f32> = negatives.iter().map(|n| n.0).collect();
            let weights: Vec<f32> = negatives.iter().map(|n| n.1 as f32).collect();
            let copies: Vec<f32> = negatives.iter().flat_map(|n| vec![n.0; n.1]).collect();
            let lists = OfLists { weights: &weights, ..OfLists::default() };
            for base in bases(t, entropy).into_iter().skip(4) {
                let loss = AnyLoss { base, scale: 1.0, entropy: None };
                let (mut pg, mut ng) = ([0.0], vec![0.0; scores.len()]);
                loss.gradient(&[p], &scores, lists, &mut pg, &mut ng);
                let (mut pc, mut nc) = ([0.0], vec![0.0; copies.len()]);
                loss.gradient(&[p], &copies, OfLists::default(), &mut pc, &mut nc);
                let mut at = 0;
                for (g, n) in ng.iter().zip(&negatives) {
                    let sum: f32 = nc[at..at + n.1].iter().sum();
                    at += n.1;
                    prop_assert!((g - sum).abs() < 1e-4 * (1.0 + sum.abs()), "{base:?}: {g} {sum}");
                }
                prop_assert!((pg[0] - pc[0]).abs() < 1e-4 * (1.0 + pc[0].abs()), "{base:?}: {pg:?} {pc:?}");
                let (a, b) = (loss.value(&[p], &scores, lists), loss.value(&[p], &copies, OfLists::default()));
                prop_assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{base:?}: {a} {b}");
            }
        }
    }

    proptest! {
        #[test]
        fn positives_that_share_negatives_have_the_gradients_of_their_lists(
            p in proptest::collection::vec(-0.9f32..0.9, 1..6), negatives in proptest::collection::vec((-0.9f32..0.9, -0.3f32..2.0), 1..40),
            t in 0.5f32..8.0, scale in 0.5f32..2.0, entropy in -0.2f32..1.0,
        ) {
            let (scores, weights): (Vec<f32>, Vec<f32>) = negatives.iter().map(|(s, w)| (*s, w.max(0.0))).unzip();
            prop_assume!(weights.iter().sum::<f32>() > 0.0);
            let lists = OfLists { weights: &weights, ..OfLists::default() };
            for base in bases(t, Some(Entropy { weight: entropy, inverse_temperature: t })).into_iter().skip(4) {
                let loss = AnyLoss { base, scale, entropy: None };
                let (mut sum, mut own) = (vec![0.0; scores.len()], vec![0.0; p.len()]);
                let mut one = sum.clone();
                for (p, pg) in p.chunks(1).zip(own.chunks_mut(1)) {
                    loss.gradient(p, &scores, lists, pg, &mut one);
                    sum.iter_mut().zip(&one).for_each(|(sum, g)| *sum += g);
                }
                let (mut pg, mut ng) = (vec![7.0; p.len()], vec![7.0; scores.len()]);
                loss.shared_gradient(&p, (&scores, &weights), &mut pg, &mut ng, &mut one);
                let largest = sum.iter().chain(&own).fold(1e-3f32, |most, g| most.max(g.abs()));
                for (a, b) in pg.iter().zip(&own).chain(ng.iter().zip(&sum)) {
                    prop_assert!((a - b).abs() <= 1e-4 * largest, "{base:?}: {pg:?} {own:?}, {ng:?} {sum:?}");
                }
            }
        }
    }

    #[test]
    fn positives_far_above_all_negatives_and_lists_in_which_nothing_counts_have_no_gradient() {
        for base in bases(200.0, None).into_iter().skip(4) {
            let loss = AnyLoss { base, scale: 1.0, entropy: None };
            let (mut pg, mut ng, mut scratch) = ([7.0; 2], [7.0; 3], [0.0; 3]);
            let negatives = [-0.9, -0.8, -0.7];
            loss.shared_gradient(&[0.9, -0.9], (&negatives, &[1.0; 3]), &mut pg, &mut ng, &mut scratch);
            assert!(pg.iter().chain(&ng).all(|g| g.is_finite()), "{base:?}: {pg:?} {ng:?}");
            loss.shared_gradient(&[0.9, -0.9], (&negatives, &[0.0; 3]), &mut pg, &mut ng, &mut scratch);
            assert_eq!((pg, ng), ([0.0; 2], [0.0; 3]), "{base:?}");
        }
    }

    #[test]
    fn a_list_in_which_nothing_counts_is_left_alone() {
        let (mut pg, mut ng) = ([1.0; 2], [1.0; 4]);
        let lists = OfLists { weights: &[0.0, 0.0, 1.0, 0.0], ..OfLists::default() };
        for base in bases(2.0, None).into_iter().skip(4) {
            let loss = AnyLoss { base, scale: 1.0, entropy: None };
            loss.gradient(&[0.1, 0.2], &[0.3, 0.4, 0.1, 0.9], lists, &mut pg, &mut ng);
            assert_eq!((pg[0], ng[0], ng[1], ng[3]), (0.0, 0.0, 0.0, 0.0), "{base:?}");
            assert!(ng[2] > 0.0 && loss.value(&[0.1, 0.2], &[0.3, 0.4, 0.1, 0.9], lists).is_finite());
        }
        // What does not count does not overflow, however low the temperature.
        let entropy = Some(Entropy { weight: 0.1, inverse_temperature: 200.0 });
        for base in bases(200.0, entropy).into_iter().skip(4) {
            let loss = AnyLoss { base, scale: 1.0, entropy: None };
            loss.gradient(&[0.1, 0.2], &[0.3, 0.4, 0.1, 0.9], lists, &mut pg, &mut ng);
            assert!(pg.iter().chain(&ng).all(|g| g.is_finite()) && ng[3] == 0.0, "{base:?}: {pg:?} {ng:?}");
            assert!(loss.value(&[0.1, 0.2], &[0.3, 0.4, 0.1, 0.9], lists).is_finite(), "{base:?}");
        }
    }
}
