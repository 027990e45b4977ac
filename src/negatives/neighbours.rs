//! Co-occurrence: items of other users of an item, by a random walk of item, user, item.

use rand::Rng;

use super::below;
use crate::cooccurrence::ItemUsers;

/// An item of a random user of `item`; `None` if that is `user`, or there is none.
pub(super) fn walk(of: &ItemUsers<'_>, user: u32, item: u32, rng: &mut impl Rng) -> Option<u32> {
    let users = of.of(item);
    let other = *users.get(below(users.len(), rng))?;
    let items = of.interactions().user(other).items;
    (other != user).then(|| items[below(items.len(), rng)].to_native())
}
