//! Reading a configuration: what it got wrong is named with the nearest right one.

use super::{TrainConfig, TrainError};
use crate::nearest::{did_you_mean, distance, near};

/// A key that no table has: asking for it makes serde list those that there are.
const NO_KEY: &str = "-";

impl TrainConfig {
    /// Reads a configuration from TOML.
    ///
    /// # Errors
    /// If it is no TOML, or has a key or a value that there is not: the message says where, and names the nearest that
    /// there is, in whichever table.
    pub fn from_toml(text: &str) -> Result<Self, TrainError> {
        toml::from_str(text).map_err(|error| explained(&error.to_string(), error.message(), "\n"))
    }

    /// The same from a value of JSON, which has no lines to be named.
    pub(crate) fn from_json(value: serde_json::Value) -> Result<Self, TrainError> {
        serde_json::from_value(value).map_err(|error| explained(&error.to_string(), &error.to_string(), "; "))
    }
}

/// The whole message, and behind it the nearest right one to what its core is about.
fn explained(message: &str, core: &str, between: &str) -> TrainError {
    let nearest = suggestion(core).map_or(String::new(), |nearest| between.to_string() + &nearest);
    TrainError::Toml(message.trim_end().to_string() + &nearest)
}

/// The words between backquotes.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// The nearest to what serde says it does not know, among what it says there is.
fn suggestion(message: &str) -> Option<String> {
    let words = quoted(message);
    let (wrong, right) = words.split_first()?;
    if message.starts_with("unknown variant") {
        return did_you_mean(wrong, right.iter().copied());
    }
    if !message.starts_with("unknown field") {
        return None;
    }
    let here = right.iter().map(|key| (distance(wrong, key), key.to_string()));
    let tables: [(&str, &str); 9] = [
        ("", "{}"),
        ("loss", "[loss]\n{}"),
        ("negatives", "[negatives]\n{}"),
        ("negatives.mix", "[[negatives.mix]]\n{}"),
        ("confidence", "[confidence]\n{}"),
        ("regularization", "[regularization]\n{}"),
        ("optimizer", "[optimizer]\n{}"),
        ("stream", "[stream]\n{}"),
        ("validation", "[validation]\n{}"),
    ];
    let elsewhere = tables.into_iter().flat_map(|(table, text)| {
        let asked = toml::from_str::<TrainConfig>(&text.replace("{}", &format!("{NO_KEY} = 0"))).err();
        let known = asked.map(|e| e.message().to_string()).unwrap_or_default();
        let place = if table.is_empty() { "at the top".to_string() } else { format!("in [{table}]") };
        let keys: Vec<String> = quoted(&known).into_iter().skip(1).map(str::to_string).collect();
        // A key of the table at hand goes before one that is as near elsewhere.
        keys.into_iter().map(move |key| (key, place.clone()))
    });
    let here = here.min();
    let best = elsewhere.map(|(key, place)| (distance(wrong, &key), key, place)).min();
    match (here, best) {
        (Some((own, key)), best) if best.as_ref().is_none_or(|(other, ..)| own <= *other) => {
            near(wrong, &key).then(|| format!("did you mean `{key}`?"))
        }
        (_, Some((_, key, place))) => near(wrong, &key).then(|| format!("did you mean `{key}` {place}?")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_right_one_is_named() {
        for (text, expected) in [
            ("epoch = 3", "did you mean `epochs`?"),
            ("learning_rate = 0.1", "did you mean `learning_rate` in [optimizer]?"),
            ("[optimizer]\nlearning-rate = 0.1", "did you mean `learning_rate`?"),
            ("[negatives]\ncandidates = 3", "did you mean `candidates` in [negatives.mix]?"),
            ("[[negatives.mix]]\nselekt = \"first\"", "did you mean `select`?"),
            ("[[negatives.mix]]\nselect = \"hardst\"", "did you mean \"hardest\"?"),
            ("[[negatives.mix]]\npropose = \"in_batch\"", "did you mean \"in-batch\"?"),
            ("[[negatives.mix]]\nshare = { schedule = \"linaer\" }", "did you mean \"linear\"?"),
            ("temperature = 0.1", "did you mean `temperature` in [loss]?"),
            ("[loss]\nkind = \"softmx\"", "did you mean \"softmax\"?"),
            ("[confidence]\nhalflife = 3", "did you mean `half_life`?"),
            ("user_dropout = 0.1", "did you mean `user_dropout` in [regularization]?"),
            ("[regularization]\nclip_gradients = 1.0", "did you mean `clip_gradient`?"),
            ("[stream]\nblock_item = 3", "did you mean `block_items`?"),
            ("[validation]\nmetrics = \"auc\"", "did you mean `metric`?"),
            ("min_delta = 0.1", "did you mean `min_delta` in [validation]?"),
            ("[optimizer]\nwarmup = 2", "did you mean `warm_up`?"),
        ] {
            let error = TrainConfig::from_toml(text).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{text}: {error}");
        }
        let error = TrainConfig::from_toml("zzzzzzzz = 1").unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
        assert!(TrainConfig::from_toml("epochs = \"x\"").unwrap_err().to_string().contains("line 1"));
    }
}
