//! Numbers of a configuration that may change over the run.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A number, or a table that says how it changes over the run: `8` or `{ schedule = "linear", from = 1, to = 16 }`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Scheduled {
    /// Always the same.
    Constant(f64),
    /// By the share of the run that is over.
    Over(Curve),
}

/// How a number changes over the run. Moments are shares of the run, from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// The shape.
    pub schedule: Shape,
    /// The number up to `begin`. Not for `staged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<f64>,
    /// The number from `end` on. Not for `constant` and `staged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<f64>,
    /// When the change begins. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<f64>,
    /// When it ends. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<f64>,
    /// For `step`: how many equal jumps there are between `begin` and `end`. Default: 1, half-way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// For `staged`: the numbers, one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<f64>>,
    /// For `staged`: when each of the numbers begins, ascending from 0. Default: equally long stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Vec<f64>>,
    /// For `staged`, instead of `at`: the length of a stage; the numbers come around again after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<f64>,
}

/// The shape of a [`Curve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// `from`, always.
    Constant,
    /// In a straight line.
    Linear,
    /// Along half a cosine: slowly at both ends.
    Cosine,
    /// In equal jumps.
    Step,
    /// One value after the other; with `every` in rotation.
    Staged,
}

impl From<f64> for Scheduled {
    fn from(value: f64) -> Self {
        Self::Constant(value)
    }
}

impl<'de> Deserialize<'de> for Scheduled {
    /// By what is there, so that an error names the key of the table, and not the alternatives.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Scheduled;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a table such as { schedule = \"linear\", from = 1, to = 16 }")
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scheduled, E> {
                Ok(Scheduled::Constant(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scheduled, E> {
                Ok(Scheduled::Constant(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scheduled, E> {
                Ok(Scheduled::Constant(value as f64))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Scheduled, A::Error> {
                Curve::deserialize(MapAccessDeserializer::new(map)).map(Scheduled::Over)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Scheduled {
    /// The number when the share `progress` of the run, from 0 to 1, is over.
    pub fn at(&self, progress: f64) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Over(curve) => curve.at(progress.clamp(0.0, 1.0)),
        }
    }

    /// Every number it can become lies between these two.
    pub(crate) fn bounds(&self) -> (f64, f64) {
        let values = match self {
            Self::Constant(value) => vec![*value],
            Self::Over(curve) => {
                let staged = curve.values.iter().flatten().copied();
                staged.chain(curve.from).chain(curve.to).collect()
            }
        };
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
    }

    /// Says what is wrong with it, if anything is.
    pub(crate) fn mistake(&self) -> Option<&'static str> {
        let Self::Over(curve) = self else {
            return (!self.at(0.0).is_finite()).then_some("be a number");
        };
        let (begin, end) = (curve.begin.unwrap_or(0.0), curve.end.unwrap_or(1.0));
        let finite = |x: f64| x.is_finite();
        if curve.schedule == Shape::Staged {
            let values = curve.values.as_deref().unwrap_or_default();
            let at = curve.at.as_deref().unwrap_or_default();
            if values.is_empty() || !values.iter().all(|v| v.is_finite()) {
                return Some("have values = [...], a number for each stage");
            }
            if curve.from.is_some() || curve.to.is_some() || curve.begin.is_some() || curve.end.is_some() {
                return Some("have values, and no from, to, begin or end, with schedule = \"staged\"");
            }
            if curve.at.is_some()
                && (at.len() != values.len() || at[0] != 0.0 || !at.is_sorted() || !at.iter().all(|a| finite(*a)))
            {
                return Some("have as many moments in at as there are values, ascending from 0");
            }
            if curve.every.is_some() && (curve.at.is_some() || !curve.every.is_some_and(|e| e > 0.0 && e <= 1.0)) {
                return Some("have every above 0 and up to 1, and no at beside it");
            }
        } else {
            if curve.values.is_some() || curve.at.is_some() || curve.every.is_some() {
                return Some("have values, at and every only with schedule = \"staged\"");
            }
            if !curve.from.is_some_and(finite) {
                return Some("say from where it goes: from = a number");
            }
            if curve.schedule != Shape::Constant && !curve.to.is_some_and(finite) {
                return Some("say where it goes: to = a number");
            }
            if !(0.0 <= begin && begin < end && end <= 1.0) {
                return Some("have begin below end, both shares of the run from 0 to 1");
            }
        }
        if curve.steps.is_some() && (curve.schedule != Shape::Step || curve.steps == Some(0)) {
            return Some("have steps, at least 1, only with schedule = \"step\"");
        }
        None
    }
}

impl Curve {
    fn at(&self, progress: f64) -> f64 {
        let (begin, end) = (self.begin.unwrap_or(0.0), self.end.unwrap_or(1.0));
        let (from, to) = (self.from.unwrap_or(0.0), self.to.unwrap_or(0.0));
        let t = ((progress - begin) / (end - begin).max(1e-12)).clamp(0.0, 1.0);
        match self.schedule {
            Shape::Constant => from,
            Shape::Linear => from + (to - from) * t,
            Shape::Cosine => from + (to - from) * 0.5 * (1.0 - (std::f64::consts::PI * t).cos()),
            Shape::Step => {
                let steps = f64::from(self.steps.unwrap_or(1).max(1));
                from + (to - from) * ((t * (steps + 1.0)).floor().min(steps) / steps)
            }
            Shape::Staged => {
                let values = self.values.as_deref().unwrap_or_default();
                let n = values.len().max(1);
                let stage = match (&self.at, self.every) {
                    (Some(at), _) => at.iter().rposition(|a| *a <= progress).unwrap_or(0),
                    // The end of the run belongs to the last stage begun before it.
                    (None, Some(every)) => (progress.min(1.0 - 1e-9) / every) as usize % n,
                    (None, None) => ((progress * n as f64) as usize).min(n - 1),
                };
                values.get(stage).copied().unwrap_or(0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct One {
        x: Scheduled,
    }

    fn parse(text: &str) -> Scheduled {
        toml::from_str::<One>(&format!("x = {text}")).unwrap().x
    }

    #[test]
    fn every_shape_goes_from_where_to_where_it_says() {
        for (text, expected) in [
            ("3", [3.0, 3.0, 3.0, 3.0, 3.0]),
            ("{ schedule = \"constant\", from = 2.5 }", [2.5, 2.5, 2.5, 2.5, 2.5]),
            ("{ schedule = \"linear\", from = 1, to = 9 }", [1.0, 3.0, 5.0, 7.0, 9.0]),
            ("{ schedule = \"linear\", from = 1, to = 9, begin = 0.5 }", [1.0, 1.0, 1.0, 5.0, 9.0]),
            ("{ schedule = \"linear\", from = 8, to = 0, end = 0.5 }", [8.0, 4.0, 0.0, 0.0, 0.0]),
            ("{ schedule = \"cosine\", from = 0, to = 1 }", [0.0, 0.146_446_609, 0.5, 0.853_553_391, 1.0]),
            ("{ schedule = \"step\", from = 0, to = 1 }", [0.0, 0.0, 1.0, 1.0, 1.0]),
            ("{ schedule = \"step\", from = 0, to = 3, steps = 3 }", [0.0, 1.0, 2.0, 3.0, 3.0]),
            ("{ schedule = \"staged\", values = [5, 7] }", [5.0, 5.0, 7.0, 7.0, 7.0]),
            ("{ schedule = \"staged\", values = [5, 7], at = [0, 0.75] }", [5.0, 5.0, 5.0, 7.0, 7.0]),
            ("{ schedule = \"staged\", values = [1, 0], every = 0.25 }", [1.0, 0.0, 1.0, 0.0, 0.0]),
        ] {
            let scheduled = parse(text);
            assert_eq!(scheduled.mistake(), None, "{text}");
            for (i, value) in expected.into_iter().enumerate() {
                let got = scheduled.at(i as f64 / 4.0);
                assert!((got - value).abs() < 1e-8, "{text} at {i}/4: {got}");
            }
            let (low, high) = scheduled.bounds();
            assert!((0..=100).all(|i| (low..=high).contains(&scheduled.at(f64::from(i) / 100.0))));
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("nan", "number"),
            ("{ schedule = \"linear\", from = 1 }", "to ="),
            ("{ schedule = \"cosine\", to = 1 }", "from ="),
            ("{ schedule = \"linear\", from = 1, to = 2, begin = 0.7, end = 0.3 }", "begin below end"),
            ("{ schedule = \"linear\", from = 1, to = 2, values = [1] }", "staged"),
            ("{ schedule = \"staged\", values = [] }", "values"),
            ("{ schedule = \"staged\", values = [1, 2], at = [0.5, 0.2] }", "ascending"),
            ("{ schedule = \"staged\", values = [1, 2], every = 0 }", "every"),
            ("{ schedule = \"linear\", from = 1, to = 2, steps = 2 }", "steps"),
        ] {
            let mistake = parse(text).mistake().expect(text);
            assert!(mistake.contains(word), "{text}: {mistake}");
        }
        let error = toml::from_str::<One>("x = { schedule = \"linear\", form = 1 }").err().unwrap().to_string();
        assert!(error.contains("form") && error.contains("from"), "{error}");
        assert!(toml::from_str::<One>("x = true").is_err());
    }
}
