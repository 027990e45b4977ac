//! Plots as inline SVG: readable without scripts, with the same numbers as a table and as JSON for whoever reads the page
//! by program. Colours are classes, so that themes can change them; what differs by colour differs by dashes, too.

mod axis;
mod bars;
mod lines;
mod scatter;

pub(super) use axis::{Axis, Form};
pub(super) use bars::Bars;
pub(super) use lines::{Band, Lines, Mark, Series};
pub(super) use scatter::{CLASSES, Choice, Dot, HUES, OTHER, Scatter, UNKNOWN};

use serde_json::{Map, Value};

use super::html::{Html, html};

/// Colours that series go through.
pub(super) const COLOURS: usize = 6;

/// Size of a drawing, in its own units.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 300.0;
/// The part with the data.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 508.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 254.0;

/// What the plots of a page hold, by their ids.
pub(super) type Data = Map<String, Value>;

/// What surrounds every drawing.
pub(super) struct Frame<'a> {
    /// Names the plot in the page and in its data.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// What is to be seen, in a sentence.
    pub(super) caption: &'a str,
}

impl Frame<'_> {
    /// The figure around a drawing: heading, legend, and the numbers as a table.
    fn around(&self, said: &str, (width, height): (f64, f64), legend: &Html, drawing: &Html, table: &Html) -> Html {
        let label = format!("{}. {said}", self.title);
        html!(
            "<figure class=\"card plot\" id=\"plot-{}\"><figcaption><h3>{}</h3><p>{}</p></figcaption>{}\
             <svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\" tabindex=\"0\" data-plot=\"{}\">{}</svg>\
             <details><summary>The numbers</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" \
             aria-label=\"{}\">{}</div></details></figure>\n",
            self.id,
            self.title,
            self.caption,
            legend,
            width,
            height,
            label,
            self.id,
            drawing,
            self.title,
            table,
        )
    }
}

/// The legend of some series: a stroke of each, and its name.
fn legend(names: &[(usize, &str)]) -> Html {
    if names.len() < 2 {
        return Html::default();
    }
    let item = |(colour, name): &(usize, &str)| {
        html!(
            "<li><svg viewBox=\"0 0 28 8\" aria-hidden=\"true\"><path class=\"line c{} d{}\" d=\"M1 4H27\"/></svg>{}</li>",
            *colour % COLOURS,
            *colour % COLOURS,
            *name,
        )
    };
    html!("<ul class=\"legend\">{}</ul>", names.iter().map(item).collect::<Html>())
}

/// A table: heads, and rows whose first cell is a head, too.
pub(super) fn table(heads: &[String], rows: impl Iterator<Item = Vec<String>>) -> Html {
    let cells = heads.iter().map(|head| html!("<th scope=\"col\">{}</th>", head)).collect::<Html>();
    let row = |row: Vec<String>| {
        let cell = |(at, cell): (usize, String)| match at {
            0 => html!("<th scope=\"row\">{}</th>", cell),
            _ => html!("<td>{}</td>", cell),
        };
        html!("<tr>{}</tr>", row.into_iter().enumerate().map(cell).collect::<Html>())
    };
    html!("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", cells, rows.map(row).collect::<Html>())
}

/// The axes of a drawing: lines across at the ticks of `y`, and the labels of both.
fn axes(x: &Axis, y: &Axis) -> Html {
    let mut out = rungs(y);
    for value in x.ticks() {
        out.push(&html!(
            "<text class=\"tick mid\" x=\"{}\" y=\"{}\">{}</text>",
            x.at(value),
            BOTTOM + 19.0,
            x.tick(value)
        ));
    }
    out.push(&labels(&x.label, &y.label));
    out
}

/// Lines across at the ticks of `y`.
fn rungs(y: &Axis) -> Html {
    let rung = |value: f64| {
        let at = y.at(value);
        html!(
            "<path class=\"grid\" d=\"M{} {}H{}\"/><text class=\"tick end\" x=\"{}\" y=\"{}\">{}</text>",
            LEFT,
            at,
            RIGHT,
            LEFT - 8.0,
            at + 4.5,
            y.tick(value),
        )
    };
    y.ticks().into_iter().map(rung).collect()
}

/// The labels of the axes: `y` above its ticks, `x` below.
fn labels(x: &str, y: &str) -> Html {
    html!(
        "<text class=\"axis\" x=\"4\" y=\"14\">{}</text><text class=\"axis end\" x=\"{}\" y=\"{}\">{}</text>\
         <path class=\"base\" d=\"M{} {}H{}\"/>",
        y,
        RIGHT,
        HEIGHT - 6.0,
        x,
        LEFT,
        BOTTOM,
        RIGHT,
    )
}
