//! How many rows each user has: log-normal, recomputed from the seed on demand, and exact in total.

use super::blocks::in_order;
use super::config::SynthConfig;
use super::error::SynthError;
use super::random::{Purpose, hash, normal, unit};
use crate::context::Context;

/// Rows a block aims at.
const BLOCK_ROWS: u64 = 32_768;

/// Most users a block holds.
const BLOCK_USERS: u64 = 4_096;

/// The rows of every user, as a function of the user's number.
///
/// A user's share is `min(limit, λ·exp(σ z))` with z standard normal; λ is found so that the shares sum to what is asked
/// for, and each share is rounded up or down at random. What the rounding leaves over or short is spread evenly, one row
/// a user, over the users who have room for it. Only 8 bytes a block of users are kept.
pub(super) struct Activity {
    seed: u64,
    sigma: f64,
    users: u64,
    /// Rows that everyone has: 1, or 0 when there are fewer interactions than users.
    base: u64,
    /// The most a user may have above `base`.
    limit: u64,
    lambda: f64,
    /// Rows still to be handed out (positive) or taken back (negative) after rounding.
    correction: i64,
    /// Users eligible for the correction.
    eligible: u64,
    /// For each block, the eligible users before it.
    eligible_before: Vec<u64>,
    block_users: u64,
}

/// Sums over one block of users.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// Of the weights below the limit.
    weight: f64,
    /// Users at the limit.
    capped: u64,
    /// Rows after rounding, above the base.
    rows: u64,
    /// Users below the limit after rounding.
    with_room: u64,
    /// Users with something to give after rounding.
    with_rows: u64,
}

impl Activity {
    /// Solves for λ: a few passes over the users, 8 bytes of memory a block.
    pub(super) fn new(config: &SynthConfig, ctx: &Context) -> Result<Self, SynthError> {
        let base = u64::from(config.interactions >= config.users);
        let extra = config.interactions - base * config.users;
        let block_users = (u128::from(BLOCK_ROWS) * u128::from(config.users) / u128::from(config.interactions)) as u64;
        let mut activity = Self {
            seed: config.seed,
            sigma: config.activity,
            users: config.users,
            base,
            limit: config.rows_a_user() - base,
            lambda: 0.0,
            correction: 0,
            eligible: 0,
            eligible_before: Vec::new(),
            block_users: block_users.clamp(1, BLOCK_USERS),
        };
        // Capping a user raises λ for the others, which may cap more of them: repeat until none is added.
        let mut sums = activity.sums(ctx, |_| ())?;
        loop {
            let left = extra.saturating_sub(sums.capped * activity.limit);
            if sums.weight > 0.0 {
                activity.lambda = left as f64 / sums.weight;
            }
            let next = activity.sums(ctx, |_| ())?;
            let settled = next.capped == sums.capped;
            sums = next;
            if settled {
                break;
            }
        }
        activity.correction = extra as i64 - sums.rows as i64;
        let more = activity.correction >= 0;
        let mut before = Vec::with_capacity(activity.blocks());
        let mut eligible = 0;
        activity.sums(ctx, |block| {
            before.push(eligible);
            eligible += if more { block.with_room } else { block.with_rows };
        })?;
        activity.eligible_before = before;
        activity.eligible = eligible;
        Ok(activity)
    }

    /// Number of blocks.
    pub(super) fn blocks(&self) -> usize {
        self.users.div_ceil(self.block_users) as usize
    }

    /// The users of a block.
    fn range(&self, block: usize) -> std::ops::Range<u64> {
        let first = block as u64 * self.block_users;
        first..(first + self.block_users).min(self.users)
    }

    /// The users of a block with their rows, in order.
    pub(super) fn of_block(&self, block: usize) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut eligible = self.eligible_before[block];
        self.range(block).map(move |user| {
            let mut rows = self.rounded(user).0;
            let more = self.correction >= 0;
            if if more { rows < self.limit } else { rows > 0 } {
                // The k-th eligible user gets what lies between k and k + 1 on an even ruler.
                let spread = |k: u64| {
                    (u128::from(k) * u128::from(self.correction.unsigned_abs()) / u128::from(self.eligible)) as u64
                };
                let part = spread(eligible + 1) - spread(eligible);
                rows = if more { rows + part } else { rows - part.min(rows) };
                eligible += 1;
            }
            (user, self.base + rows)
        })
    }

    fn weight(&self, user: u64) -> f64 {
        let radius = hash(self.seed, Purpose::Activity, user);
        let angle = hash(self.seed, Purpose::ActivityAngle, user);
        (self.sigma * normal(radius, angle)).exp()
    }

    /// A user's rows above the base before the correction, the user's weight, and whether the limit was met.
    fn rounded(&self, user: u64) -> (u64, f64, bool) {
        let weight = self.weight(user);
        let share = self.lambda * weight;
        if share >= self.limit as f64 {
            return (self.limit, weight, true);
        }
        let rounding = unit(hash(self.seed, Purpose::Rounding, user));
        (((share + rounding) as u64).min(self.limit), weight, false)
    }

    /// Adds up all users, showing `each` block's sums on the way.
    fn sums(&self, ctx: &Context, mut each: impl FnMut(Sums)) -> Result<Sums, SynthError> {
        // Blocks can be as small as a user: a thread takes enough of them for its work to outweigh handing it over.
        let group = (BLOCK_USERS / self.block_users) as usize;
        let of_group = |_: &mut (), place: usize| {
            let blocks = place * group..((place + 1) * group).min(self.blocks());
            blocks.map(|block| self.block_sums(block)).collect::<Vec<_>>()
        };
        let mut all = Sums::default();
        in_order(
            ctx,
            self.blocks().div_ceil(group),
            || (),
            of_group,
            |_, blocks| {
                for block in blocks {
                    all.weight += block.weight;
                    all.capped += block.capped;
                    all.rows += block.rows;
                    all.with_room += block.with_room;
                    all.with_rows += block.with_rows;
                    each(block);
                }
                Ok(())
            },
        )?;
        Ok(all)
    }

    fn block_sums(&self, block: usize) -> Sums {
        let mut sums = Sums::default();
        for user in self.range(block) {
            let (rows, weight, capped) = self.rounded(user);
            if capped {
                sums.capped += 1;
            } else {
                sums.weight += weight;
            }
            sums.rows += rows;
            sums.with_room += u64::from(rows < self.limit);
            sums.with_rows += u64::from(rows > 0);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ByteSize;

    fn rows(config: &SynthConfig) -> Vec<u64> {
        let ctx = Context::new(2, ByteSize(1 << 30));
        let activity = Activity::new(config, &ctx).unwrap();
        let all: Vec<_> = (0..activity.blocks()).flat_map(|b| activity.of_block(b).collect::<Vec<_>>()).collect();
        assert!(all.iter().enumerate().all(|(i, &(user, _))| user == i as u64));
        all.into_iter().map(|(_, rows)| rows).collect()
    }

    #[test]
    fn the_total_is_exact_and_no_user_exceeds_the_items() {
        let cases = [
            (1, 1, 1, 0.0),
            (1, 10, 10, 1.0),
            (100, 10, 1000, 1.0),
            (100, 10, 999, 2.0),
            (100, 10, 700, 3.0),
            (1000, 50, 17, 1.0),
            (1000, 50, 1000, 1.0),
            (1000, 50, 1001, 0.0),
            (5000, 300, 123_457, 1.5),
            (20_000, 100, 30_000, 1.0),
        ];
        for (users, items, interactions, activity) in cases {
            for seed in 0..5 {
                let config = SynthConfig { users, items, interactions, activity, seed, ..SynthConfig::default() };
                let rows = rows(&config);
                assert_eq!(rows.len() as u64, users);
                assert_eq!(rows.iter().sum::<u64>(), interactions, "{users} {items} {interactions} {seed}");
                assert!(rows.iter().all(|&n| n <= items));
                assert!(interactions < users || rows.iter().all(|&n| n >= 1));
            }
        }
    }

    #[test]
    fn activity_is_log_normal() {
        let config = SynthConfig {
            users: 20_000,
            items: 1_000_000,
            interactions: 20_000_000,
            activity: 0.8,
            ..SynthConfig::default()
        };
        let logs: Vec<f64> = rows(&config).into_iter().map(|n| (n as f64).ln()).collect();
        let n = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / n;
        let moment = |p: i32| logs.iter().map(|x| (x - mean).powi(p)).sum::<f64>() / n;
        let sigma = moment(2).sqrt();
        assert!((sigma - 0.8).abs() < 0.02, "σ {sigma}");
        let (skew, kurtosis) = (moment(3) / sigma.powi(3), moment(4) / sigma.powi(4));
        assert!(skew.abs() < 0.1 && (kurtosis - 3.0).abs() < 0.2, "skewness {skew}, kurtosis {kurtosis}");
    }
}
