//! The map of items: a sample of their embeddings in two dimensions.

mod colours;
mod pca;

use bhtsne::{Neighbor, tSNE};

use super::ReportError;
use super::html::{Html, html, shown};
use super::number::{count, percent};
use super::plot::{CLASSES, Data, Dot, Frame, Scatter, table};
use crate::attributes::Attributes;
use crate::attributes::Described;
use crate::context::Context;
use crate::dataset::Dataset;
use crate::model::Model;
use crate::rank::{Tops, sample};
use colours::choices;
use pca::{Components, principal};

/// Items on the map, at most.
const ITEMS: usize = 1500;
/// Fewer items are no map.
const LEAST: usize = 5;
/// Principal components that neighbours are found by.
const COMPONENTS: usize = 32;
/// Effective neighbours of an item (van der Maaten & Hinton 2008), where there are that many.
const PERPLEXITY: usize = 30;
/// Gradient steps.
const STEPS: usize = 500;
/// θ of Barnes–Hut: 0 is exact.
const THETA: f32 = 0.5;
const SEED: u64 = 11;
/// Characters of a name.
const NAME: usize = 60;
/// Attributes that are said of an item, and characters of each.
const SAID: usize = 6;
const VALUE: usize = 40;
/// Items that the table names.
const NAMED: usize = 25;

/// The map of `model`'s items, coloured by their train interactions where there is a dataset, or by their attributes.
pub(super) fn map(
    model: &Model,
    dataset: Option<&Dataset>,
    attributes: Option<&Attributes>,
    data: &mut Data,
    ctx: &Context,
) -> Result<Html, ReportError> {
    let stage = ctx.stage("mapping items", None, crate::context::Unit::Rows);
    let width = model.manifest().dimensions.min(model.items().width());
    // A quarter of the budget: rows, neighbours by both ends, and their affinities.
    let each = width * 4 + COMPONENTS * 8 + 3 * PERPLEXITY * 64 + 512;
    let room = (ctx.memory().0 / 4) as usize / each;
    let many = ITEMS.min(room).min(model.items().rows());
    if many < LEAST {
        return Ok(super::training::note("No map: there are too few items, or too little --memory."));
    }
    let items = chosen(model, dataset, many, ctx)?;
    stage.add(items.len() as u64);
    let mut values = directions(model, &items, width)?;
    let found = principal(&mut values, width, COMPONENTS, ctx)?;
    drop(values);
    let near = neighbours(&found, ctx)?;
    let places = places(&found, &near)?;
    let popularity = |item: u32| dataset.map_or(0, |d| u64::from(d.popularity()[item as usize].to_native()));
    let described = match (dataset, attributes) {
        (Some(dataset), Some(attributes)) => attributes.describe(dataset, &items, SAID, ctx)?,
        _ => vec![Described::default(); items.len()],
    };
    let choices = attributes.filter(|_| dataset.is_some()).map_or(Vec::new(), |a| choices(a, &items));
    let name = |item: u32| {
        let id = shown(model.item_ids().id(item).unwrap_or_default(), NAME);
        let title = items.binary_search(&item).ok().and_then(|at| described[at].title.as_deref());
        title.map_or(id.clone(), |title| format!("{} ({id})", shown(title, NAME)))
    };
    let values: Vec<u64> = items.iter().map(|item| popularity(*item)).collect();
    let classes = Classes::of(&values);
    let dot = |(at, item): (usize, &u32)| Dot {
        x: f64::from(places[2 * at]),
        y: f64::from(places[2 * at + 1]),
        class: dataset.map_or(2, |_| classes.of_value(values[at])),
        name: name(*item),
        value: values[at],
        more: described[at]
            .values
            .iter()
            .map(|(name, value)| format!("{}: {}", shown(name, VALUE), shown(value, VALUE)))
            .collect(),
        chosen: choices.iter().map(|choice| choice.of[at]).collect(),
    };
    let dots = items.iter().enumerate().map(dot).collect();
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(values[*at]));
    let row = |at: &usize| {
        let nearest = near[*at].iter().take(3).map(|n| name(items[n.index]));
        let nearest = nearest.collect::<Vec<_>>().join(", ");
        vec![name(items[*at]), count(values[*at]), nearest]
    };
    let heads = ["item", "train interactions", "nearest items of the map"].map(String::from);
    let scatter = Scatter {
        dots,
        what: "train interactions".into(),
        classes: if dataset.is_some() { classes.names() } else { Vec::new() },
        choices,
        table: table(&heads, order.iter().take(NAMED).map(row)),
    };
    let caption = format!(
        "{} of {} items: the most popular third of them, and others at random. Items lie close together where their embeddings \
         point the same way. By t-SNE (perplexity {}) on {} principal components, which hold {} of the variance; only \
         nearness means something, neither directions nor the size of gaps.",
        count(items.len() as u64),
        count(model.items().rows() as u64),
        perplexity(items.len()),
        found.components,
        percent(found.explained),
    );
    let colours = match scatter.choices.is_empty() {
        true => Html::default(),
        false => {
            let names = std::iter::once(&scatter.what).chain(scatter.choices.iter().map(|choice| &choice.name));
            let option = |(at, name): (usize, &String)| html!("<option value=\"{}\">{}</option>", at, name);
            let options = names.enumerate().map(option).collect::<Html>();
            html!("<label>Colour by <select id=\"colour\" autocomplete=\"off\">{}</select></label>", options)
        }
    };
    let figure = scatter.draw(&Frame { id: "map", title: "Map of items", caption: &caption }, data);
    Ok(html!(
        "<div class=\"map\"><div class=\"tools\"><label>Find an item <input type=\"search\" id=\"find\" \
         autocomplete=\"off\" spellcheck=\"false\"></label><output id=\"found\"></output>{}<span class=\"zoom\">\
         <button type=\"button\" data-zoom=\"in\" aria-label=\"Zoom in\">+</button>\
         <button type=\"button\" data-zoom=\"out\" aria-label=\"Zoom out\">−</button>\
         <button type=\"button\" data-zoom=\"all\">All</button></span></div>{}</div>",
        colours,
        figure
    ))
}

/// The items on the map, ascending: a third are the most popular ones, the others are drawn.
fn chosen(model: &Model, dataset: Option<&Dataset>, many: usize, ctx: &Context) -> Result<Vec<u32>, ReportError> {
    let all = model.items().rows() as u32;
    let mut popular: Vec<u32> = Vec::new();
    if let Some(dataset) = dataset {
        let mut top = Tops::new((many / 3).max(1));
        top.begin(SEED, &[0]);
        let mut scores = Vec::new();
        // The dataset may have grown since.
        let counts = &dataset.popularity()[..all.min(dataset.items().len()) as usize];
        for (tile, counts) in counts.chunks(1 << 12).enumerate() {
            ctx.check()?;
            scores.clear();
            scores.extend(counts.iter().map(|c| c.to_native() as f32));
            // Counts are no NaN.
            let _ = top.offer(0, (tile << 12) as u32, &scores);
        }
        popular.extend(top.sorted(0).iter().map(|candidate| candidate.item()));
        popular.sort_unstable();
    }
    let known = |item: &u32| dataset.is_none_or(|d| d.popularity()[*item as usize].to_native() > 0);
    let others = (0..all).filter(|item| popular.binary_search(item).is_err() && known(item));
    let wanted = many - popular.len();
    let mut items = sample(others, wanted, 2 * wanted + 1, SEED, ctx)?;
    items.extend(popular);
    items.sort_unstable();
    Ok(items)
}

/// The embeddings of `items`, at unit length: biases are no part of them.
fn directions(model: &Model, items: &[u32], width: usize) -> Result<Vec<f32>, ReportError> {
    let mut values = Vec::with_capacity(items.len() * width);
    for item in items {
        let row = &model.items().row(*item as usize)[..width];
        let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if !norm.is_finite() {
            let item = model.item_ids().id(*item).unwrap_or_default().to_string();
            return Err(ReportError::NotANumber { model: model.path().display().to_string(), item });
        }
        let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        values.extend(row.iter().map(|x| (f64::from(*x) * scale) as f32));
        model.items().release(*item as usize..*item as usize + 1);
    }
    Ok(values)
}

/// The perplexity for so many items: three times as many neighbours are looked at.
fn perplexity(items: usize) -> usize {
    PERPLEXITY.min((items - 1) / 3).max(1)
}

/// The nearest neighbours of each row, nearest first. O(rows² × components) time.
fn neighbours(found: &Components, ctx: &Context) -> Result<Vec<Vec<Neighbor<f32>>>, ReportError> {
    let width = found.components;
    let rows = found.values.len() / width;
    let most = (3 * perplexity(rows)).min(rows - 1);
    let row = |at: usize| &found.values[at * width..(at + 1) * width];
    let mut all = Vec::with_capacity(rows);
    let mut others: Vec<Neighbor<f32>> = Vec::with_capacity(rows);
    for at in 0..rows {
        if at.is_multiple_of(64) {
            ctx.check()?;
        }
        let own = row(at);
        others.clear();
        others.extend((0..rows).filter(|other| *other != at).map(|other| {
            let square: f32 = own.iter().zip(row(other)).map(|(a, b)| (a - b) * (a - b)).sum();
            Neighbor { index: other, distance: square.sqrt() }
        }));
        let by_distance =
            |a: &Neighbor<f32>, b: &Neighbor<f32>| a.distance.total_cmp(&b.distance).then(a.index.cmp(&b.index));
        if others.len() > most {
            others.select_nth_unstable_by(most - 1, by_distance);
        }
        let mut nearest = others[..most].to_vec();
        nearest.sort_by(by_distance);
        all.push(nearest);
    }
    Ok(all)
}

/// Two coordinates for each row, by t-SNE from the first two components. On one thread, so that sums have one order and
/// equal models have equal maps.
fn places(found: &Components, near: &[Vec<Neighbor<f32>>]) -> Result<Vec<f32>, ReportError> {
    let rows = near.len();
    let of = |at: usize, k: usize| if k < found.components { found.values[at * found.components + k] } else { 0.0 };
    let spread = ((0..rows).map(|at| of(at, 0).powi(2)).sum::<f32>() / rows as f32).sqrt();
    let scale = if spread > 0.0 { 1e-2 / spread } else { 0.0 };
    // What lies on one point could not part.
    let apart = |at: usize, k: usize| 1e-4 * ((at * 2 + k) as f32 * 0.618_034).fract();
    let start: Vec<f32> = (0..rows).flat_map(|at| [0, 1].map(|k| of(at, k) * scale + apart(at, k))).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| ReportError::Threads(error.to_string()))?;
    Ok(pool.install(|| {
        let units = vec![(); rows];
        let mut tsne = tSNE::<f32, (), 2>::new(&units);
        tsne.perplexity(perplexity(rows) as f32).epochs(STEPS).initial_embedding(start);
        tsne.barnes_hut_with_neighbors(THETA, near);
        tsne.embedding()
    }))
}

/// Classes of popularity: of equal width in logarithms.
struct Classes {
    /// The largest value of each.
    most: Vec<u64>,
    least: u64,
}

impl Classes {
    fn of(values: &[u64]) -> Self {
        let (low, high) = (values.iter().min().copied().unwrap_or(0), values.iter().max().copied().unwrap_or(0));
        let (from, to) = ((low as f64).ln_1p(), (high as f64).ln_1p());
        let bound = |class: usize| (from + (to - from) * (class + 1) as f64 / CLASSES as f64).exp_m1();
        let mut most: Vec<u64> = (0..CLASSES).map(|class| bound(class).round() as u64).collect();
        if let Some(last) = most.last_mut() {
            *last = high;
        }
        Self { most, least: low }
    }

    fn of_value(&self, value: u64) -> usize {
        self.most.partition_point(|most| *most < value).min(CLASSES - 1)
    }

    fn names(&self) -> Vec<String> {
        let firsts = std::iter::once(self.least).chain(self.most.iter().map(|m| m + 1));
        firsts
            .zip(&self.most)
            .map(|(a, b)| if a >= *b { count(*b) } else { format!("{}–{}", count(a), count(*b)) })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_every_value_once() {
        let values = [1, 2, 3, 10, 200, 5_000];
        let classes = Classes::of(&values);
        assert_eq!((classes.of_value(1), classes.of_value(5_000)), (0, CLASSES - 1));
        let of: Vec<usize> = values.iter().map(|v| classes.of_value(*v)).collect();
        assert!(of.is_sorted(), "{of:?}");
        assert_eq!(classes.names().len(), CLASSES);
        assert_eq!(Classes::of(&[7, 7]).of_value(7), 0);
    }

    #[test]
    fn clusters_stay_together_and_the_map_is_the_same_each_time() {
        // Three groups in 12 dimensions, far apart.
        let (rows, width) = (150, 12);
        let mut values: Vec<f32> = (0..rows * width)
            .map(|i| {
                let (row, k) = (i / width, i % width);
                let noise = ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0 - 0.5;
                0.3 * noise + if k == row % 3 { 3.0 } else { 0.0 }
            })
            .collect();
        let ctx = Context::default();
        let found = principal(&mut values, width, 8, &ctx).unwrap();
        let near = neighbours(&found, &ctx).unwrap();
        let map = places(&found, &near).unwrap();
        assert_eq!(map, places(&found, &near).unwrap());
        let distance = |a: usize, b: usize| (map[2 * a] - map[2 * b]).hypot(map[2 * a + 1] - map[2 * b + 1]);
        for at in 0..rows {
            let mut others: Vec<usize> = (0..rows).filter(|o| *o != at).collect();
            others.sort_by(|a, b| distance(at, *a).total_cmp(&distance(at, *b)));
            let alike = others[..10].iter().filter(|o| *o % 3 == at % 3).count();
            assert!(alike >= 9, "{at}: {alike} of the ten nearest on the map are of its group");
        }
    }
}
