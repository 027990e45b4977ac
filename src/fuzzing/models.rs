//! Files of a model, and all that can be asked of one that opened.

use super::context;
use super::folder::{Folder, with_model};
use crate::dataset::Dataset;
use crate::evaluate::{EvaluateOptions, evaluate};
use crate::explain::{ExplainOptions, explain};
use crate::model::Model;
use crate::recommend::{RecommendOptions, RecommendUsers, recommend, similar};

/// The manifest, among files as they were written.
pub(super) fn manifest(input: &[u8]) {
    with_model(|folder, dataset| {
        folder.write_text(input);
        use_all(folder, dataset);
        folder.restore();
    });
}

pub(super) fn manifest_seeds() -> Vec<Vec<u8>> {
    with_model(|folder, _| vec![folder.text()])
}

/// The table of items.
pub(super) fn factors(input: &[u8]) {
    with_model(|folder, dataset| {
        folder.doctor("items.factors", input);
        use_all(folder, dataset);
    });
}

pub(super) fn factors_seeds() -> Vec<Vec<u8>> {
    with_model(|folder, _| vec![folder.payload("items.factors")])
}

fn use_all(folder: &Folder, dataset: &Dataset) {
    let ctx = context();
    let Ok(model) = Model::open(folder.path()) else { return };
    let _ = model.verify(&ctx);
    for table in [model.users(), model.items()] {
        assert_eq!(table.as_slice().len(), table.rows() * table.stride());
        (0..table.rows()).for_each(|row| assert_eq!(table.row(row).len(), table.stride()));
    }
    let _ = model.manifest().fingerprint();
    let _ = similar(&model, "i1", 3, &ctx);
    let _ = recommend(
        &model,
        dataset,
        &RecommendUsers::All,
        RecommendOptions { k: 3, include_seen: false },
        &ctx,
        |user| {
            assert!(user.items.len() <= 3);
            Ok(())
        },
    );
    let _ = evaluate(&model, dataset, &EvaluateOptions::default(), &ctx);
    let _ = explain(&model, dataset, "u1", &ExplainOptions::default(), &ctx);
}
