//! Who is evaluated: users with held-out interactions, and what is masked for them.

use super::{EvaluateError, EvaluateOptions};
use crate::context::Context;
use crate::dataset::{Dataset, Interactions, Part};
use crate::rank::{Known, Seen, sample};

/// The users to evaluate: nothing is held of them, unless they are a sample.
pub(super) struct Cases<'a> {
    dataset: &'a Dataset,
    include_cold: bool,
    /// Whom all scorers at hand know; the others came later.
    known: Known,
    /// How many are to be sampled.
    wanted: Option<usize>,
    /// Ascending; `None` for all.
    sample: Option<Vec<u32>>,
    pub(super) held_out: &'a Interactions,
    /// How many there are.
    pub(super) users: u64,
    pub(super) interactions: u64,
    /// Users with held-out interactions but none in train, whether or not they are evaluated.
    pub(super) cold: u64,
    /// Users with held-out interactions and some in train who came later, whether or not they are evaluated.
    pub(super) later: u64,
    /// The most held-out interactions that one user has, be it in the sample or not.
    pub(super) most: usize,
    /// The most items that are masked for one user, be it in the sample or not.
    pub(super) most_seen: usize,
    /// What is masked: train, and the validation part when test is evaluated.
    pub(super) seen: Seen<'a>,
}

impl<'a> Cases<'a> {
    /// Of the `known` users, and the others if cold ones are included.
    pub(super) fn collect(
        dataset: &'a Dataset,
        known: Known,
        options: &EvaluateOptions,
        ctx: &Context,
    ) -> Result<Self, EvaluateError> {
        let present: Vec<&str> = dataset.parts().map(|(part, _)| part.name()).collect();
        let held_out = dataset.part(options.part).ok_or_else(|| EvaluateError::NoPart {
            dataset: dataset.path().to_path_buf(),
            part: options.part,
            present: present.join(" and "),
        })?;
        let parts = match options.part {
            Part::Train => Vec::new(),
            Part::Valid => vec![dataset.train()],
            Part::Test => std::iter::once(dataset.train()).chain(dataset.part(Part::Valid)).collect(),
        };
        let (include_cold, seen) = (options.include_cold, Seen::new(parts));
        let (wanted, sample) = (None, None);
        let (users, interactions, cold, later, most, most_seen) = (0, 0, 0, 0, 0, 0);
        let mut cases = Self {
            dataset,
            include_cold,
            known,
            wanted,
            sample,
            held_out,
            users,
            interactions,
            cold,
            later,
            most,
            most_seen,
            seen,
        };
        for c in 0..held_out.chunks() {
            ctx.check()?;
            let chunk = held_out.chunk(c);
            for u in 0..chunk.users() {
                let (user, count) = (chunk.first_user() + u as u32, chunk.user(u).items.len());
                let (is_cold, is_later) = (count > 0 && cases.is_cold(user), !cases.known.has(user));
                cases.cold += u64::from(is_cold);
                cases.later += u64::from(count > 0 && !is_cold && is_later);
                if count > 0 && (include_cold || !(is_cold || is_later)) {
                    cases.users += 1;
                    cases.interactions += count as u64;
                    cases.most = cases.most.max(count);
                    cases.most_seen = cases.most_seen.max(cases.seen.len(user));
                }
            }
        }
        if cases.users == 0 {
            let (dataset, part) = (dataset.path().to_path_buf(), options.part);
            return Err(EvaluateError::NoUsers { dataset, part, cold: cases.cold, later: cases.later });
        }
        cases.wanted = options.users.filter(|n| *n > 0 && (*n as u64) < cases.users);
        Ok(cases)
    }

    /// Hands each user to `each`.
    pub(super) fn each_user(&self, ctx: &Context, mut each: impl FnMut(u32)) -> Result<(), EvaluateError> {
        for (n, user) in self.users().enumerate() {
            if n.is_multiple_of(1 << 12) {
                ctx.check()?;
            }
            each(user);
        }
        Ok(())
    }

    /// Hands the item of each of their held-out interactions to `each`.
    pub(super) fn each_item(&self, ctx: &Context, mut each: impl FnMut(u32)) -> Result<(), EvaluateError> {
        self.each_user(ctx, |user| self.held_out.user(user).items.iter().for_each(|item| each(item.to_native())))
    }

    fn is_cold(&self, user: u32) -> bool {
        self.dataset.train().user(user).items.is_empty()
    }

    /// Whether `user`, who has held-out interactions, is evaluated.
    fn is_ranked(&self, user: u32) -> bool {
        self.include_cold || self.known.has(user) && !self.is_cold(user)
    }

    /// Restricts them to the sample that was asked for, if one was. To be called when it is clear that [`Cases::bytes`]
    /// fit the budget.
    pub(super) fn sample(&mut self, seed: u64, ctx: &Context) -> Result<(), EvaluateError> {
        let Some(wanted) = self.wanted else { return Ok(()) };
        let users = sample(self.users(), wanted, self.bytes() / 4, seed, ctx)?;
        self.users = users.len() as u64;
        self.interactions = users.iter().map(|user| self.held_out.user(*user).items.len() as u64).sum();
        self.sample = Some(users);
        Ok(())
    }

    /// Bytes that are held as long as they are: of the users among whom a sample is chosen, twice as many as it has.
    pub(super) fn bytes(&self) -> usize {
        self.wanted.map_or(0, |wanted| wanted.saturating_mul(2).min(self.held_out.summary().users as usize) * 4)
    }

    /// Whether `user` is evaluated.
    pub(super) fn contains(&self, user: u32) -> bool {
        match &self.sample {
            Some(sample) => sample.binary_search(&user).is_ok(),
            None => !self.held_out.user(user).items.is_empty() && self.is_ranked(user),
        }
    }

    /// The users, ascending.
    pub(super) fn users(&self) -> impl Iterator<Item = u32> + Send + '_ {
        let all = self.sample.is_none().then(|| {
            let chunks = (0..self.held_out.chunks()).map(|c| self.held_out.chunk(c));
            let active = chunks.flat_map(|chunk| {
                let of_chunk = (0..chunk.users()).filter(move |u| !chunk.user(*u).items.is_empty());
                of_chunk.map(move |u| chunk.first_user() + u as u32)
            });
            active.filter(|user| self.is_ranked(*user))
        });
        all.into_iter().flatten().chain(self.sample.iter().flatten().copied())
    }
}
