//! Checks of a dataset beyond those of opening it.

use super::open::Dataset;
use super::pairs::{Listed, Pairs};
use super::{DatasetError, Part};
use crate::context::{Context, Unit};

impl Dataset {
    /// Checks every invariant beyond those of opening: dictionaries in order, positives equal to the interactions,
    /// popularity equal to the counts, no pair in two parts, no exposure of what was taken, nothing of who was forgotten,
    /// nothing appended that is not there. O(interactions + exposures).
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn verify(&self, ctx: &Context) -> Result<(), DatasetError> {
        self.users().verify()?;
        self.items().verify()?;
        let total = self.parts().map(|(_, i)| i.len()).sum();
        let stage = ctx.stage("verifying", Some(total), Unit::Rows);
        let mut counts = vec![0u32; self.items().len() as usize];
        let parts: Vec<_> = self.parts().collect();
        for (at, (part, interactions)) in parts.iter().enumerate() {
            for c in 0..interactions.chunks() {
                ctx.check()?;
                let chunk = interactions.chunk(c);
                interactions.verify(c).map_err(|reason| self.inconsistent(format!("{}: {reason}", part.name())))?;
                if *part == Part::Train {
                    chunk.items().iter().for_each(|i| counts[i.to_native() as usize] += 1);
                }
                for (before, earlier) in &parts[..at] {
                    for u in 0..chunk.users() {
                        let user = chunk.first_user() + u as u32;
                        let known = earlier.positives(user);
                        if chunk.user(u).items.iter().any(|i| known.contains(i.to_native())) {
                            let (a, b) = (before.name(), part.name());
                            return Err(self.inconsistent(format!("user {user} has an item both in {a} and in {b}")));
                        }
                    }
                }
                stage.add(chunk.items().len() as u64);
            }
        }
        if counts.iter().zip(self.popularity()).any(|(a, b)| *a != b.to_native()) {
            return Err(self.inconsistent("popularity differs from the interactions".to_string()));
        }
        self.verify_exposures(ctx)?;
        self.verify_forgotten(ctx)?;
        self.verify_appended(ctx)
    }

    fn verify_exposures(&self, ctx: &Context) -> Result<(), DatasetError> {
        let Some(exposures) = self.exposures() else { return Ok(()) };
        for user in 0..self.users().len() {
            if user.is_multiple_of(1 << 12) {
                ctx.check()?;
            }
            let shown = exposures.user(user);
            for (part, interactions) in self.parts().filter(|_| !shown.is_empty()) {
                let taken = interactions.positives(user);
                if shown.iter().any(|i| taken.contains(i.to_native())) {
                    let part = part.name();
                    return Err(self.inconsistent(format!("user {user} has an item both in {part} and in exposures")));
                }
            }
        }
        Ok(())
    }

    /// Users without an id have nothing.
    fn verify_forgotten(&self, ctx: &Context) -> Result<(), DatasetError> {
        if self.users().holes() == 0 {
            return Ok(());
        }
        for user in 0..self.users().len() {
            if user.is_multiple_of(1 << 12) {
                ctx.check()?;
            }
            let has_any = || {
                self.parts().any(|(_, part)| !part.user(user).items.is_empty())
                    || self.exposures().is_some_and(|e| !e.user(user).is_empty())
            };
            if self.users().id(user).is_none() && has_any() {
                return Err(self.inconsistent(format!("user {user} was forgotten, and has interactions or exposures")));
            }
        }
        Ok(())
    }

    /// What was appended is in train, and what of it was there before is among it.
    fn verify_appended(&self, ctx: &Context) -> Result<(), DatasetError> {
        for change in &self.manifest().changes {
            ctx.check()?;
            let Some(pairs) = self.pairs_of(change, Listed::All)? else { continue };
            let repeated = self.pairs_of(change, Listed::Repeated)?;
            let mut repeated = repeated.iter().flat_map(Pairs::iter).peekable();
            for (at, (user, item)) in pairs.iter().enumerate() {
                if at.is_multiple_of(1 << 16) {
                    ctx.check()?;
                }
                if !self.train().positives(user).contains(item) {
                    let number = change.number;
                    return Err(self.inconsistent(format!(
                        "change {number} appended item {item} to user {user}, but train does not have it"
                    )));
                }
                repeated.next_if_eq(&(user, item));
            }
            if let Some((user, item)) = repeated.next() {
                let number = change.number;
                return Err(self.inconsistent(format!(
                    "change {number} lists item {item} of user {user} as repeated, but not as appended"
                )));
            }
        }
        Ok(())
    }
}
