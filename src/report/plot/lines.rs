//! Curves over a common axis, with bands, marks and a diagonal.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Axis, BOTTOM, COLOURS, Data, Frame, HEIGHT, LEFT, RIGHT, TOP, WIDTH, axes, legend, table};
use crate::report::html::{Html, Show, html};

/// More points than this are thinned out: a drawing has not many more dots.
const POINTS: usize = 240;
/// Up to so many points are marked by dots.
const DOTS: usize = 40;

/// One curve.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// As the legend has it.
    pub(crate) name: String,
    /// Which colour.
    pub(crate) colour: usize,
    /// By ascending x.
    pub(crate) points: Vec<(f64, f64)>,
}

/// The room between two curves.
#[derive(Clone, Debug)]
pub(crate) struct Band {
    /// As the table has it.
    pub(crate) name: String,
    /// Which colour.
    pub(crate) colour: usize,
    /// By ascending x: x, the lower and the upper bound.
    pub(crate) points: Vec<(f64, f64, f64)>,
}

/// A place on the x axis that is worth a line.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) x: f64,
    pub(crate) label: String,
}

/// A plot of curves.
pub(crate) struct Lines {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    pub(crate) bands: Vec<Band>,
    pub(crate) marks: Vec<Mark>,
    /// Whether there is a line where x equals y.
    pub(crate) diagonal: bool,
}

impl Lines {
    /// Curves over `x`, with `y` as it is.
    pub(crate) fn new(x: Axis, y: Axis, series: Vec<Series>) -> Self {
        Self { x, y, series, bands: Vec::new(), marks: Vec::new(), diagonal: false }
    }

    /// The figure; its numbers go into `data`. Nothing where there is not one point.
    pub(crate) fn draw(mut self, frame: &Frame<'_>, data: &mut Data) -> Html {
        for series in &mut self.series {
            series.points.retain(|(x, y)| x.is_finite() && y.is_finite());
            series.points = thinned(&series.points);
        }
        self.series.retain(|series| !series.points.is_empty());
        if self.series.is_empty() {
            return Html::default();
        }
        for band in &mut self.bands {
            band.points = thinned(&band.points);
        }
        let (x, y) = (self.x.drawn(LEFT, RIGHT), self.y.drawn(BOTTOM, TOP));
        let mut drawing = axes(&x, &y);
        for band in &self.bands {
            drawing.push(&area(band, &x, &y));
        }
        if self.diagonal {
            drawing.push(&html!("<path class=\"reference\" d=\"M{} {}L{} {}\"/>", LEFT, BOTTOM, RIGHT, TOP));
        }
        for (number, mark) in self.marks.iter().enumerate() {
            drawing.push(&marked(mark, number, &x));
        }
        for series in &self.series {
            drawing.push(&curve(series, &x, &y));
        }
        let names: Vec<_> = self.series.iter().map(|s| (s.colour, s.name.as_str())).collect();
        let said: Vec<String> = self.series.iter().map(|s| said(s, &x, &y)).collect();
        data.insert(
            frame.id.to_string(),
            json!({
                "kind": "lines", "title": frame.title, "x": x.json(), "y": y.json(),
                "series": self.series.iter().map(|s| json!({
                    "name": s.name, "colour": s.colour % COLOURS, "points": s.points,
                })).collect::<Value>(),
                "bands": self.bands.iter().map(|b| json!({ "name": b.name, "points": b.points })).collect::<Value>(),
                "marks": self.marks.iter().map(|m| json!({ "x": m.x, "label": m.label })).collect::<Value>(),
            }),
        );
        let numbers = numbers(&self.series, &self.bands, &x, &y);
        frame.around(&said.join(" "), (WIDTH, HEIGHT), &legend(&names), &drawing, &numbers)
    }
}

/// `points`, or an even selection with both ends.
fn thinned<T: Copy>(points: &[T]) -> Vec<T> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    (0..POINTS).map(|i| points[i * (points.len() - 1) / (POINTS - 1)]).collect()
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut out = String::new();
    for (x, y) in points {
        out.push(if out.is_empty() { 'M' } else { 'L' });
        x.show(&mut out);
        out.push(' ');
        y.show(&mut out);
    }
    out
}

fn curve(series: &Series, x: &Axis, y: &Axis) -> Html {
    let colour = series.colour % COLOURS;
    let places = || series.points.iter().map(|(a, b)| (x.at(*a), y.at(*b)));
    let mut out = html!("<path class=\"line c{} d{}\" d=\"{}\"/>", colour, colour, path(places()));
    if series.points.len() <= DOTS {
        let dots = places().map(|(a, b)| html!("<circle cx=\"{}\" cy=\"{}\" r=\"3\"/>", a, b)).collect::<Html>();
        out.push(&html!("<g class=\"dots c{}\">{}</g>", colour, dots));
    }
    out
}

fn area(band: &Band, x: &Axis, y: &Axis) -> Html {
    let up = band.points.iter().map(|(a, _, high)| (x.at(*a), y.at(*high)));
    let back = band.points.iter().rev().map(|(a, low, _)| (x.at(*a), y.at(*low)));
    html!("<path class=\"band c{}\" d=\"{}Z\"/>", band.colour % COLOURS, path(up.chain(back)))
}

/// A line with its label beside it, on the side where there is more room.
fn marked(mark: &Mark, number: usize, x: &Axis) -> Html {
    let at = x.at(mark.x);
    let left = at > (LEFT + RIGHT) / 2.0;
    html!(
        "<g class=\"mark\"><path d=\"M{} {}V{}\"/><text class=\"{}\" x=\"{}\" y=\"{}\">{}</text></g>",
        at,
        TOP,
        BOTTOM,
        if left { "end" } else { "start" },
        if left { at - 5.0 } else { at + 5.0 },
        TOP + 11.0 + 18.0 * number as f64,
        mark.label,
    )
}

/// A curve in words.
fn said(series: &Series, x: &Axis, y: &Axis) -> String {
    let (Some(first), Some(last)) = (series.points.first(), series.points.last()) else { return String::new() };
    let of = |(a, b): &(f64, f64)| format!("{} at {} {}", y.exact(*b), x.label, x.exact(*a));
    match series.points.len() {
        1 => format!("{}: {}.", series.name, of(first)),
        n => format!("{}: from {} to {}, {n} points.", series.name, of(first), of(last)),
    }
}

/// All points, a row for each place on the x axis.
fn numbers(series: &[Series], bands: &[Band], x: &Axis, y: &Axis) -> Html {
    let columns = series.len() + bands.len();
    // Ordered by the bits of the place, which go with its value: places are not negative.
    let mut rows: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut put = |at: f64, column: usize, text: String| {
        rows.entry(at.max(0.0).to_bits()).or_insert_with(|| vec![String::new(); columns])[column] = text;
    };
    for (column, series) in series.iter().enumerate() {
        series.points.iter().for_each(|(a, b)| put(*a, column, y.exact(*b)));
    }
    for (column, band) in (series.len()..).zip(bands) {
        let text = |low, high| format!("{} to {}", y.exact(low), y.exact(high));
        band.points.iter().for_each(|(a, low, high)| put(*a, column, text(*low, *high)));
    }
    let names = series.iter().map(|s| s.name.clone()).chain(bands.iter().map(|b| b.name.clone()));
    let heads: Vec<String> = std::iter::once(x.label.clone()).chain(names).collect();
    let row = |(at, cells): (u64, Vec<String>)| std::iter::once(x.exact(f64::from_bits(at))).chain(cells).collect();
    table(&heads, rows.into_iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::super::Form;
    use super::*;

    #[test]
    fn every_point_is_in_the_drawing_the_table_and_the_data() {
        let points: Vec<(f64, f64)> = (1..=5).map(|i| (f64::from(i), 1.0 / f64::from(i))).collect();
        let x = Axis::over("epoch", points.iter().map(|p| p.0), Form::Plain);
        let y = Axis::over("loss", points.iter().map(|p| p.1), Form::Plain).with_zero().widened();
        let mut data = Data::new();
        let mut lines = Lines::new(x, y, vec![Series { name: "<model>".into(), colour: 0, points: points.clone() }]);
        lines.series[0].points.push((6.0, f64::NAN));
        lines.marks.push(Mark { x: 3.0, label: "best".into() });
        let frame = Frame { id: "loss", title: "Loss", caption: "It falls." };
        let html = lines.draw(&frame, &mut data).into_string();
        assert_eq!(html.matches("<circle").count(), 5);
        assert_eq!(html.matches("<tr>").count(), 6, "a head and five rows");
        assert!(html.contains("M66 ") && html.contains("L508 "), "from one side to the other: {html}");
        assert!(html.contains("&lt;model&gt;: from 1 at epoch 1 to 0.20000 at epoch 5, 5 points."), "{html}");
        assert_eq!(data["loss"]["series"][0]["points"], serde_json::to_value(points).unwrap());
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_ends() {
        let points: Vec<u32> = (0..10_000).collect();
        let few = thinned(&points);
        assert_eq!((few.len(), few[0], few[POINTS - 1]), (POINTS, 0, 9_999));
        assert!(few.is_sorted());
    }

    #[test]
    fn without_points_there_is_no_plot() {
        let axis = || Axis::over("x", std::iter::empty(), Form::Plain);
        let empty = Series { name: String::new(), colour: 0, points: vec![(1.0, f64::NAN)] };
        let frame = Frame { id: "none", title: "", caption: "" };
        let mut data = Data::new();
        assert!(Lines::new(axis(), axis(), vec![empty]).draw(&frame, &mut data).is_empty());
        assert!(data.is_empty());
    }
}
