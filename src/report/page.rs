//! The page: sections in their order, and what surrounds them.

use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::ReportError;
use super::html::{self, Html, Lines, fill, html, shown};
use super::plot::Data;
use super::quality::{columns, primary, table};
use super::recommended::recommended;
use super::reliability::reliability;
use super::reproduce::{commands, toml};
use super::run::Run;
use super::slices::slices;
use super::{map, summary, training};
use crate::attributes::Attributes;
use crate::context::Context;
use crate::dataset::{Dataset, Part};
use crate::model::Model;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A page in the making.
pub(super) struct Page {
    title: String,
    lead: String,
    top: Html,
    /// Ids, headings, a line below the heading, and what follows.
    sections: Vec<(&'static str, &'static str, &'static str, Html)>,
    data: Map<String, Value>,
    plots: Data,
}

impl Page {
    /// The page about the first of `models`.
    pub(super) fn new(
        models: &[&Model],
        runs: &[Run],
        (dataset, part, attributes): (Option<&Dataset>, Option<Part>, Option<&Attributes>),
        evaluations: &[(String, Value)],
        left_out: &[String],
        ctx: &Context,
    ) -> Result<Self, ReportError> {
        let mut plots = Data::new();
        let mut sections = Vec::new();
        let (model, run) = (models[0], &runs[0]);
        let columns = columns(evaluations);
        let mut section = |id, heading, line, content: Html| {
            if !content.is_empty() {
                sections.push((id, heading, line, content));
            }
        };
        let mut quality = match evaluations.first() {
            Some((_, evaluation)) => {
                let mut quality = table(&columns, evaluations);
                quality.push(&slices(&columns, evaluation, &mut plots));
                quality
            }
            None if dataset.is_none() => training::note(
                "Nothing was evaluated: pass the dataset, as in peccary report MODEL DATASET, for metrics, recommendations \
                 and users.",
            ),
            None => training::note(
                "Nothing was evaluated: the dataset has no held-out part. Ingest the log with --split time:0.1 or \
                 --valid-split random:0.1.",
            ),
        };
        if let (Some(dataset), Some(part), false) = (dataset, part, evaluations.is_empty()) {
            quality.push(&reliability(model, dataset, part, &mut plots, ctx)?);
        }
        for name in left_out {
            quality.push(&training::note(&format!("{name} was trained on another dataset and is not evaluated.")));
        }
        section(
            "quality",
            "Quality",
            "How well held-out interactions are ranked, beside what needs no training.",
            quality,
        );
        let curves = grid(training::curves(runs, &mut plots));
        section("training", "Training", "How the run went, epoch by epoch.", curves);
        let speed = grid(training::speed(runs, &mut plots));
        section("speed", "Speed", "How fast it was, and who waited for whom.", speed);
        let negatives = grid(training::negatives(runs, &mut plots));
        section(
            "negatives",
            "Negatives",
            "How hard the sampled negatives were, by the scores of the moment.",
            negatives,
        );
        if let Some(dataset) = dataset {
            let (popularity, users) = recommended(model, dataset, part, &mut plots, ctx)?;
            section("popularity", "Popularity", "Whether recommendations go where interactions go.", grid(popularity));
            section("users", "Users", "Some of them, from those with little history to those with much.", users);
        }
        let map = map::map(model, dataset, attributes, &mut plots, ctx)?;
        section("map", "Items", "What the embeddings hold to be alike.", map);
        let configs: Vec<String> = models.iter().map(|model| toml(&model.manifest().config)).collect();
        section(
            "configuration",
            "Configuration",
            "Everything that decided what was learnt.",
            configuration(runs, &configs),
        );
        let commands = commands(model, dataset, &configs[0]);
        section(
            "reproduce",
            "Reproduce",
            "A model by the same settings, from the log.",
            again(&commands, model, dataset),
        );
        let flattered = evaluations.first().is_some_and(|(_, evaluation)| evaluation["flattered"] == json!(true));
        let lead: Vec<String> =
            [summary::quality(&columns, part.map_or("", Part::name), flattered), summary::speed(run)]
                .into_iter()
                .flatten()
                .collect();
        let lead = if lead.is_empty() {
            "A model whose manifest says nothing of its training.".to_string()
        } else {
            lead.join(" ")
        };
        let mut data = Map::new();
        data.insert("format".into(), json!(1));
        data.insert("peccary".into(), json!(env!("CARGO_PKG_VERSION")));
        data.insert("primary".into(), json!(primary(&columns)));
        data.insert(
            "models".into(),
            models.iter().zip(runs).map(|(model, run)| of_model(model, run, evaluations)).collect(),
        );
        Ok(Self { title: run.name.clone(), lead, top: summary::tiles(model, run, &columns), sections, data, plots })
    }

    /// The text of the page, the sentence at its top, and the ids of its plots.
    pub(super) fn finish(self) -> (String, String, Vec<String>) {
        let Self { title, lead, top, sections, mut data, plots } = self;
        let ids = plots.keys().cloned().collect();
        data.insert("plots".into(), Value::Object(plots));
        let data = html::json(&Value::Object(data));
        let link = |(id, heading, _, _): &(&str, &str, &str, Html)| html!("<a href=\"#{}\">{}</a>", *id, *heading);
        let links = sections.iter().map(link).collect::<Html>();
        let section = |(id, heading, line, content): &(&str, &str, &str, Html)| {
            html!(
                "<section id=\"{}\" aria-labelledby=\"h-{}\"><h2 id=\"h-{}\">{}</h2><p class=\"line\">{}</p>\n{}</section>\n",
                *id,
                *id,
                *id,
                *heading,
                *line,
                content,
            )
        };
        let content = sections.iter().map(section).collect::<Html>();
        // Scripts run only with a number that data could not know: markup that slipped through would stay still.
        let mut secret = data.clone();
        secret.push(&content);
        let nonce = format!("{:032x}", xxh3_128(secret.into_string().as_bytes()));
        let page = fill(
            TEMPLATE,
            &[
                &nonce,
                &nonce,
                &title,
                &nonce,
                &Html::trusted(STYLE),
                &title,
                &lead,
                &top,
                &links,
                &content,
                &env!("CARGO_PKG_VERSION"),
                &data,
                &nonce,
                &Html::trusted(SCRIPT),
            ],
        );
        (page.into_string(), lead, ids)
    }
}

/// Figures beside each other, as many as fit.
fn grid(figures: Html) -> Html {
    if figures.is_empty() { figures } else { html!("<div class=\"grid\">{}</div>", figures) }
}

/// What the page's data say of a model.
fn of_model(model: &Model, run: &Run, evaluations: &[(String, Value)]) -> Value {
    let manifest = model.manifest();
    let evaluation = evaluations.iter().find(|(name, _)| *name == run.name).map(|(_, evaluation)| evaluation);
    json!({
        "name": run.name,
        "path": shown(&model.path().to_string_lossy(), 400),
        "fingerprint": manifest.fingerprint(),
        "dataset_fingerprint": manifest.dataset,
        "config": manifest.config,
        "epochs": run.epochs.len(),
        "seconds": run.seconds,
        "triples_per_second": run.rate,
        "evaluation": evaluation,
    })
}

/// The configurations; of several runs, those keys that differ come first.
fn configuration(runs: &[Run], configs: &[String]) -> Html {
    let mut out = Html::default();
    for (at, (run, config)) in runs.iter().zip(configs).enumerate() {
        let open = if at == 0 { Html::trusted(" open") } else { Html::default() };
        out.push(&html!(
            "<details class=\"card\"{}><summary>{}</summary><pre tabindex=\"0\"><code>{}</code></pre></details>",
            open,
            run.name,
            Lines(config),
        ));
    }
    out
}

/// The commands, and what to know about them.
fn again(commands: &str, model: &Model, dataset: Option<&Dataset>) -> Html {
    let manifest = model.manifest();
    let deterministic = manifest.config.get("deterministic").and_then(Value::as_bool).unwrap_or(false);
    let same = if deterministic {
        "Training was deterministic: the result has the same bits."
    } else {
        "With more than one thread updates race, and results differ within noise; --deterministic gives the same bits."
    };
    let data = dataset.map_or(String::new(), |d| {
        let sources: Vec<String> = d.manifest().sources.iter().map(|s| shown(&s.name, 80)).collect();
        let from = if sources.is_empty() { String::new() } else { format!(", made from {}", sources.join(", ")) };
        format!(" Dataset {}{from}.", d.fingerprint())
    });
    let changed = match dataset {
        Some(dataset) if dataset.fingerprint() != manifest.dataset => {
            " The dataset has changed since this model was trained: these commands make what it was then."
        }
        _ => "",
    };
    html!(
        "<div class=\"card\"><button type=\"button\" class=\"copy\" data-copy=\"commands\">Copy</button>\
         <pre tabindex=\"0\"><code id=\"commands\">{}</code></pre><p class=\"note\">{}{} Model {} by peccary {}.{}</p></div>",
        Lines(commands),
        same,
        changed,
        manifest.fingerprint(),
        manifest.peccary,
        data,
    )
}
