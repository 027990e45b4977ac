//! The space of choices: axes read from TOML, each a list of values of a key, a range of them, or named alternatives
//! that set several keys at once.

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Map, Value};

use super::SweepError;
use crate::train::TrainConfig;

/// Configurations of a grid, at most.
const MOST: usize = 10_000;

/// Choices to search among, axis by axis.
///
/// ```toml
/// # An axis of a key: values,
/// "optimizer.learning_rate" = [0.02, 0.05]
/// # or a range, for a random search. Both bounds belong to it; of integers integers are drawn.
/// l2 = { low = 1e-4, high = 1e-2, log = true }
///
/// # An axis of alternatives, each with a name and the keys that it sets.
/// [[choice.sampler]]
/// name = "uniform"
/// [[choice.sampler]]
/// name = "dns"
/// set."negatives.mix" = [{ select = "hardest", candidates = 4 }]
/// ```
#[derive(Clone, Debug)]
pub struct Space {
    axes: Vec<Axis>,
    /// As read, to know it again.
    text: Value,
}

#[derive(Clone, Debug)]
struct Axis {
    name: String,
    choices: Choices,
}

#[derive(Clone, Debug)]
enum Choices {
    Listed(Vec<Choice>),
    Range { low: f64, high: f64, log: bool, whole: bool },
}

/// One choice of an axis: what it is called, and the keys that it sets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) label: String,
    set: Vec<(String, Value)>,
}

impl Space {
    /// Reads a space from TOML.
    ///
    /// # Errors
    /// [`SweepError::Space`], if it is no TOML, an axis is no list, range or list of alternatives, a key or value is
    /// not one of a [`TrainConfig`] (the nearest right one is named), or two axes set the same key.
    pub fn from_toml(text: &str) -> Result<Self, SweepError> {
        let text: Value = toml::from_str(text).map_err(|e| SweepError::Space(e.to_string().trim_end().to_string()))?;
        let mut axes = Vec::new();
        if let Value::Object(table) = &text {
            if let Some(named) = table.get("choice") {
                alternatives(named, &mut axes)?;
            }
            let keys: Map<String, Value> =
                table.iter().filter(|(k, _)| *k != "choice").map(|(k, v)| (k.clone(), v.clone())).collect();
            keyed("", &Value::Object(keys), &mut axes)?;
        }
        if axes.is_empty() {
            return Err(SweepError::Space(
                "there is nothing to choose; write an axis such as l2 = [0.001, 0.01]".into(),
            ));
        }
        let space = Self { axes, text };
        space.check()?;
        Ok(space)
    }

    /// The names of the axes.
    pub(super) fn names(&self) -> Vec<String> {
        self.axes.iter().map(|axis| axis.name.clone()).collect()
    }

    /// What was read.
    pub(super) fn as_read(&self) -> &Value {
        &self.text
    }

    /// Every combination, the last axis changing first.
    pub(super) fn grid(&self) -> Result<Vec<Vec<Choice>>, SweepError> {
        let mut grid = vec![Vec::new()];
        for axis in &self.axes {
            let Choices::Listed(choices) = &axis.choices else {
                let text = format!(
                    "{}: a grid has no ranges; list some values, or pass --trials N to draw configurations at random",
                    axis.name
                );
                return Err(SweepError::Space(text));
            };
            if grid.len().saturating_mul(choices.len()) > MOST {
                let text = format!(
                    "the grid has more than {MOST} configurations; leave some choices out, or pass --trials N to draw \
                     configurations at random"
                );
                return Err(SweepError::Space(text));
            }
            let with = |before: Vec<Choice>| {
                choices.iter().map(move |choice| before.iter().chain([choice]).cloned().collect::<Vec<_>>())
            };
            grid = grid.into_iter().flat_map(with).collect();
        }
        Ok(grid)
    }

    /// A combination at random, each axis on its own: all values of a list alike, a range uniformly, or its logarithm.
    pub(super) fn draw(&self, rng: &mut Xoshiro256PlusPlus) -> Vec<Choice> {
        let one = |axis: &Axis| match &axis.choices {
            Choices::Listed(choices) => choices[rng.random_range(0..choices.len())].clone(),
            Choices::Range { low, high, log, whole } => {
                let share: f64 = rng.random();
                // Of whole numbers each has an interval of length 1 around it.
                let half = if *whole { 0.5 } else { 0.0 };
                let (low_end, high_end) = (low - half, high + half);
                let drawn = if *log {
                    low_end * (high_end / low_end).powf(share)
                } else {
                    low_end + (high_end - low_end) * share
                };
                value_of(&axis.name, drawn.clamp(*low, *high), *whole)
            }
        };
        self.axes.iter().map(one).collect()
    }

    /// Checks every choice on its own, and that no two axes set the same key.
    fn check(&self) -> Result<(), SweepError> {
        let mut taken: Vec<(&str, String)> = Vec::new();
        for axis in &self.axes {
            let choices = match &axis.choices {
                Choices::Listed(choices) => choices.clone(),
                Choices::Range { low, high, whole, .. } => [low, high].map(|x| value_of(&axis.name, *x, *whole)).into(),
            };
            let mut own = Vec::new();
            for choice in &choices {
                let mut alone = Value::Object(Map::new());
                apply(&mut alone, std::slice::from_ref(choice));
                if alone.get("seed").is_some() {
                    let text = format!("{}: seed is no choice; pass --seeds N to train each with N seeds", axis.name);
                    return Err(SweepError::Space(text));
                }
                TrainConfig::from_json(alone)
                    .map_err(|e| SweepError::Space(format!("{} = {}: {e}", axis.name, choice.label)))?;
                choice.set.iter().for_each(|(path, value)| leaves(path, value, &mut own));
            }
            let same = |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('.'));
            for path in &own {
                if let Some((other, _)) = taken.iter().find(|(_, p)| same(p, path) || same(path, p)) {
                    let text = format!("{other} and {} both set {path}; set it in one of them", axis.name);
                    return Err(SweepError::Space(text));
                }
            }
            taken.extend(own.into_iter().map(|path| (axis.name.as_str(), path)));
        }
        Ok(())
    }
}

/// Sets the keys of `choices` in `config`.
pub(super) fn apply(config: &mut Value, choices: &[Choice]) {
    for (path, value) in choices.iter().flat_map(|choice| &choice.set) {
        let mut at = &mut *config;
        for key in path.split('.') {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            at = &mut at[key];
        }
        merge(at, value);
    }
}

/// A table goes into a table; anything else takes the place of what was there.
fn merge(target: &mut Value, value: &Value) {
    match (target, value) {
        (Value::Object(target), Value::Object(value)) => {
            for (key, value) in value {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, value) => *target = value.clone(),
    }
}

/// The paths of the keys that setting `path` to `value` sets.
fn leaves(path: &str, value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| leaves(&format!("{path}.{key}"), value, out)),
        _ => out.push(path.to_string()),
    }
}

/// A value in a column of the table.
fn label(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A number of a range, with four digits if it is not whole.
fn value_of(key: &str, number: f64, whole: bool) -> Choice {
    let value = if whole {
        Value::from(number.round() as i64)
    } else {
        // The text is a number: it was made from one.
        Value::from(format!("{number:.3e}").parse::<f64>().unwrap_or(number))
    };
    Choice { label: label(&value), set: vec![(key.to_string(), value)] }
}

/// The axes of `[[choice.NAME]]`.
fn alternatives(named: &Value, axes: &mut Vec<Axis>) -> Result<(), SweepError> {
    let wrong = |what: String| Err(SweepError::Space(what));
    let example = "[[choice.sampler]] with a name and a table set";
    let Value::Object(named) = named else { return wrong(format!("choice: write {example}")) };
    for (axis, listed) in named {
        let Value::Array(listed) = listed else {
            return wrong(format!("choice.{axis}: write it as a list: {}", example.replace("sampler", axis)));
        };
        let mut choices: Vec<Choice> = Vec::new();
        for (number, one) in (1..).zip(listed) {
            let place = format!("choice.{axis}, number {number}");
            let Value::Object(one) = one else { return wrong(format!("{place}: write {example}")) };
            if let Some(key) = one.keys().find(|key| !["name", "set"].contains(&key.as_str())) {
                return wrong(format!("{place}: unknown key {key}; put keys of the configuration into its table set"));
            }
            let Some(Value::String(label)) = one.get("name") else {
                return wrong(format!("{place}: it needs a name, such as name = \"uniform\""));
            };
            if choices.iter().any(|c| c.label == *label) {
                return wrong(format!("{place}: there is another called {label}; give it a name of its own"));
            }
            let set = match one.get("set") {
                None => Vec::new(),
                Some(Value::Object(set)) => set.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
                Some(_) => return wrong(format!("{place}: set must be a table of keys and values")),
            };
            choices.push(Choice { label: label.clone(), set });
        }
        if choices.is_empty() {
            return wrong(format!("choice.{axis}: there is nothing to choose from"));
        }
        axes.push(Axis { name: axis.clone(), choices: Choices::Listed(choices) });
    }
    Ok(())
}

/// The axes of keys, written `"a.b" = […]`, `a.b = […]` or in a table `[a]`.
fn keyed(path: &str, value: &Value, axes: &mut Vec<Axis>) -> Result<(), SweepError> {
    let wrong = |what: &str| Err(SweepError::Space(format!("{path}: {what}")));
    let name = path.to_string();
    match value {
        Value::Array(values) if values.is_empty() => wrong("there is nothing to choose from"),
        Value::Array(values) => {
            let one = |value: &Value| Choice { label: label(value), set: vec![(name.clone(), value.clone())] };
            let choices: Vec<Choice> = values.iter().map(one).collect();
            if (1..choices.len()).any(|i| choices[..i].contains(&choices[i])) {
                return wrong("a value is listed twice; leave one out");
            }
            axes.push(Axis { name, choices: Choices::Listed(choices) });
            Ok(())
        }
        Value::Object(table) if table.contains_key("low") || table.contains_key("high") => {
            if table.keys().any(|key| !["low", "high", "log"].contains(&key.as_str())) {
                return wrong("a range has the keys low, high and log alone");
            }
            let ends = (table.get("low").and_then(Value::as_f64), table.get("high").and_then(Value::as_f64));
            let (Some(low), Some(high)) = ends else { return wrong("a range needs two numbers, low and high") };
            let log = match table.get("log") {
                None => false,
                Some(Value::Bool(log)) => *log,
                Some(_) => return wrong("log must be true or false"),
            };
            if low >= high || (log && low <= 0.0) {
                return wrong("a range needs low below high, and above 0 where log is true");
            }
            let whole = ["low", "high"].iter().all(|end| table[*end].is_i64());
            axes.push(Axis { name, choices: Choices::Range { low, high, log, whole } });
            Ok(())
        }
        Value::Object(table) => {
            let dot = if path.is_empty() { "" } else { "." };
            table.iter().try_for_each(|(key, value)| keyed(&format!("{path}{dot}{key}"), value, axes))
        }
        other => {
            let text = format!("{other} is one value, and no choice; write [{other}], or set it in --config");
            wrong(&text)
        }
    }
}
