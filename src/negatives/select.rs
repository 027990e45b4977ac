//! Which of the candidates becomes the negative, by their scores.

use rand::{Rng, RngExt};

use super::{MixConfig, Select, below};

/// The numbers of a component at a moment of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Now {
    pub(super) share: f64,
    pub(super) candidates: f64,
    pub(super) top: usize,
    pub(super) temperature: f32,
    pub(super) hardness: f32,
    pub(super) margin: f32,
    pub(super) noise: f32,
}

impl Now {
    /// `margin` is the default one.
    pub(super) fn at(config: &MixConfig, progress: f64, margin: f64) -> Self {
        let of = |value: &Option<super::Scheduled>, default: f64| value.as_ref().map_or(default, |v| v.at(progress));
        let candidates = match config.select {
            Select::First if config.filters() => 8.0,
            Select::First => 1.0,
            Select::Violation => 64.0,
            _ => 8.0,
        };
        Self {
            share: config.share.at(progress).max(0.0),
            candidates: of(&config.candidates, candidates),
            top: of(&config.top, 4.0).round().max(1.0) as usize,
            temperature: of(&config.temperature, 1.0) as f32,
            hardness: of(&config.hardness, 0.1) as f32,
            margin: of(&config.margin, margin) as f32,
            noise: of(&config.noise, 0.0) as f32,
        }
    }
}

/// A draw of the standard normal distribution (Box & Muller 1958).
pub(super) fn normal(rng: &mut impl Rng) -> f32 {
    let (u, v) = (1.0 - rng.random::<f32>(), rng.random::<f32>());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

/// The score that AHNS aims at: β(s⁺ + α)^(p + 1). The sum is kept above 0, where the power is defined.
pub(super) fn aim(positive: f32, config: &MixConfig, hardness: f32) -> f32 {
    let (shift, power) = (config.shift.unwrap_or(1.0) as f32, config.power.unwrap_or(-2.0) as f32);
    hardness * (positive + shift).max(1e-3).powf(power + 1.0)
}

/// The index of the candidate that `config` selects, of at least one. `order` is room to work in. O(candidates).
pub(super) fn choose(
    config: &MixConfig,
    now: &Now,
    positive: f32,
    scores: &[f32],
    order: &mut Vec<u32>,
    rng: &mut impl Rng,
) -> usize {
    let least = |key: &dyn Fn(f32) -> f32| {
        let mut best = (0, key(scores[0]));
        for (i, score) in scores.iter().enumerate().skip(1) {
            let value = key(*score);
            if value < best.1 {
                best = (i, value);
            }
        }
        best.0
    };
    match config.select {
        Select::First | Select::Violation => 0,
        Select::Hardest => least(&|s| -s),
        Select::Adaptive => {
            let aim = aim(positive, config, now.hardness);
            least(&|s| (s - aim).abs())
        }
        Select::Top => {
            let top = now.top.min(scores.len());
            order.clear();
            order.extend(0..scores.len() as u32);
            if top < scores.len() {
                order.select_nth_unstable_by(top - 1, |a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
            }
            order[below(top, rng)] as usize
        }
        Select::Softmax => {
            let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let part = |s: f32| ((s - most) / now.temperature).exp();
            let mut left = rng.random::<f32>() * scores.iter().map(|s| part(*s)).sum::<f32>();
            let mut chosen = 0;
            for (i, score) in scores.iter().enumerate() {
                chosen = i;
                left -= part(*score);
                if left < 0.0 {
                    break;
                }
            }
            chosen
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_follows;
    use super::*;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    fn drawn(text: &str, positive: f32, scores: &[f32]) -> Vec<u32> {
        let config: MixConfig = toml::from_str(text).unwrap();
        let now = Now::at(&config, 0.0, 1.0);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(23);
        let mut order = Vec::new();
        (0..40_000).map(|_| choose(&config, &now, positive, scores, &mut order, &mut rng) as u32).collect()
    }

    #[test]
    fn every_selection_follows_its_definition() {
        let scores: Vec<f32> = (0..12).map(|i| (i as f32 * 1.7).sin() * 2.0).collect();
        let mut ranked: Vec<usize> = (0..12).collect();
        ranked.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let among = |few: &[usize]| (0..12).map(|i| f64::from(u8::from(few.contains(&i)))).collect::<Vec<_>>();

        assert_follows(&drawn("select = \"hardest\"", 0.0, &scores), &among(&ranked[..1]));
        assert_follows(&drawn("select = \"top\"\ntop = 5", 0.0, &scores), &among(&ranked[..5]));
        assert_follows(&drawn("select = \"top\"\ntop = 50", 0.0, &scores), &[1.0; 12]);
        for temperature in [0.3f64, 1.0, 20.0] {
            let text = format!("select = \"softmax\"\ntemperature = {temperature}");
            let weights: Vec<f64> = scores.iter().map(|s| (f64::from(*s) / temperature).exp()).collect();
            assert_follows(&drawn(&text, 0.0, &scores), &weights);
        }
        // β(s⁺ + α)^(p + 1) = 2(1.5 + 0.5)^−1 = 1.
        let text = "select = \"adaptive\"\nhardness = 2\nshift = 0.5\npower = -2";
        let nearest = (0..12).min_by(|a, b| (scores[*a] - 1.0).abs().total_cmp(&(scores[*b] - 1.0).abs())).unwrap();
        assert_follows(&drawn(text, 1.5, &scores), &among(&[nearest]));
    }

    #[test]
    fn noise_is_normal() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(29);
        let draws: Vec<f64> = (0..100_000).map(|_| f64::from(normal(&mut rng))).collect();
        // Probabilities of the intervals cut by −1, 0, 1 and 2.
        let bins: Vec<u32> =
            draws.iter().map(|x| [-1.0, 0.0, 1.0, 2.0].iter().filter(|c| x > c).count() as u32).collect();
        assert_follows(&bins, &[0.158_655_254, 0.341_344_746, 0.341_344_746, 0.135_905_122, 0.022_750_132]);
    }
}
