//! What can go wrong with recommendations.

use std::path::PathBuf;

use crate::context::Interrupted;
use crate::rank::RankError;
use crate::storage::StorageError;

/// Recommendations could not be made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecommendError {
    /// Items could not be ranked.
    #[error(transparent)]
    Rank(#[from] RankError),
    /// The output could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No such user.
    #[error("--user {id}: {} has no such user{}", dataset.display(), hint(similar))]
    UnknownUser {
        /// The id as given.
        id: String,
        /// The dataset.
        dataset: PathBuf,
        /// Ids like it.
        similar: Vec<String>,
    },
    /// No such item.
    #[error("--item {id}: {} has no such item{}", model.display(), hint(similar))]
    UnknownItem {
        /// The id as given.
        id: String,
        /// The model.
        model: PathBuf,
        /// Ids like it.
        similar: Vec<String>,
    },
    /// Items of a history that the model does not know.
    #[error(
        "--history: {} has no such items: {}; --ignore-unknown leaves them out", model.display(), unknown(items)
    )]
    UnknownHistory {
        /// The model.
        model: PathBuf,
        /// The ids as given, each with ids like it.
        items: Vec<(String, Vec<String>)>,
    },
    /// A history of which nothing is left.
    #[error("--history: {}; give at least one item that the model knows", if *given == 0 {
        "it is empty".to_string()
    } else {
        format!("none of its {given} items is known to the model")
    })]
    EmptyHistory {
        /// Items that were given.
        given: usize,
    },
    /// A history of all items.
    #[error("--history: it holds all {items} items of the model, so that none is left to recommend; give fewer")]
    WholeCatalogue {
        /// Items of the model.
        items: usize,
    },
    /// The model does not say how it was trained, or says it in words that this build does not know.
    #[error(
        "{}: its manifest has no configuration that this version understands ({reason}); fold in with the version that \
         trained it ({version}), or train again", model.display()
    )]
    Config {
        /// The model.
        model: PathBuf,
        /// Why not.
        reason: String,
        /// The version of Peccary in its manifest.
        version: String,
    },
    /// The user's factors were never trained.
    #[error(
        "--user {id}: has no train interactions, so that the model has learnt nothing of this user; \
         recommend popular items instead, or ingest a log with interactions of this user and train again"
    )]
    ColdUser {
        /// The id.
        id: String,
    },
    /// The user came after the model.
    #[error(
        "--user {id}: all that the dataset has of this user came after the model was trained; use a version that was trained \
         since, make one by peccary update, or fold the user in by items: --history"
    )]
    LaterUser {
        /// The id.
        id: String,
    },
    /// Factors that are not finite numbers.
    #[error(
        "{}: the factors of item '{item}', or of the item it is compared with, are not finite: training diverged; \
         train again with a lower learning rate or more regularization", model.display()
    )]
    NotANumber {
        /// Original id of the item.
        item: String,
        /// The model.
        model: PathBuf,
    },
    /// Nothing was asked for.
    #[error("--k 0: ask for at least one item")]
    NoItems,
    /// A stream that was given could not be written.
    #[error("cannot write recommendations: {0}")]
    Output(#[from] std::io::Error),
    /// Parquet could not be written.
    #[error("cannot write recommendations as Parquet: {0}; free some space, or choose --format csv or ndjson")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// The operation was stopped.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

fn hint(similar: &[String]) -> String {
    match similar {
        [] => "; ids are matched exactly as they stand in the log".to_string(),
        near => format!("; did you mean {}?", near.join(", ")),
    }
}

/// The first of the ids that are not there, each with those like it.
fn unknown(items: &[(String, Vec<String>)]) -> String {
    const SHOWN: usize = 5;
    let one = |(id, near): &(String, Vec<String>)| match &near[..] {
        [] => format!("'{id}'"),
        near => format!("'{id}' (did you mean {}?)", near.join(", ")),
    };
    let mut text = items.iter().take(SHOWN).map(one).collect::<Vec<_>>().join(", ");
    if items.len() > SHOWN {
        text += &format!(" and {} more", items.len() - SHOWN);
    }
    text
}
