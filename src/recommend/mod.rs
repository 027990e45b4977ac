//! Top items for users, and similar items: streamed to a file or to the caller in bounded memory.

mod error;
mod output;
mod similar;
#[cfg(test)]
mod tests;
mod top;

pub use error::RecommendError;
pub use output::{RecommendFormat, save_recommendations, write_recommendations};
pub use similar::similar;
pub use top::{RecommendOptions, RecommendSummary, RecommendUsers, Recommendations, recommend};
