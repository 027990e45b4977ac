//! What can go wrong while ranking.

use crate::context::{ByteSize, Interrupted};
use crate::dataset::DatasetError;
use crate::model::ModelError;

/// Items could not be ranked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RankError {
    /// The model could not be used, or belongs to another dataset.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The dataset could not be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The scorer has more users or items than the dataset, or not all of them where they are needed.
    #[error(
        "the scorer knows {users} users and {items} items, but the dataset has {dataset_users} and {dataset_items}; \
         {}", if users > dataset_users || items > dataset_items {
            "pass the dataset that it was made for"
        } else {
            "what came later has no scores; use a version that was trained since, or make one: peccary update"
        }
    )]
    Shape {
        /// Users that the scorer knows.
        users: usize,
        /// Items that the scorer knows.
        items: usize,
        /// Users of the dataset.
        dataset_users: usize,
        /// Items of the dataset.
        dataset_items: usize,
    },
    /// A score is not a number.
    #[error(
        "the score of user '{user}' and item '{item}' is NaN: training diverged; \
         train again with a lower learning rate or more regularization"
    )]
    NotANumber {
        /// Original id of the user.
        user: String,
        /// Original id of the item.
        item: String,
    },
    /// Not even the smallest block fits the budget.
    #[error(
        "ranking needs --memory {}B ({needed}) at least, with {threads} threads, but it is {given}; raise it, or use fewer \
         --threads or a smaller --k",
        needed.0
    )]
    Memory {
        /// The least that suffices.
        needed: ByteSize,
        /// Worker threads.
        threads: usize,
        /// The budget.
        given: ByteSize,
    },
    /// The system gave no threads.
    #[error("cannot start {threads} worker threads: {reason}; pass fewer by --threads")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        reason: String,
    },
    /// The operation was stopped.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}
