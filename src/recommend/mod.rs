//! Top items for users, trained or folded in, and similar items: streamed to a file or to the caller in bounded memory.

mod error;
mod fold_in;
mod output;
mod similar;
#[cfg(test)]
mod tests;
mod top;

pub use error::RecommendError;
pub use fold_in::{FoldInOptions, FoldedIn, fold_in};
pub use output::{RecommendFormat, save_recommendations, write_recommendations};
pub use similar::similar;
pub use top::{RecommendOptions, RecommendSummary, RecommendUsers, Recommendations, recommend};
