//! How to make the model again: the configuration as TOML, and the commands.

use serde_json::Value;

use crate::dataset::{Change, ChangeKind, Dataset, Part, Source};
use crate::ingest::IngestOptions;
use crate::model::{Model, readable};
use crate::train::UpdateOptions;

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

/// The commands that make the model again, for a shell, which stops at the first that fails, and where the model is there: the
/// dataset as it was ingested and appended to until the model was trained, and the trainings and updates that led to it.
pub(super) fn commands(model: &Model, dataset: Option<&Dataset>, toml: &str) -> String {
    let data = dataset.map_or("DATASET".to_string(), |d| place(&d.path().to_string_lossy()));
    let (output, end) = (place(&model.path().to_string_lossy()), delimiter(toml));
    let mut text = format!("test ! -e {output} &&\n");
    let train = format!(
        "cat > run.toml <<'{end}' &&\n{toml}{end}\npeccary train {data} --config run.toml --output {output} &&\n"
    );
    let mut lineage = lineage(model).into_iter().peekable();
    let mut learn = |state: Option<&str>, text: &mut String| {
        while let Some(version) = lineage.next_if(|version| state.is_none_or(|state| version.dataset == state)) {
            *text += &match &version.made {
                Made::Trained => train.clone(),
                Made::Updated(flags) => format!("peccary update {output} {data}{flags} &&\n"),
                Made::Lost(from) => {
                    let (number, how) = (version.number, "which is no more: this trains on all of the dataset instead");
                    remark(&format!("version {number} was updated from version {from}, {how}")) + &train
                }
            };
        }
    };
    let then = &model.manifest().dataset;
    match dataset {
        Some(dataset) => history(dataset, then, &mut text, &mut |state, text| learn(Some(state), text)),
        None => learn(None, &mut text),
    }
    for version in lineage {
        let made = if version.made == Made::Trained { "trained" } else { "updated" };
        text += &remark(&format!("version {} was {made} on a dataset that this one does not tell of", version.number));
    }
    if dataset.is_some_and(|d| had(d, Part::Test, then)) {
        text += &format!("peccary evaluate {output} {data} &&\n");
    } else if dataset.is_some_and(|d| had(d, Part::Valid, then)) {
        text += &format!("peccary evaluate {output} {data} --split valid &&\n");
    }
    text + &format!("peccary report {output} {data}\n")
}

/// Whether the dataset had a part already when its fingerprint was `then`.
fn had(dataset: &Dataset, part: Part, then: &str) -> bool {
    let manifest = dataset.manifest();
    let key = if part == Part::Test { "split" } else { "valid_split" };
    let since = dataset.changes_since(then).unwrap_or_default();
    let is_given = || manifest.sources.iter().any(|source| source.part == Some(part));
    let is_old = since.iter().all(|change| change.kind != ChangeKind::Append || change.held == Some(0));
    dataset.part(part).is_some() && (is_old || splits(&manifest.options, key) || is_given())
}

/// A version that led to another.
struct Ancestor {
    number: u32,
    made: Made,
    /// Fingerprint of the dataset then.
    dataset: String,
}

/// How a version was made.
#[derive(PartialEq)]
enum Made {
    /// From the start.
    Trained,
    /// By an update with these flags.
    Updated(String),
    /// By an update of a version that is not there any more.
    Lost(u32),
}

/// The versions that led to this one, the first one first, as far as they are there.
fn lineage(model: &Model) -> Vec<Ancestor> {
    let all = readable(model.path()).unwrap_or_default();
    let mut found = Vec::new();
    let mut next = Some(model.manifest());
    while let Some(manifest) = next {
        let number = manifest.model_version;
        // An update is of an older version.
        let from = manifest.updated_from.filter(|from| *from < number);
        next = from.and_then(|from| all.iter().find(|other| other.model_version == from));
        let made = match (from, next) {
            (None, _) => Made::Trained,
            (Some(_), Some(_)) => Made::Updated(update_flags(&manifest.history["options"])),
            (Some(from), None) => Made::Lost(from),
        };
        found.insert(0, Ancestor { number, made, dataset: manifest.dataset.clone() });
    }
    found
}

/// The flags of `update` whose values are not the defaults.
fn update_flags(options: &Value) -> String {
    let (mut text, usual) = (String::new(), serde_json::to_value(UpdateOptions::default()).unwrap_or_default());
    let mut flag = |name: &str, value: &Value, usual: &Value| {
        if value.is_null() || value == usual {
            return;
        }
        let value = match value {
            Value::Number(n) if n.as_i64().is_none() => fewest_digits(n.as_f64().unwrap_or(f64::NAN)).to_string(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        text += &format!(" --{name} {}", quoted(&value));
    };
    for name in ["epochs", "replay", "learning_rate", "half_life", "seed"] {
        flag(&name.replace('_', "-"), &options[name], &usual[name]);
    }
    let validation = &options["validation"];
    for (name, key) in [
        ("metric", "metric"),
        ("validate-every", "every"),
        ("validate-users", "users"),
        ("patience", "patience"),
        ("min-delta", "min_delta"),
    ] {
        flag(name, &validation[key], &Value::Null);
    }
    text
}

/// Writes how the dataset came to have the fingerprint `until`, and tells `learn` of each state on the way.
fn history(dataset: &Dataset, until: &str, text: &mut String, learn: &mut impl FnMut(&str, &mut String)) {
    let manifest = dataset.manifest();
    let (path, changes) = (place(&dataset.path().to_string_lossy()), &manifest.changes);
    let held_out = changes.iter().rposition(|change| change.kind == ChangeKind::HoldOut);
    let first = match held_out {
        Some(at) => {
            let Change { before, withheld, .. } = &changes[at];
            let then = withheld.last().map_or("", String::as_str);
            *text += &remark(&format!(
                "{path} was made of another dataset, when that had the fingerprint {then}, by peccary hold-out --since a model of \
                 the fingerprint {before}"
            ));
            at + 1
        }
        None => {
            let appended: usize = changes.iter().map(|change| change.sources.len()).sum();
            let own = manifest.sources.len().saturating_sub(appended);
            *text += &ingest(dataset, &manifest.sources[..own]).unwrap_or_default();
            0
        }
    };
    let options = serde_json::from_value::<IngestOptions>(manifest.options.clone()).ok();
    let as_appended = options.map(IngestOptions::for_appending);
    learn(changes.get(first).map_or(dataset.fingerprint(), |change| &change.before), text);
    for change in &changes[first..] {
        if change.before == until {
            return;
        }
        match change.kind {
            ChangeKind::Append => {
                let own = serde_json::from_value::<IngestOptions>(change.options.clone()).ok();
                let flags = own.zip(as_appended.as_ref()).map_or(String::new(), |(own, usual)| flags(&own, usual));
                let logs = given(&change.sources);
                *text += &format!("peccary ingest --append {path}{}{flags}{} &&\n", logs, piped(&change.sources));
            }
            ChangeKind::Forget => {
                let users = if change.users == 1 { "1 user was" } else { &format!("{} users were", change.users) };
                *text +=
                    &remark(&format!("{users} forgotten here (peccary forget {path}); nobody keeps who they were"));
            }
            ChangeKind::HoldOut => {}
        }
        learn(&change.after, text);
    }
}

/// Sources as words of a command, those of held-out parts behind their flags.
fn given(sources: &[Source]) -> String {
    let word = |source: &Source| match source.part {
        Some(Part::Valid) => format!(" --valid {}", place(&source.name)),
        Some(Part::Test) => format!(" --test {}", place(&source.name)),
        _ => format!(" {}", place(&source.name)),
    };
    sources.iter().map(word).collect()
}

/// Where standard input comes from, if it is one of the sources.
fn piped(sources: &[Source]) -> &'static str {
    if sources.iter().any(|source| source.name == "-") { " < LOG" } else { "" }
}

/// A line that `text` does not have.
fn delimiter(text: &str) -> String {
    let mut end = "END".to_string();
    while text.lines().any(|line| line == end) {
        end += "_";
    }
    end
}

/// The command that made the dataset of these sources, if it says how it was made.
fn ingest(dataset: &Dataset, sources: &[Source]) -> Option<String> {
    let manifest = dataset.manifest();
    let options: IngestOptions = serde_json::from_value(manifest.options.clone()).ok()?;
    let made = |part: Part, split: bool| dataset.part(part).is_some() && !split;
    let ready = [
        ("--valid", made(Part::Valid, splits(&manifest.options, "valid_split"))),
        ("--test", made(Part::Test, splits(&manifest.options, "split"))),
    ];
    let ready: Vec<&str> = ready.into_iter().filter(|(_, is)| *is).map(|(flag, _)| flag).collect();
    let mut text = String::new();
    // Builds that did not note the parts of sources put those with parts of their own last; with more files than parts nothing
    // tells which, nor where an append may have made the part.
    let is_noted = sources.iter().any(|source| source.part.is_some()) || !manifest.changes.is_empty();
    let (first, rest) = sources.split_first()?;
    text += "peccary ingest";
    text += &match ready.len() {
        n if n > 0 && n == rest.len() && !is_noted => {
            let parts = ready.iter().zip(rest).map(|(flag, source)| format!(" {flag} {}", place(&source.name)));
            given(std::slice::from_ref(first)) + &parts.collect::<String>()
        }
        _ => given(sources),
    };
    if !ready.is_empty() && ready.len() != rest.len() && !is_noted {
        let names = ready.join(" and ");
        text = remark(&format!("the dataset does not say which of these files were given by {names}")) + &text;
    }
    text += &flags(&options, &IngestOptions::default());
    text += &format!(" --output {}", place(&dataset.path().to_string_lossy()));
    text += piped(sources);
    Some(text + " &&\n")
}

fn splits(options: &Value, key: &str) -> bool {
    options.get(key).and_then(Value::as_str).is_some_and(|split| split != "none")
}

/// The flags of `ingest` whose values are not those of `default`.
fn flags(options: &IngestOptions, default: &IngestOptions) -> String {
    let (read, usual) = (&options.read, &default.read);
    let mut text = String::new();
    let mut flag = |name: &str, value: String| text += &format!(" --{name} {}", quoted(&value));
    let mut named = |name: &str, value: Option<String>| value.into_iter().for_each(|value| flag(name, value));
    let is_new = |is_same: bool, value: Option<String>| value.filter(|_| !is_same);
    named("format", is_new(read.format == usual.format, read.format.as_ref().map(ToString::to_string)));
    named("delimiter", is_new(read.delimiter == usual.delimiter, read.delimiter.as_ref().map(ToString::to_string)));
    for (name, column, usual) in [
        ("user-column", &read.user, &usual.user),
        ("item-column", &read.item, &usual.item),
        ("time-column", &read.time, &usual.time),
        ("weight-column", &read.weight, &usual.weight),
        ("event-column", &read.event, &usual.event),
    ] {
        named(name, is_new(column == usual, column.as_ref().map(ToString::to_string)));
    }
    let context: Vec<String> = read.context.iter().map(ToString::to_string).collect();
    let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
    named("context", is_new(read.context == usual.context, list(&context)));
    named("time-unit", (read.time_unit != usual.time_unit).then(|| read.time_unit.to_string()));
    named("min-weight", is_new(options.min_weight == default.min_weight, options.min_weight.map(|w| w.to_string())));
    named("keep-events", is_new(options.keep_events == default.keep_events, list(&options.keep_events)));
    named(
        "exposure-events",
        is_new(options.exposure_events == default.exposure_events, list(&options.exposure_events)),
    );
    for (name, value, default) in [
        ("min-user-count", u64::from(options.min_user_count.max(1)), u64::from(default.min_user_count.max(1))),
        ("min-item-count", u64::from(options.min_item_count.max(1)), u64::from(default.min_item_count.max(1))),
        ("seed", options.seed, default.seed),
        ("hash-seed", options.hash_seed, default.hash_seed),
    ] {
        named(name, (value != default).then(|| value.to_string()));
    }
    for (name, split, default) in
        [("split", &options.split, &default.split), ("valid-split", &options.valid_split, &default.valid_split)]
    {
        named(name, (split != default).then(|| split.to_string()));
    }
    named("on-error", (options.on_error != default.on_error).then(|| "skip".to_string()));
    match read.header.filter(|_| read.header != usual.header) {
        Some(true) => text += " --header",
        Some(false) => text += " --no-header",
        None => {}
    }
    if !read.quotes && usual.quotes {
        text += " --no-quotes";
    }
    text
}

/// A comment, on one line whatever is in it.
fn remark(text: &str) -> String {
    format!("# {}\n", text.replace(char::is_control, " "))
}

/// A path as one word of a shell, which no command takes for a flag; `-` stays standard input.
fn place(path: &str) -> String {
    if path.len() > 1 && path.starts_with('-') { quoted(&format!("./{path}")) } else { quoted(path) }
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
        assert_eq!([place("-"), place("-x y"), place("--force")], ["-", "'./-x y'", "./--force"]);
        assert_eq!(remark("a\nrm\r\u{85}b"), "# a rm  b\n");
        assert_eq!(delimiter("a\nEND\n"), "END_");
    }
}
