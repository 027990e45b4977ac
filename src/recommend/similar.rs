//! The items most like an item.

use super::RecommendError;
use crate::context::{ByteSize, Context};
use crate::model::Model;
use crate::rank::{Candidate, RankError, Tops, program_bytes};

/// Items between two looks at whether to stop.
const TILE: usize = 4096;

/// The `k` items whose factors point most nearly the same way as those of the item with the original id `item`: dense
/// ids and cosines, best first, the item itself left out.
///
/// Biases are no part of it: they say how popular an item is, not what it is like. An item whose factors are all zero
/// has the cosine 0 with everything. O(items × dimensions) time, O(k) memory.
///
/// # Errors
/// If the model has no such item, `k` is 0, `k` items do not fit the memory budget, factors are not finite, or the operation was stopped.
pub fn similar(model: &Model, item: &str, k: usize, ctx: &Context) -> Result<Vec<(u32, f32)>, RecommendError> {
    let k = room_for(k, model, ctx)?;
    let wanted = model.item_ids().find(item).ok_or_else(|| RecommendError::UnknownItem {
        id: item.to_string(),
        model: model.path().to_path_buf(),
        similar: model.item_ids().similar(item).into_iter().map(str::to_string).collect(),
    })?;
    let items = model.items().rows();
    let dimensions = model.manifest().dimensions.min(model.items().width());
    let factors = |i: usize| &model.items().row(i)[..dimensions];
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let own = factors(wanted as usize);
    let own_norm = dot(own, own).sqrt();
    let lets_go = lets_go(model, ctx);
    let mut top = Tops::new(k);
    top.begin(0, &[wanted]);
    let mut cosines = vec![0.0; TILE];
    for start in (0..items).step_by(TILE) {
        ctx.check()?;
        let tile = &mut cosines[..TILE.min(items - start)];
        for (i, cosine) in (start..).zip(&mut *tile) {
            let other = factors(i);
            let norms = own_norm * dot(other, other).sqrt();
            *cosine = match (i == wanted as usize, norms == 0.0) {
                (true, _) => f32::NEG_INFINITY,
                (_, true) => 0.0,
                _ => (dot(own, other) / norms) as f32,
            };
        }
        top.offer(0, start as u32, tile).map_err(|i| RecommendError::NotANumber {
            item: model.item_ids().id(i).unwrap_or_default().to_string(),
            model: model.path().to_path_buf(),
        })?;
        if lets_go {
            model.items().release(start..start + tile.len());
        }
    }
    Ok(top.sorted(0).iter().map(|candidate| (candidate.item(), candidate.score())).collect())
}

/// Whether to let go of the item table behind what is read: where it would be most of the memory budget. Elsewhere whoever
/// asks next finds it mapped.
pub(super) fn lets_go(model: &Model, ctx: &Context) -> bool {
    let items = model.items();
    (items.rows() * items.stride() * size_of::<f32>()) as u64 > ctx.memory().0 / 2
}

/// How many of `k` items there are, once it is known that their ranking fits the memory budget.
pub(super) fn room_for(k: usize, model: &Model, ctx: &Context) -> Result<usize, RecommendError> {
    if k == 0 {
        return Err(RecommendError::NoItems);
    }
    let k = k.min(model.items().rows()).max(1);
    // The result beside the ranking that it is made of, and what is taken of that.
    let needed = (program_bytes(1)
        + Tops::bytes(k).saturating_add(k * (size_of::<Candidate>() + size_of::<(u32, f32)>())))
        as u64;
    if needed > ctx.memory().0 {
        let (needed, given) = (ByteSize(needed), ctx.memory());
        return Err(RankError::Memory { needed, threads: 1, given }.into());
    }
    Ok(k)
}
