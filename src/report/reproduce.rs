//! How to make the model again: the configuration as TOML, and the commands.

use serde_json::Value;

use crate::dataset::{ChangeKind, Dataset, Part};
use crate::ingest::IngestOptions;
use crate::model::Model;

/// The configuration of a run as TOML for `train --config`; numbers that were kept in single precision in as few digits as
/// they need.
pub(super) fn toml(config: &Value) -> String {
    without_nulls(config).and_then(|value| toml::to_string(&value).ok()).unwrap_or_default()
}

/// `value` as TOML has it, which knows no null.
fn without_nulls(value: &Value) -> Option<toml::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(b) => toml::Value::Boolean(*b),
        Value::String(s) => toml::Value::String(s.clone()),
        Value::Number(n) => match n.as_i64() {
            Some(n) => toml::Value::Integer(n),
            None => toml::Value::Float(fewest_digits(n.as_f64().unwrap_or(f64::NAN))),
        },
        Value::Array(values) => toml::Value::Array(values.iter().filter_map(without_nulls).collect()),
        Value::Object(values) => toml::Value::Table(
            values.iter().filter_map(|(key, value)| Some((key.clone(), without_nulls(value)?))).collect(),
        ),
    })
}

/// 0.019999999552965164 as 0.02: equal in single precision, but for the last bit that reading JSON may lose.
fn fewest_digits(value: f64) -> f64 {
    let single = value as f32;
    if (f64::from(single) - value).abs() <= value.abs() * 1e-15 {
        single.to_string().parse().unwrap_or(value)
    } else {
        value
    }
}

/// The commands that make the model again, for a shell.
pub(super) fn commands(model: &Model, dataset: Option<&Dataset>, toml: &str) -> String {
    let data = dataset.map_or("DATASET".to_string(), |d| quoted(&d.path().to_string_lossy()));
    let output = quoted(&model.path().to_string_lossy());
    let mut text = String::new();
    if let Some(ingest) = dataset.and_then(ingest) {
        text += &ingest;
    }
    let end = delimiter(toml);
    text += &format!("cat > run.toml <<'{end}'\n{toml}{end}\n");
    text += &format!("peccary train {data} --config run.toml --output {output}\n");
    if dataset.is_some_and(|d| d.part(Part::Test).is_some()) {
        text += &format!("peccary evaluate {output} {data}\n");
    } else if dataset.is_some_and(|d| d.part(Part::Valid).is_some()) {
        text += &format!("peccary evaluate {output} {data} --split valid\n");
    }
    text + &format!("peccary report {output} {data}\n")
}

/// A line that `text` does not have.
fn delimiter(text: &str) -> String {
    let mut end = "END".to_string();
    while text.lines().any(|line| line == end) {
        end += "_";
    }
    end
}

/// The command that made the dataset, if that says how it was made.
fn ingest(dataset: &Dataset) -> Option<String> {
    let manifest = dataset.manifest();
    if let Some(change) = manifest.changes.iter().rev().find(|change| change.kind == ChangeKind::HoldOut) {
        let then = change.withheld.last().map_or("", String::as_str);
        return Some(format!(
            "# {} was made of another dataset, when that had the fingerprint {then}, by peccary hold-out --since a model of the \
             fingerprint {}\n",
            dataset.path().display(),
            change.before
        ));
    }
    let options: IngestOptions = serde_json::from_value(manifest.options.clone()).ok()?;
    let sources: Vec<&str> = manifest.sources.iter().map(|source| source.name.as_str()).collect();
    let (first, rest) = sources.split_first()?;
    let made = |part: Part, split: bool| dataset.part(part).is_some() && !split;
    let ready = [
        ("--valid", made(Part::Valid, splits(&manifest.options, "valid_split"))),
        ("--test", made(Part::Test, splits(&manifest.options, "split"))),
    ];
    let ready: Vec<&str> = ready.into_iter().filter(|(_, is)| *is).map(|(flag, _)| flag).collect();
    let mut text = String::new();
    // Parts of their own are the last of the sources; with more files than parts nothing tells which.
    let (logs, parts) = match ready.len() {
        0 => (sources.clone(), Vec::new()),
        n if n == rest.len() => (vec![*first], ready.iter().copied().zip(rest.iter().copied()).collect()),
        _ => {
            text += &format!("# the dataset does not say which of these files were given by {}\n", ready.join(" and "));
            (sources.clone(), Vec::new())
        }
    };
    text += "peccary ingest";
    for log in logs {
        text = text + " " + &quoted(log);
    }
    for (flag, file) in parts {
        text += &format!(" {flag} {}", quoted(file));
    }
    text += &flags(&options);
    text += &format!(" --output {}", quoted(&dataset.path().to_string_lossy()));
    if sources.contains(&"-") {
        text += " < LOG";
    }
    Some(text + "\n")
}

fn splits(options: &Value, key: &str) -> bool {
    options.get(key).and_then(Value::as_str).is_some_and(|split| split != "none")
}

/// The flags of `ingest` whose values are not the defaults.
fn flags(options: &IngestOptions) -> String {
    let (read, default) = (&options.read, IngestOptions::default());
    let mut text = String::new();
    let mut flag = |name: &str, value: String| text += &format!(" --{name} {}", quoted(&value));
    let mut named = |name: &str, value: Option<String>| value.into_iter().for_each(|value| flag(name, value));
    named("format", read.format.as_ref().map(ToString::to_string));
    named("delimiter", read.delimiter.as_ref().map(ToString::to_string));
    for (name, column) in [
        ("user-column", &read.user),
        ("item-column", &read.item),
        ("time-column", &read.time),
        ("weight-column", &read.weight),
        ("event-column", &read.event),
    ] {
        named(name, column.as_ref().map(ToString::to_string));
    }
    let context: Vec<String> = read.context.iter().map(ToString::to_string).collect();
    let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
    named("context", list(&context));
    named("time-unit", (read.time_unit != default.read.time_unit).then(|| read.time_unit.to_string()));
    named("min-weight", options.min_weight.map(|w| w.to_string()));
    named("keep-events", list(&options.keep_events));
    named("exposure-events", list(&options.exposure_events));
    for (name, value, default) in [
        ("min-user-count", u64::from(options.min_user_count), 1),
        ("min-item-count", u64::from(options.min_item_count), 1),
        ("seed", options.seed, 0),
        ("hash-seed", options.hash_seed, 0),
    ] {
        named(name, (value > default).then(|| value.to_string()));
    }
    for (name, split, default) in
        [("split", &options.split, &default.split), ("valid-split", &options.valid_split, &default.valid_split)]
    {
        named(name, (split != default).then(|| split.to_string()));
    }
    named("on-error", (options.on_error != default.on_error).then(|| "skip".to_string()));
    match read.header {
        Some(true) => text += " --header",
        Some(false) => text += " --no-header",
        None => {}
    }
    if !read.quotes {
        text += " --no-quotes";
    }
    text
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_string()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::TrainConfig;

    #[test]
    fn a_configuration_survives_the_way_through_the_page() {
        let mut config = TrainConfig { dimensions: 48, ..TrainConfig::default() };
        config.l2 = Some(0.002);
        config.optimizer.learning_rate = Some(0.019_999);
        config.validation = Some(crate::train::ValidationConfig { min_delta: 0.001, ..Default::default() });
        config.optimizer.beta2 = 0.998;
        let value: Value = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        let text = toml(&value);
        assert!(text.contains("beta2 = 0.998\n"), "{text}");
        assert!(text.contains("l2 = 0.002\n"), "{text}");
        assert_eq!(::toml::from_str::<TrainConfig>(&text).unwrap(), config);
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("clicks-1.csv"), "clicks-1.csv");
        assert_eq!(quoted("my log's.csv"), r"'my log'\''s.csv'");
        assert_eq!(quoted("$(rm -rf)"), "'$(rm -rf)'");
        assert_eq!(quoted(""), "''");
        assert_eq!(delimiter("a\nEND\n"), "END_");
    }
}
