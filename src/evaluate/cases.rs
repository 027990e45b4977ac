//! Who is evaluated: users with held-out interactions, and what is masked for them.

use super::{EvaluateError, EvaluateOptions};
use crate::context::{ByteSize, Context};
use crate::dataset::{Dataset, Interactions, Part};
use crate::rank::{Seen, user_seed};

/// The users to evaluate. Memory: 4 bytes a user.
pub(super) struct Cases<'a> {
    /// Ascending.
    pub(super) users: Vec<u32>,
    pub(super) held_out: &'a Interactions,
    pub(super) interactions: u64,
    /// Users with held-out interactions but none in train, whether or not they are evaluated.
    pub(super) cold: u64,
    /// The most held-out interactions that one user has.
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
        let needed = u64::from(held_out.summary().users) * 4;
        if needed > ctx.memory().0 {
            let users = u64::from(held_out.summary().users);
            return Err(EvaluateError::Memory { users, needed: ByteSize(needed), given: ctx.memory() });
        }
        let mut users = Vec::with_capacity(held_out.summary().users as usize);
        let mut cold = 0;
        for c in 0..held_out.chunks() {
            ctx.check()?;
            let chunk = held_out.chunk(c);
            for u in (0..chunk.users()).filter(|u| !chunk.user(*u).items.is_empty()) {
                let user = chunk.first_user() + u as u32;
                let is_cold = dataset.train().user(user).items.is_empty();
                cold += u64::from(is_cold);
                if !is_cold || options.include_cold {
                    users.push(user);
                }
            }
        }
        if users.is_empty() {
            return Err(EvaluateError::NoUsers { dataset: dataset.path().to_path_buf(), part: options.part, cold });
        }
        if let Some(wanted) = options.users.filter(|n| *n > 0 && *n < users.len()) {
            // The users with the smallest hashes are a uniform sample that threads cannot change.
            users.select_nth_unstable_by_key(wanted - 1, |user| user_seed(!options.seed, *user));
            users.truncate(wanted);
            users.sort_unstable();
        }
        let counts = || users.iter().map(|user| held_out.user(*user).items.len());
        let parts = match options.part {
            Part::Train => Vec::new(),
            Part::Valid => vec![dataset.train()],
            Part::Test => std::iter::once(dataset.train()).chain(dataset.part(Part::Valid)).collect(),
        };
        Ok(Self {
            held_out,
            interactions: counts().map(|n| n as u64).sum(),
            cold,
            most: counts().max().unwrap_or(0),
            seen: Seen::new(parts),
            users,
        })
    }
}
