//! Axes: from values to places on a drawing, and ticks at round numbers.

use serde_json::{Value, json};

use crate::report::number;

/// How the numbers of an axis are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Plain,
    /// Shares, as percent.
    Percent,
    /// Seconds, bytes and others that have their unit in the axis' label.
    Short,
}

/// One axis of a plot.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) label: String,
    low: f64,
    high: f64,
    log: bool,
    form: Form,
    from: f64,
    to: f64,
}

impl Axis {
    /// A linear axis over `values`, which need not be finite.
    pub(crate) fn over(label: &str, values: impl Iterator<Item = f64>, form: Form) -> Self {
        let (mut low, mut high) =
            values.filter(|v| v.is_finite()).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if low == high {
            // Room around a constant.
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low, high) = (low - room, high + room);
        }
        Self { label: label.to_string(), low, high, log: false, form, from: 0.0, to: 1.0 }
    }

    /// From 0 on.
    pub(crate) fn with_zero(mut self) -> Self {
        self.low = self.low.min(0.0);
        self
    }

    /// By logarithms, if all values are above 0 and span more than a factor of 20.
    pub(crate) fn log_if_wide(mut self) -> Self {
        self.log = self.low > 0.0 && self.high / self.low > 20.0;
        self
    }

    /// Widened to ticks.
    pub(crate) fn widened(mut self) -> Self {
        if self.log {
            return self;
        }
        let step = self.step();
        self.low = (self.low / step).floor() * step;
        self.high = (self.high / step).ceil() * step;
        self
    }

    /// Drawn from `from` to `to`.
    pub(crate) fn drawn(mut self, from: f64, to: f64) -> Self {
        (self.from, self.to) = (from, to);
        self
    }

    /// Where `value` is drawn, at the edge if it is beyond.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn step(&self) -> f64 {
        let rough = (self.high - self.low) / 4.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|s| s * power >= rough * 0.999).unwrap_or(10.0);
        // Counts have no halves.
        if self.label == "epoch" { (step * power).ceil().max(1.0) } else { step * power }
    }

    /// Values with a tick: some five of them, at round numbers.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        if self.log {
            let steps: &[f64] = if self.high / self.low > 1e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let all: Vec<f64> = powers
                .flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)))
                .filter(|v| (self.low * 0.999..=self.high * 1.001).contains(v))
                .collect();
            let every = all.len().div_ceil(6).max(1);
            return all.into_iter().step_by(every).collect();
        }
        let step = self.step();
        let first = (self.low / step - 1e-9).ceil();
        let many = (((self.high - first * step) / step + 1e-9).floor()).clamp(0.0, 20.0) as usize;
        (0..=many).map(|i| (first + i as f64) * step).map(|v| if v.abs() < step * 1e-6 { 0.0 } else { v }).collect()
    }

    /// `value` as this axis writes it at a tick.
    pub(crate) fn tick(&self, value: f64) -> String {
        let step = self.step();
        match self.form {
            Form::Percent => format!("{:.*} %", decimals(step * 100.0), value * 100.0),
            _ if self.log || value.abs() >= 1e3 => number::round(value),
            _ => format!("{value:.*}", decimals(step)),
        }
    }

    /// `value` as a table or a tooltip writes it.
    pub(crate) fn exact(&self, value: f64) -> String {
        match self.form {
            Form::Percent => number::percent(value),
            Form::Short => number::short(value),
            Form::Plain if value.fract() == 0.0 && value.abs() < 1e15 => format!("{value}"),
            Form::Plain if value.abs() < 1.0 && value.abs() >= 1e-4 => format!("{value:.5}"),
            Form::Plain => number::short(value),
        }
    }

    /// What the script needs to know of it.
    pub(crate) fn json(&self) -> Value {
        let form = match self.form {
            Form::Plain => "plain",
            Form::Percent => "percent",
            Form::Short => "short",
        };
        json!({
            "label": self.label, "low": self.low, "high": self.high, "log": self.log, "from": self.from, "to": self.to,
            "form": form,
        })
    }
}

/// Decimals that tell multiples of `step` apart.
fn decimals(step: f64) -> usize {
    (0..6)
        .find(|d| {
            (step * 10f64.powi(*d as i32)).fract().abs() < 1e-6 || (step * 10f64.powi(*d as i32)).fract() > 1.0 - 1e-6
        })
        .unwrap_or(6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ticks_are_round() {
        let axis = Axis::over("x", [0.013, 0.047].into_iter(), Form::Plain).widened();
        let ticks: Vec<String> = axis.ticks().into_iter().map(|v| axis.tick(v)).collect();
        assert_eq!(ticks, ["0.01", "0.02", "0.03", "0.04", "0.05"]);
        let axis = Axis::over("x", [1.0, 50_000.0].into_iter(), Form::Short).log_if_wide();
        let ticks: Vec<String> = axis.ticks().into_iter().map(|v| axis.tick(v)).collect();
        assert_eq!(ticks, ["1", "10", "100", "1k", "10k"]);
        let axis = Axis::over("epoch", [1.0, 3.0].into_iter(), Form::Plain);
        assert_eq!(axis.ticks(), [1.0, 2.0, 3.0], "epochs have no halves");
    }

    proptest! {
        #[test]
        fn values_lie_on_the_drawing_in_their_order(
            mut values in proptest::collection::vec(-1e6f64..1e6, 1..20), from in 0.0f64..100.0, to in 200.0f64..400.0,
        ) {
            let axis = Axis::over("x", values.iter().copied().chain([f64::NAN]), Form::Plain).widened().drawn(from, to);
            values.sort_by(f64::total_cmp);
            let places: Vec<f64> = values.iter().map(|v| axis.at(*v)).collect();
            prop_assert!(places.is_sorted());
            prop_assert!(places.iter().all(|p| (from - 1e-6..=to + 1e-6).contains(p)));
            let ticks = axis.ticks();
            prop_assert!((2..=21).contains(&ticks.len()), "{ticks:?}");
        }
    }
}
