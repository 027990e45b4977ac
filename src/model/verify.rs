//! Checks a model beyond what opening checks.

use super::{Factors, Model, ModelError};
use crate::context::{Context, Unit};
use crate::storage::{check_plain, is_plain};

impl Model {
    /// Checks that the run log is as it was written, all factors are finite, the padding is zero, and item ids are in order. O(rows × width).
    ///
    /// # Errors
    /// Names the first table and row that is wrong.
    pub fn verify(&self, ctx: &Context) -> Result<(), ModelError> {
        self.item_ids().verify()?;
        for record in self.manifest().files.iter().filter(|record| is_plain(&record.path)) {
            check_plain(self.path(), record)?;
        }
        let tables = [("users.factors", self.users()), ("items.factors", self.items())];
        let total = tables.iter().map(|(_, t)| (t.as_slice().len() * 4) as u64).sum();
        let stage = ctx.stage("verifying", Some(total), Unit::Bytes);
        for (name, table) in tables {
            for start in (0..table.rows()).step_by(ROWS) {
                ctx.check()?;
                let end = table.rows().min(start + ROWS);
                if let Some((row, what)) = (start..end).find_map(|row| Some((row, fault(table, row)?))) {
                    return Err(ModelError::Inconsistent {
                        path: self.path().join(name),
                        reason: format!("row {row} holds {what}"),
                    });
                }
                stage.add(((end - start) * table.stride() * 4) as u64);
            }
        }
        Ok(())
    }
}

/// Rows between two looks at whether to stop.
const ROWS: usize = 1 << 14;

fn fault(table: &Factors, row: usize) -> Option<&'static str> {
    let (factors, padding) = table.row(row).split_at(table.width());
    if factors.iter().any(|f| !f.is_finite()) {
        Some("a factor that is not finite")
    } else if padding.iter().any(|f| *f != 0.0) {
        Some("padding that is not zero")
    } else {
        None
    }
}
