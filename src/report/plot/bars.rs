//! Groups of bars, a group for each class.

use serde_json::{Value, json};

use super::{Axis, BOTTOM, COLOURS, Data, Frame, HEIGHT, LEFT, RIGHT, TOP, WIDTH, labels, legend, rungs, table};
use crate::report::html::{Html, html};

/// A plot of bars.
pub(crate) struct Bars {
    /// What the classes are.
    pub(crate) x: String,
    /// The height of bars, from 0 on.
    pub(crate) y: Axis,
    /// The classes.
    pub(crate) classes: Vec<String>,
    /// Names, and a value for each class.
    pub(crate) series: Vec<(String, Vec<f64>)>,
}

impl Bars {
    /// The figure; its numbers go into `data`.
    pub(crate) fn draw(self, frame: &Frame<'_>, data: &mut Data) -> Html {
        let y = self.y.drawn(BOTTOM, TOP);
        let mut drawing = rungs(&y);
        drawing.push(&labels(&self.x, &y.label));
        let group = (RIGHT - LEFT) / self.classes.len().max(1) as f64;
        let bar = group * 0.8 / self.series.len().max(1) as f64;
        // A character takes some ten units on a phone.
        let longest = self.classes.iter().map(|class| class.chars().count()).max().unwrap_or(0);
        let every = ((10 * longest + 4) as f64 / group).ceil().max(1.0) as usize;
        for (c, class) in self.classes.iter().enumerate() {
            let left = LEFT + group * c as f64;
            if c.is_multiple_of(every) {
                let at = left + group / 2.0;
                drawing.push(&html!("<text class=\"tick mid\" x=\"{}\" y=\"{}\">{}</text>", at, BOTTOM + 19.0, class));
            }
            for (s, (name, values)) in self.series.iter().enumerate() {
                let value = values.get(c).copied().unwrap_or(0.0);
                let (at, top) = (left + group * 0.1 + bar * s as f64, y.at(value));
                drawing.push(&html!(
                    "<rect class=\"bar c{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}</title></rect>",
                    s % COLOURS,
                    at,
                    top,
                    (bar - 1.0).max(0.5),
                    BOTTOM - top,
                    format!("{} {class}: {} {}", self.x, name, y.exact(value)),
                ));
            }
        }
        let names: Vec<_> = self.series.iter().enumerate().map(|(s, (name, _))| (s, name.as_str())).collect();
        let heads: Vec<String> =
            std::iter::once(self.x.clone()).chain(self.series.iter().map(|(name, _)| name.clone())).collect();
        let row = |(c, class): (usize, &String)| {
            let cells = self.series.iter().map(|(_, values)| values.get(c).map_or(String::new(), |v| y.exact(*v)));
            std::iter::once(class.clone()).chain(cells).collect()
        };
        let numbers = table(&heads, self.classes.iter().enumerate().map(row));
        let most = |(name, values): &(String, Vec<f64>)| {
            let (at, value) = values.iter().enumerate().fold((0, 0.0), |m, (i, v)| if *v > m.1 { (i, *v) } else { m });
            let class = self.classes.get(at).map_or("", String::as_str);
            format!("{name}: most, {}, at {} {class}.", y.exact(value), self.x)
        };
        let said: Vec<String> = self.series.iter().map(most).collect();
        data.insert(
            frame.id.to_string(),
            json!({
                "kind": "bars", "title": frame.title, "classes": self.classes, "y": y.json(),
                "series": self.series.iter().map(|(name, v)| json!({ "name": name, "values": v })).collect::<Value>(),
            }),
        );
        frame.around(&said.join(" "), (WIDTH, HEIGHT), &legend(&names), &drawing, &numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Form;
    use super::*;
    use crate::report::html::Show;

    #[test]
    fn bars_are_as_high_as_their_values() {
        let bars = Bars {
            x: "interactions".into(),
            y: Axis::over("share", [0.0, 1.0].into_iter(), Form::Percent),
            classes: ["1", "2–3"].map(String::from).into(),
            series: vec![("consumed".into(), vec![0.25, 0.75]), ("recommended".into(), vec![0.0, 1.0])],
        };
        let mut data = Data::new();
        let frame = Frame { id: "bars", title: "Bars", caption: "" };
        let html = bars.draw(&frame, &mut data).into_string();
        let full = BOTTOM - TOP;
        for share in [0.25, 0.75, 0.0, 1.0] {
            let mut height = String::new();
            (full * share).show(&mut height);
            assert!(html.contains(&format!("height=\"{height}\"")), "{share}");
        }
        assert_eq!(data["bars"]["series"][1]["values"][1], 1.0);
        assert!(html.contains("interactions 2–3: consumed 75 %"));
    }
}
