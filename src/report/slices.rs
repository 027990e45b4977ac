//! Slices of an evaluation: the primary metric on each of them, with its interval.

use serde::Deserialize;
use serde_json::{Value, json};

use super::html::{Html, html, shown};
use super::number::{count, metric};
use super::plot::Data;
use super::quality::{Column, primary, range, title};

/// Characters of a slice's name.
const NAME: usize = 40;

/// A slice of an evaluation.
struct Slice {
    by: String,
    slice: String,
    value: f64,
    interval: Option<[f64; 2]>,
    users: u64,
    interactions: u64,
}

impl Slice {
    /// As `evaluate --json` has it; `None` without a value of `metric`.
    fn read(row: &Value, metric: &str) -> Option<Self> {
        let text = |key: &str| shown(row[key].as_str().unwrap_or_default(), NAME);
        let count = |key: &str| row[key].as_u64().unwrap_or(0);
        Some(Self {
            by: text("by"),
            slice: text("slice"),
            value: row["metrics"][metric].as_f64()?,
            interval: <[f64; 2]>::deserialize(&row["intervals"][metric]).ok(),
            users: count("users"),
            interactions: count("interactions"),
        })
    }

    /// The ends of its interval, or its value twice.
    fn ends(&self) -> [f64; 2] {
        self.interval.unwrap_or([self.value; 2])
    }
}

/// The primary metric on each slice of `evaluation`, and a line where everybody is.
pub(super) fn slices(columns: &[Column], evaluation: &Value, data: &mut Data) -> Html {
    let Some(name) = primary(columns) else { return Html::default() };
    let Some(whole) = columns.first().and_then(|column| column.get(&name)) else { return Html::default() };
    let rows = evaluation["slices"].as_array().into_iter().flatten();
    let slices: Vec<Slice> = rows.filter_map(|row| Slice::read(row, &name)).collect();
    let high = slices.iter().map(|slice| slice.ends()[1].max(slice.value)).fold(whole, f64::max);
    if slices.is_empty() || high <= 0.0 {
        return Html::default();
    }
    let at = |value: f64| 100.0 * value / high;
    let mut body = Html::default();
    let mut by = "";
    for slice in &slices {
        if slice.by != by {
            by = &slice.by;
            body.push(&html!("<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"5\">by {}</th></tr>", by));
        }
        let [low, top] = slice.ends().map(at);
        let drawn = html!(
            "<svg viewBox=\"0 0 100 26\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><path class=\"whole\" \
             d=\"M{} 0V26\"/><path class=\"whisker\" d=\"M{} 13H{}M{} 8V18M{} 8V18\"/><path class=\"point\" d=\"M{} \
             13h0\"/></svg>",
            at(whole),
            low,
            top,
            low,
            top,
            at(slice.value),
        );
        body.push(&html!(
            "<tr><th scope=\"row\"><bdi>{}</bdi></th><td class=\"range\">{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            slice.slice,
            drawn,
            metric(slice.value),
            slice.interval.map_or("–".to_string(), range),
            format!("{} / {}", count(slice.users), count(slice.interactions)),
        ));
    }
    let of = |slice: &Slice| {
        json!({
            "by": slice.by, "slice": slice.slice, "value": slice.value, "interval": slice.interval,
            "users": slice.users, "interactions": slice.interactions,
        })
    };
    let numbers: Value = slices.iter().map(of).collect();
    data.insert("slices".into(), json!({ "kind": "slices", "metric": name, "whole": whole, "rows": numbers }));
    html!(
        "<div class=\"card\" id=\"plot-slices\"><h3>{} by slice</h3><p class=\"note\">With 95 % intervals, by resampling \
         users; the dashed line is everybody. Where intervals are wide there are few users.</p>\
         <div class=\"scroll whole\" tabindex=\"0\" role=\"region\" aria-label=\"Slices\"><table class=\"forest\"><thead><tr>\
         <th scope=\"col\">slice</th><th scope=\"col\"><span class=\"unseen\">drawn</span></th><th scope=\"col\">{}</th>\
         <th scope=\"col\">95 % interval</th><th scope=\"col\">users / interactions</th></tr></thead><tbody>{}</tbody></table>\
         </div></div>\n",
        title(&name),
        title(&name),
        body,
    )
}

#[cfg(test)]
mod tests {
    use super::super::quality::columns;
    use super::*;

    #[test]
    fn intervals_are_drawn_to_scale() {
        let evaluation = json!({
            "metrics": { "ndcg@20": 0.2 },
            "slices": [{
                "by": "activity", "slice": "<3", "users": 4, "interactions": 9, "metrics": { "ndcg@20": 0.1 },
                "intervals": { "ndcg@20": [0.05, 0.3] },
            }],
        });
        let columns = columns(&[("m".to_string(), evaluation.clone())]);
        let mut data = Data::new();
        let drawn = slices(&columns, &evaluation, &mut data).into_string();
        assert!(drawn.contains("&lt;3") && drawn.contains("0.0500 – 0.3000") && drawn.contains("4 / 9"), "{drawn}");
        assert!(drawn.contains("M16.67 13H100M"), "in shares of the highest bound: {drawn}");
        assert_eq!(data["slices"]["rows"][0]["value"], 0.1);
        assert!(slices(&columns, &json!({}), &mut data).is_empty());
    }
}
