//! A map: named dots on a plane.

use serde_json::{Value, json};

use super::{Data, Frame};
use crate::report::html::{Html, Lines, html};

/// Classes of colour and size.
pub(crate) const CLASSES: usize = 6;
/// Colours without an order: so many values have one of their own.
pub(crate) const HUES: usize = 6;
/// Class and name of what has no colour of its own, and of what has no value.
pub(crate) const OTHER: (&str, &str) = ("k6", "(other)");
pub(crate) const UNKNOWN: (&str, &str) = ("k7", "(none)");

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 620.0;
const MARGIN: f64 = 16.0;

/// One dot.
#[derive(Clone, Debug)]
pub(crate) struct Dot {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// From 0; higher ones are larger and drawn above.
    pub(crate) class: usize,
    pub(crate) name: String,
    /// What the colour stands for.
    pub(crate) value: u64,
    /// What else is said of it, a line each.
    pub(crate) more: Vec<String>,
    /// Its class in each [`Choice`].
    pub(crate) chosen: Vec<usize>,
}

/// What the colours can stand for instead.
pub(crate) struct Choice {
    pub(crate) name: String,
    /// Class of the style sheet and name.
    pub(crate) classes: Vec<(String, String)>,
    /// The class of each dot, in their order.
    pub(crate) of: Vec<usize>,
}

/// A plot of dots, without axes: distances mean something, directions do not.
pub(crate) struct Scatter {
    pub(crate) dots: Vec<Dot>,
    /// What values count.
    pub(crate) what: String,
    /// The classes' names.
    pub(crate) classes: Vec<String>,
    /// What the reader can choose instead.
    pub(crate) choices: Vec<Choice>,
    /// The table that stands for it.
    pub(crate) table: Html,
}

impl Scatter {
    /// The figure; its numbers go into `data`.
    pub(crate) fn draw(mut self, frame: &Frame<'_>, data: &mut Data) -> Html {
        self.dots.sort_by(|a, b| (a.class, a.value, &a.name).cmp(&(b.class, b.value, &b.name)));
        let range = |of: fn(&Dot) -> f64| {
            self.dots.iter().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)))
        };
        let (x, y) = (range(|d| d.x), range(|d| d.y));
        // One scale for both directions.
        let scale =
            ((WIDTH - 2.0 * MARGIN) / (x.1 - x.0).max(1e-9)).min((HEIGHT - 2.0 * MARGIN) / (y.1 - y.0).max(1e-9));
        let place = |dot: &Dot| {
            let across = WIDTH / 2.0 + (dot.x - (x.0 + x.1) / 2.0) * scale;
            let down = HEIGHT / 2.0 - (dot.y - (y.0 + y.1) / 2.0) * scale;
            ((across * 10.0).round() / 10.0, (down * 10.0).round() / 10.0)
        };
        let mut drawing = Html::default();
        for class in 0..CLASSES {
            let dots = self.dots.iter().filter(|dot| dot.class == class);
            let radius = 3.2 + 1.1 * class as f64;
            let dots = dots.map(|dot| {
                let (across, down) = place(dot);
                let mut said = match self.classes.is_empty() {
                    true => dot.name.clone(),
                    false => format!("{}: {} {}", dot.name, dot.value, self.what),
                };
                dot.more.iter().for_each(|line| said = format!("{said}\n{line}"));
                html!(
                    "<circle cx=\"{}\" cy=\"{}\" r=\"{}\"><title>{}</title></circle>",
                    across,
                    down,
                    radius,
                    Lines(&said)
                )
            });
            drawing.push(&html!("<g class=\"s{}\">{}</g>", class, dots.collect::<Html>()));
        }
        let key = self.classes.iter().enumerate().map(|(class, name)| {
            html!(
                "<li><svg viewBox=\"0 0 20 20\" aria-hidden=\"true\" class=\"dot\"><circle class=\"s{}\" cx=\"10\" \
                 cy=\"10\" r=\"{}\"/></svg>{}</li>",
                class,
                3.5 + 1.1 * class as f64,
                name,
            )
        });
        let key = match self.classes.is_empty() {
            true => Html::default(),
            false => {
                let mut keys = html!(
                    "<ul class=\"legend\" data-legend=\"0\"><li>{}:</li>{}</ul>",
                    self.what,
                    key.collect::<Html>()
                );
                self.choices.iter().enumerate().for_each(|(at, choice)| keys.push(&choice.key(at + 1)));
                keys
            }
        };
        let places: Vec<_> = self.dots.iter().map(place).collect();
        data.insert(
            frame.id.to_string(),
            json!({
                "kind": "scatter", "title": frame.title, "what": self.what, "points": places,
                "values": self.dots.iter().map(|d| d.value).collect::<Value>(),
                "choices": self.choices.iter().enumerate().map(|(at, choice)| json!({
                    "name": choice.name, "classes": choice.classes,
                    "of": self.dots.iter().map(|d| d.chosen[at]).collect::<Value>(),
                })).collect::<Value>(),
            }),
        );
        let said = format!("A map of {} items; the table below names some with their neighbours.", self.dots.len());
        frame.around(&said, (WIDTH, HEIGHT), &key, &drawing, &self.table)
    }
}

impl Choice {
    /// Its legend, which is shown once it is chosen.
    fn key(&self, number: usize) -> Html {
        let item = |(class, name): &(String, String)| {
            html!(
                "<li><svg viewBox=\"0 0 20 20\" aria-hidden=\"true\" class=\"dot\"><circle class=\"{}\" cx=\"10\" cy=\"10\" \
                 r=\"6.5\"/></svg>{}</li>",
                class,
                name,
            )
        };
        let items = self.classes.iter().map(item).collect::<Html>();
        html!("<ul class=\"legend\" data-legend=\"{}\" hidden><li>{}:</li>{}</ul>", number, self.name, items)
    }
}
