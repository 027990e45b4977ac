//! Tests of the space of choices and of what takes part.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::candidate::{as_json, candidates};
use super::space::apply;
use super::*;
use crate::context::{ByteSize, Context};
use crate::dataset::Part;
use crate::rank::fixture;
use crate::train::TrainConfig;

const SPACE: &str = r#"
"optimizer.learning_rate" = [0.02, 0.05]
negatives.count = [4, 8]
[loss]
kind = ["bpr", "logistic"]
[[choice.sampler]]
name = "uniform"
[[choice.sampler]]
name = "dns"
set."negatives.mix" = [{ select = "hardest", candidates = 4 }]
[choice.sampler.set.confidence]
half_life = 30.0
"#;

#[test]
fn a_grid_has_every_combination_and_sets_what_it_says() {
    let space = Space::from_toml(SPACE).unwrap();
    assert_eq!(space.names(), ["sampler", "loss.kind", "negatives.count", "optimizer.learning_rate"]);
    let grid = space.grid().unwrap();
    assert_eq!(grid.len(), 16);
    let mut configs = BTreeSet::new();
    for choices in &grid {
        let mut json = as_json(&TrainConfig::default()).unwrap();
        apply(&mut json, choices);
        let labels: Vec<&str> = choices.iter().map(|c| c.label.as_str()).collect();
        let config = TrainConfig::from_json(json).unwrap();
        assert_eq!(config.negatives.mix.len(), usize::from(labels[0] == "dns"));
        assert_eq!(config.confidence.half_life, (labels[0] == "dns").then_some(30.0));
        assert_eq!(config.loss.kind.name(), labels[1]);
        assert_eq!(config.negatives.count.unwrap().to_string(), labels[2]);
        assert_eq!(config.optimizer.learning_rate.unwrap().to_string(), labels[3]);
        configs.insert(toml::to_string(&config).unwrap());
    }
    assert_eq!(configs.len(), 16);
}

#[test]
fn the_space_of_every_loss_and_sampler_is_one() {
    let space = Space::from_toml(include_str!("../../docs/recipes/losses-by-samplers.toml")).unwrap();
    assert_eq!(space.names(), ["loss", "sampler"]);
    let grid = space.grid().unwrap();
    // Not every loss goes with every sampler; the first, plain one goes with all.
    for choices in grid.iter().filter(|choices| choices[0].label == "bpr" || choices[1].label == "uniform") {
        let mut json = as_json(&TrainConfig::default()).unwrap();
        apply(&mut json, choices);
        TrainConfig::from_json(json).unwrap().validate().unwrap();
    }
}

#[test]
fn what_is_wrong_with_a_space_is_named() {
    for (text, words) in [
        ("", &["nothing to choose"][..]),
        ("l2 = [", &["line 1"]),
        ("l2 = 0.1", &["l2", "write [0.1]"]),
        ("l2 = []", &["l2", "nothing to choose"]),
        ("l2 = [0.1, 0.1]", &["l2", "twice"]),
        ("epoch = [3]", &["epoch = 3", "did you mean `epochs`?"]),
        ("learning_rate = [0.1]", &["did you mean `learning_rate` in [optimizer]?"]),
        ("\"optimizer.learning-rate\" = [0.1]", &["did you mean `learning_rate`?"]),
        ("loss.kind = [\"bpr\", \"softmx\"]", &["loss.kind = softmx", "did you mean \"softmax\"?"]),
        ("epochs = [\"x\"]", &["epochs = x", "invalid type"]),
        ("epochs = { low = 1.5, high = 3.0 }", &["epochs = 1.5", "invalid type"]),
        ("seed = [1, 2]", &["seed", "--seeds"]),
        ("l2 = { low = 0.1 }", &["l2", "low and high"]),
        ("l2 = { low = 0.1, high = 0.1 }", &["l2", "low below high"]),
        ("l2 = { low = 0.0, high = 0.1, log = true }", &["above 0 where log"]),
        ("l2 = { low = 0.0, high = 0.1, lag = true }", &["low, high and log alone"]),
        ("choice = 3", &["[[choice.sampler]]"]),
        ("[choice.sampler]\nname = \"x\"", &["[[choice.sampler]]", "list"]),
        ("[[choice.sampler]]\nset.l2 = 1", &["number 1", "needs a name"]),
        ("[[choice.s]]\nname = \"a\"\n[[choice.s]]\nname = \"a\"", &["number 2", "another called a"]),
        ("[[choice.s]]\nname = \"a\"\nl2 = 0.1", &["unknown key l2", "set"]),
        ("[[choice.s]]\nname = \"a\"\nset.negativs.count = 3", &["s = a", "did you mean `negatives`?"]),
        ("l2 = [0.1]\n[[choice.s]]\nname = \"a\"\nset.l2 = 0.2", &["s and l2 both set l2"]),
        (
            "[[choice.s]]\nname = \"a\"\nset.confidence.events.buy = 2\n[confidence]\nevents = [{ buy = 3.0 }]",
            &["both set"],
        ),
    ] {
        let error = Space::from_toml(text).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}

#[test]
fn ranges_are_drawn_from_end_to_end() {
    let text = "l2 = { low = 1e-4, high = 1e-2, log = true }\nepochs = { low = 2, high = 5 }\ndimensions = { low = 1, high = 64, log = true }";
    let space = Space::from_toml(text).unwrap();
    assert!(space.grid().unwrap_err().to_string().contains("--trials"));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    let (mut below, mut epochs, mut narrow) = (0, [0; 6], 0);
    let n = 4000;
    for _ in 0..n {
        let mut json = as_json(&TrainConfig::default()).unwrap();
        apply(&mut json, &space.draw(&mut rng));
        let config = TrainConfig::from_json(json).unwrap();
        let l2 = config.l2.unwrap();
        assert!((1e-4..=1e-2).contains(&l2) && (1..=64).contains(&config.dimensions));
        below += u32::from(l2 < 1e-3);
        narrow += u32::from(config.dimensions <= 8);
        epochs[config.epochs as usize] += 1;
    }
    let near = |count: u32, share: f64| (f64::from(count) / f64::from(n) - share).abs() < 0.03;
    assert!(near(below, 0.5), "half of a log-uniform range lies below its geometric middle: {below}");
    assert!(epochs[2..].iter().all(|count| near(*count, 0.25)), "{epochs:?}");
    // ln(8.5 / 0.5) / ln(64.5 / 0.5)
    assert!(near(narrow, 0.583), "{narrow}");
}

#[test]
fn impossible_and_equal_configurations_are_skipped_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let users: Vec<Vec<u32>> = (0..20).map(|u| vec![u % 7, (u + 3) % 7]).collect();
    let dataset = fixture::dataset(&folder.path().join("d"), 7, &[(Part::Train, users)]);
    let ctx = Context::new(1, ByteSize(64 << 20));
    let text = "\"loss.kind\" = [\"bpr\", \"bsl\"]\n\"loss.exponent\" = [1.0, 1.2]\nbiases = [true, false]";
    let space = Space::from_toml(text).unwrap();
    let base = TrainConfig::default();
    let found = |search| candidates(&dataset, &base, &space, search, &ctx).unwrap();
    let (taking, skipped) = found(Search::Grid);
    // BPR has no exponent, and the cosines of BSL no biases.
    assert_eq!(taking.iter().map(|c| c.number).collect::<Vec<_>>(), [1, 5, 6, 8], "{skipped:?}");
    let reasons: Vec<_> = skipped.iter().map(|s| (s.number, s.reason.as_str())).collect();
    assert!(reasons[0].0 == 2 && reasons[0].1.contains("biases = true: it must be false"), "{reasons:?}");
    assert_eq!((reasons[1], reasons[3]), ((3, "the same in effect as 1"), (7, "the same in effect as 5")));
    // A random search finds as many, and fewer of them are the first of more.
    let labels = |trials| found(Search::Random { trials }).0.into_iter().map(|c| c.choices).collect::<Vec<_>>();
    assert_eq!((labels(2).len(), labels(4).len(), labels(50).len()), (2, 4, 4));
    assert_eq!(labels(2), labels(4)[..2]);
    // What does not fit the budget is left out, too.
    let narrow = Context::new(1, ByteSize(1 << 20));
    let wide = Space::from_toml("dimensions = [2046]").unwrap();
    assert_eq!(candidates(&dataset, &base, &wide, Search::Grid, &ctx).unwrap().0.len(), 1);
    let error = candidates(&dataset, &base, &wide, Search::Grid, &narrow).err().unwrap().to_string();
    assert!(error.contains("none of the 1") && error.contains("--memory"), "{error}");
}
