//! Who is evaluated: users with held-out interactions, and what is masked for them.

use super::{EvaluateError, EvaluateOptions};
use crate::context::{ByteSize, Context};
use crate::dataset::{Dataset, Interactions, Part};
use crate::rank::{Seen, program_bytes, user_seed};

/// The users to evaluate: nothing is held of them, unless they are a sample.
pub(super) struct Cases<'a> {
    dataset: &'a Dataset,
    include_cold: bool,
    /// Ascending; `None` for all.
    sample: Option<Vec<u32>>,
    pub(super) held_out: &'a Interactions,
    /// How many there are.
    pub(super) users: u64,
    pub(super) interactions: u64,
    /// Users with held-out interactions but none in train, whether or not they are evaluated.
    pub(super) cold: u64,
    /// The most held-out interactions that one user has, be it in the sample or not.
    pub(super) most: usize,
    /// What is masked: train, and the validation part when test is evaluated.
    pub(super) seen: Seen<'a>,
}

impl<'a> Cases<'a> {
    pub(super) fn collect(
        dataset: &'a Dataset,
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
        let mut cases =
            Self { dataset, include_cold, sample: None, held_out, users: 0, interactions: 0, cold: 0, most: 0, seen };
        for c in 0..held_out.chunks() {
            ctx.check()?;
            let chunk = held_out.chunk(c);
            for u in 0..chunk.users() {
                let (user, count) = (chunk.first_user() + u as u32, chunk.user(u).items.len());
                let is_cold = count > 0 && cases.is_cold(user);
                cases.cold += u64::from(is_cold);
                if count > 0 && (include_cold || !is_cold) {
                    cases.users += 1;
                    cases.interactions += count as u64;
                    cases.most = cases.most.max(count);
                }
            }
        }
        if cases.users == 0 {
            let (dataset, part, cold) = (dataset.path().to_path_buf(), options.part, cases.cold);
            return Err(EvaluateError::NoUsers { dataset, part, cold });
        }
        match options.users.filter(|n| *n > 0 && (*n as u64) < cases.users) {
            Some(wanted) => cases.sample(wanted, options.seed, ctx)?,
            None => {}
        }
        Ok(cases)
    }

    fn is_cold(&self, user: u32) -> bool {
        self.dataset.train().user(user).items.is_empty()
    }

    /// Restricts them to `wanted`, which is less than there are: those with the smallest hashes, a uniform sample that
    /// threads cannot change.
    fn sample(&mut self, wanted: usize, seed: u64, ctx: &Context) -> Result<(), EvaluateError> {
        let room = Self::sample_room(wanted, self.users);
        let needed = ByteSize((program_bytes(ctx.threads()) + room * 4) as u64);
        if needed > ctx.memory() {
            return Err(EvaluateError::Memory { users: wanted as u64, needed, given: ctx.memory() });
        }
        let mut users: Vec<u32> = Vec::with_capacity(room);
        let keep = |users: &mut Vec<u32>| {
            if users.len() > wanted {
                users.select_nth_unstable_by_key(wanted - 1, |user| user_seed(!seed, *user));
                users.truncate(wanted);
            }
        };
        for user in self.users() {
            if users.len() == room {
                ctx.check()?;
                keep(&mut users);
            }
            users.push(user);
        }
        keep(&mut users);
        users.sort_unstable();
        self.users = users.len() as u64;
        self.interactions = users.iter().map(|user| self.held_out.user(*user).items.len() as u64).sum();
        self.sample = Some(users);
        Ok(())
    }

    /// Users that are held at once to choose `wanted` of `users`.
    fn sample_room(wanted: usize, users: u64) -> usize {
        wanted.saturating_mul(2).min(users as usize)
    }

    /// Bytes that are held as long as they are.
    pub(super) fn bytes(&self) -> usize {
        self.sample.as_ref().map_or(0, |users| users.capacity() * 4)
    }

    /// The users, ascending.
    pub(super) fn users(&self) -> impl Iterator<Item = u32> + Send + '_ {
        let all = self.sample.is_none().then(|| {
            let chunks = (0..self.held_out.chunks()).map(|c| self.held_out.chunk(c));
            let active = chunks.flat_map(|chunk| {
                let of_chunk = (0..chunk.users()).filter(move |u| !chunk.user(*u).items.is_empty());
                of_chunk.map(move |u| chunk.first_user() + u as u32)
            });
            active.filter(|user| self.include_cold || !self.is_cold(*user))
        });
        all.into_iter().flatten().chain(self.sample.iter().flatten().copied())
    }
}
