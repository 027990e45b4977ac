//! What evaluation has found: the table of metrics, the model beside others and beside baselines.

use serde::Deserialize;
use serde_json::Value;

use super::html::{Html, html};
use super::number::{count, metric};

/// A column of the table of metrics.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// A model's name, or a baseline's.
    pub(super) name: String,
    /// Whether it is a baseline.
    pub(super) baseline: bool,
    /// By name.
    pub(super) metrics: Vec<(String, f64)>,
    /// 95 % intervals, by name; of models only.
    pub(super) intervals: Vec<(String, [f64; 2])>,
}

impl Column {
    /// The value of a metric.
    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }
}

/// The columns of evaluations in the form that `evaluate --json` prints; baselines are those of the first.
pub(super) fn columns(evaluations: &[(String, Value)]) -> Vec<Column> {
    let metrics = |value: &Value| -> Vec<(String, f64)> {
        let pairs = value.as_object().into_iter().flatten();
        pairs.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
    };
    let mut columns: Vec<Column> = evaluations
        .iter()
        .map(|(name, e)| Column {
            name: name.clone(),
            baseline: false,
            metrics: metrics(&e["metrics"]),
            intervals: intervals(&e["intervals"]),
        })
        .collect();
    let baselines = evaluations.first().and_then(|(_, e)| e.get("baselines")?.as_object());
    columns.extend(baselines.into_iter().flatten().map(|(name, value)| Column {
        name: name.replace('_', " "),
        baseline: true,
        metrics: metrics(value),
        intervals: Vec::new(),
    }));
    columns
}

fn intervals(value: &Value) -> Vec<(String, [f64; 2])> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(name, value)| Some((name.clone(), <[f64; 2]>::deserialize(value).ok()?))).collect()
}

/// The metric that models are compared by: NDCG at the largest cut-off.
pub(super) fn primary(columns: &[Column]) -> Option<String> {
    let first = columns.first()?;
    let at = |name: &str| name.split_once('@').and_then(|(_, k)| k.parse::<usize>().ok()).unwrap_or(0);
    let ndcg = first.metrics.iter().map(|(name, _)| name).filter(|name| name.starts_with("ndcg@"));
    ndcg.max_by_key(|name| at(name)).or(first.metrics.first().map(|(name, _)| name)).cloned()
}

/// The table of metrics, and what was ranked.
pub(super) fn table(columns: &[Column], evaluations: &[(String, Value)]) -> Html {
    let evaluation = evaluations.first().map_or(&Value::Null, |(_, evaluation)| evaluation);
    let primary = primary(columns).unwrap_or_default();
    let head = |column: &Column| match column.baseline {
        true => html!("<th scope=\"col\" class=\"baseline\">{}</th>", column.name),
        false => html!("<th scope=\"col\">{}</th>", column.name),
    };
    let heads = columns.iter().map(head).collect::<Html>();
    let names: Vec<&String> =
        columns.first().into_iter().flat_map(|c| c.metrics.iter().map(|(name, _)| name)).collect();
    let row = |name: &&String| {
        let cell = |column: &Column| {
            let value = column.get(name).map_or("–".to_string(), metric);
            let interval = column.intervals.iter().find(|(n, _)| n == *name).map(|(_, interval)| *interval);
            match (column.baseline, interval) {
                (true, _) => html!("<td class=\"baseline\">{}</td>", value),
                (false, None) => html!("<td>{}</td>", value),
                (false, Some(i)) => html!("<td>{}<small>{}</small></td>", value, range(i)),
            }
        };
        let cells = columns.iter().map(cell).collect::<Html>();
        match **name == primary {
            true => html!("<tr class=\"primary\"><th scope=\"row\">{}</th>{}</tr>", title(name), cells),
            false => html!("<tr><th scope=\"row\">{}</th>{}</tr>", title(name), cells),
        }
    };
    let rows = names.iter().map(row).collect::<Html>();
    let number = |key: &str| evaluation[key].as_u64().map_or("–".to_string(), count);
    let text = |key: &str| evaluation[key].as_str().unwrap_or("–");
    let said = format!(
        "{} users and their {} held-out interactions of the {} part, ranked among {} items; protocol {}, seed {}.",
        number("users"),
        number("interactions"),
        text("split"),
        number("items"),
        text("protocol"),
        number("seed"),
    );
    let of = |evaluation: &Value| -> Vec<String> {
        let notes = evaluation["notes"].as_array().into_iter().flatten().filter_map(Value::as_str);
        notes.map(str::to_string).collect()
    };
    let several = evaluations.len() > 1;
    let notes = evaluations.iter().flat_map(|(name, evaluation)| {
        let named = move |note: String| if several { format!("{name}: {note}") } else { note };
        of(evaluation).into_iter().map(named)
    });
    let notes = notes.map(|note| html!("<p class=\"note\">{}</p>", note)).collect::<Html>();
    html!(
        "<div class=\"card\"><p>{}</p><div class=\"scroll whole\" tabindex=\"0\" role=\"region\" aria-label=\"Metrics\">\
         <table class=\"metrics\"><thead><tr><th scope=\"col\">metric</th>{}</tr></thead><tbody>{}</tbody></table></div>\
         <p class=\"note\">As <code>peccary evaluate --json</code> measures them: docs/metrics.md has every \
         definition. Small numbers are 95 % intervals, by resampling users.</p>{}</div>",
        said,
        heads,
        rows,
        notes,
    )
}

/// An interval in words.
pub(super) fn range([low, high]: [f64; 2]) -> String {
    format!("{} – {}", metric(low), metric(high))
}

/// `ndcg@20` as people write it.
pub(super) fn title(name: &str) -> String {
    let (metric, k) = name.split_once('@').map_or((name, None), |(metric, k)| (metric, Some(k)));
    let metric = match metric {
        "ndcg" | "mrr" | "map" | "auc" => metric.to_uppercase(),
        _ => {
            let mut text = metric.replace('_', " ");
            if let Some(first) = text.get_mut(0..1) {
                first.make_ascii_uppercase();
            }
            text
        }
    };
    k.map_or(metric.clone(), |k| format!("{metric}@{k}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_models_and_then_baselines() {
        let evaluation = serde_json::json!({
            "metrics": { "ndcg@5": 0.1, "ndcg@20": 0.2, "auc": 0.9, "none": null },
            "intervals": { "ndcg@20": [0.15, 0.25] },
            "baselines": { "popularity": { "ndcg@20": 0.05 }, "item_knn": { "ndcg@20": 0.15 } },
        });
        let evaluations = [("m".to_string(), evaluation)];
        let columns = columns(&evaluations);
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["m", "popularity", "item knn"]);
        assert_eq!(primary(&columns).as_deref(), Some("ndcg@20"));
        assert_eq!((columns[0].get("ndcg@20"), columns[1].get("auc")), (Some(0.2), None));
        assert!(table(&columns, &evaluations).into_string().contains("0.1500 – 0.2500"));
        assert_eq!((title("ndcg@20").as_str(), title("hit_rate@5").as_str()), ("NDCG@20", "Hit rate@5"));
    }
}
