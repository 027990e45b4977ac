//! Configurations of training and spaces of a sweep, in TOML, and the plans that follow from them.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::context;
use super::folder::with_dataset;
use crate::dataset::Dataset;
use crate::sweep::Space;
use crate::train::{TrainConfig, plan_train};

/// A configuration: read, checked, planned, and read again as it is written.
pub(super) fn config(input: &[u8]) {
    let Some(config) = std::str::from_utf8(input).ok().and_then(|text| TrainConfig::from_toml(text).ok()) else {
        return;
    };
    if config.validate().is_err() {
        return;
    }
    let written = toml::to_string(&config).expect("what is valid can be written");
    assert_eq!(TrainConfig::from_toml(&written).expect("what was written can be read"), config);
    with_dataset(|folder| {
        folder.restore();
        let dataset = Dataset::open(folder.path()).expect("the dataset is untouched");
        let _ = plan_train(&dataset, &config, &context());
    });
}

pub(super) fn config_seeds() -> Vec<Vec<u8>> {
    let written = toml::to_string(&TrainConfig::default()).expect("the default can be written");
    let recipe = include_str!("../../docs/recipes/gowalla-bpr.toml");
    let other = include_str!("../../docs/recipes/gowalla-softmax.toml");
    [written.as_str(), recipe, other].map(|text| text.as_bytes().to_vec()).into()
}

/// A space: read, made a grid, and drawn from.
pub(super) fn space(input: &[u8]) {
    let Some(space) = std::str::from_utf8(input).ok().and_then(|text| Space::from_toml(text).ok()) else { return };
    crate::sweep::fuzzing::choose(&space, &mut Xoshiro256PlusPlus::seed_from_u64(1));
}

pub(super) fn space_seeds() -> Vec<Vec<u8>> {
    let example = "\"optimizer.learning_rate\" = [0.02, 0.05]\nl2 = { low = 1e-4, high = 1e-2, log = true }\n\
        dimensions = { low = 8, high = 64 }\n[[choice.sampler]]\nname = \"uniform\"\n[[choice.sampler]]\nname = \"dns\"\n\
        set.\"negatives.mix\" = [{ select = \"hardest\", candidates = 4 }]\n";
    let recipe = include_str!("../../docs/recipes/losses-by-samplers.toml");
    [example, recipe].map(|text| text.as_bytes().to_vec()).into()
}
