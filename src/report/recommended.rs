//! What the model recommends: how popular that is beside what is consumed, and some users with their lists.

use super::ReportError;
use super::html::{Html, html, shown};
use super::number::{count, short};
use super::plot::{Axis, Bars, Data, Form, Frame};
use crate::context::Context;
use crate::dataset::{Dataset, Part, UserItems};
use crate::model::Model;
use crate::recommend::{RecommendOptions, RecommendUsers, recommend};

/// Users that are recommended to.
const USERS: usize = 2000;
/// Items for each of them.
const K: usize = 20;
/// Of those users, the ones from whom some are shown are the first so many.
const SHOWABLE: usize = 300;
/// Users that are shown.
const SHOWN: usize = 6;
/// Items of a list that are shown.
const LISTED: usize = 10;
/// Characters of an id.
const NAME: usize = 48;
const SEED: u64 = 5;
/// Classes of popularity: none, 1, 2–3, 4–7, …
const CLASSES: usize = 33;

/// A user, the lists and what became of them.
struct Sampled {
    user: u32,
    history: usize,
    items: Vec<(u32, f32)>,
}

/// The two sections: popularity, and users; the items held out are those of `part`.
pub(super) fn recommended(
    model: &Model,
    dataset: &Dataset,
    part: Option<Part>,
    data: &mut Data,
    ctx: &Context,
) -> Result<(Html, Html), ReportError> {
    let held_out = part.and_then(|part| dataset.part(part));
    let mut classes = Counts::default();
    for (at, popularity) in dataset.popularity().iter().enumerate() {
        if at.is_multiple_of(1 << 16) {
            ctx.check()?;
        }
        let popularity = popularity.to_native();
        classes.consumed[class_of(popularity)] += u64::from(popularity);
    }
    let of = |item: u32| class_of(dataset.popularity()[item as usize].to_native());
    let mut sampled: Vec<Sampled> = Vec::with_capacity(SHOWABLE);
    let options = RecommendOptions { k: K, include_seen: false };
    let users = RecommendUsers::Sample { users: USERS, seed: SEED };
    let summary = recommend(model, dataset, &users, options, ctx, |r| {
        r.items.iter().for_each(|(item, _)| classes.recommended[of(*item)] += 1);
        let own = held_out.map(|part| part.user(r.user).items).unwrap_or_default();
        own.iter().for_each(|item| classes.held_out[of(item.to_native())] += 1);
        if sampled.len() < SHOWABLE && (own.len() >= 2 || held_out.is_none()) {
            let history = dataset.train().user(r.user).items.len();
            let items = r.items.iter().take(LISTED).copied().collect();
            sampled.push(Sampled { user: r.user, history, items });
        }
        Ok(())
    })?;
    let popularity = classes.draw(summary.users, held_out.and(part), data);
    let cards = spread(sampled).iter().map(|sampled| card(sampled, dataset, part)).collect::<Html>();
    let users = if cards.is_empty() {
        super::training::note("No users to show: none of those drawn have both train and held-out interactions.")
    } else {
        html!("<div class=\"users\">{}</div>", cards)
    };
    ctx.check()?;
    Ok((popularity, users))
}

/// The class of an item with so many train interactions: 0, then by powers of two.
fn class_of(popularity: u32) -> usize {
    (u32::BITS - popularity.leading_zeros()) as usize
}

/// Interactions and recommendations by the popularity of their items.
struct Counts {
    consumed: [u64; CLASSES],
    held_out: [u64; CLASSES],
    recommended: [u64; CLASSES],
}

impl Default for Counts {
    fn default() -> Self {
        Self { consumed: [0; CLASSES], held_out: [0; CLASSES], recommended: [0; CLASSES] }
    }
}

impl Counts {
    fn draw(&self, users: u64, part: Option<Part>, data: &mut Data) -> Html {
        let all = [&self.consumed, &self.held_out, &self.recommended];
        let used = |class: &usize| all.iter().any(|counts| counts[*class] > 0);
        let Some((first, last)) = (0..CLASSES).find(used).zip((0..CLASSES).rfind(used)) else {
            return Html::default();
        };
        let shares = |counts: &[u64; CLASSES]| {
            let total = counts.iter().sum::<u64>().max(1) as f64;
            counts[first..=last].iter().map(|n| *n as f64 / total).collect::<Vec<f64>>()
        };
        let mut series = vec![("consumed in train".to_string(), shares(&self.consumed))];
        if let Some(part) = part {
            series.push((format!("held out for {}", part.name()), shares(&self.held_out)));
        }
        series.push(("recommended".to_string(), shares(&self.recommended)));
        let names = (first..=last).map(|class| match class {
            0 | 1 => class.to_string(),
            class => {
                let (low, high) = (1u64 << (class - 1), (1u64 << class) - 1);
                if low < 1000 { format!("{low}–{high}") } else { format!("{}+", short(low as f64)) }
            }
        });
        let y = Axis::over("share", series.iter().flat_map(|s| &s.1).copied(), Form::Percent).with_zero().widened();
        let bars = Bars { x: "train interactions of the item".into(), y, classes: names.collect(), series };
        let caption = format!(
            "Items by their train interactions: where interactions fall, and where the {K} recommendations to each of {} \
             users do. Recommendations that are farther right than what is consumed favour the popular.",
            count(users)
        );
        bars.draw(&Frame { id: "popularity", title: "Popularity of what is recommended", caption: &caption }, data)
    }
}

/// Some of `sampled`, from those with little history to those with much.
fn spread(mut sampled: Vec<Sampled>) -> Vec<Sampled> {
    sampled.sort_by_key(|s| (s.history, s.user));
    let many = SHOWN.min(sampled.len());
    let places: Vec<usize> = (0..many).map(|i| (2 * i + 1) * sampled.len() / (2 * many)).collect();
    let mut at = 0;
    sampled.retain(|_| {
        at += 1;
        places.contains(&(at - 1))
    });
    sampled
}

/// A user's card: history, recommendations, and what was held out.
fn card(sampled: &Sampled, dataset: &Dataset, part: Option<Part>) -> Html {
    let name = |item: u32| shown(dataset.items().id(item).unwrap_or_default(), NAME);
    let own = part.and_then(|part| dataset.part(part)).map(|part| part.user(sampled.user).items).unwrap_or_default();
    let is_hit = |item: u32| own.binary_search_by_key(&item, |i| i.to_native()).is_ok();
    let recommended = sampled.items.iter().map(|(item, score)| {
        let mark = if is_hit(*item) { html!(" <span class=\"hit\">taken</span>") } else { Html::default() };
        html!("<li><bdi>{}</bdi>{} <span class=\"value\">{}</span></li>", name(*item), mark, short(f64::from(*score)))
    });
    let recommended = recommended.collect::<Html>();
    let list = |items: &[u32], more: usize| {
        let rows = items.iter().map(|item| html!("<li><bdi>{}</bdi></li>", name(*item))).collect::<Html>();
        let rest = match more {
            0 => Html::default(),
            n => html!("<li class=\"more\">and {} more</li>", count(n as u64)),
        };
        html!("<ul>{}{}</ul>", rows, rest)
    };
    let train = dataset.train().user(sampled.user);
    let history = latest(&train, dataset);
    let taken: Vec<u32> = own.iter().take(LISTED).map(|i| i.to_native()).collect();
    let what = if train.times.is_empty() { "History, most popular first" } else { "History, latest first" };
    let held_out = match part {
        Some(part) if !taken.is_empty() => {
            html!("<div><h4>Held out for {}</h4>{}</div>", part.name(), list(&taken, own.len() - taken.len()),)
        }
        _ => Html::default(),
    };
    html!(
        "<article class=\"card user\"><h3><bdi>{}</bdi></h3><div class=\"lists\"><div><h4>{} ({})</h4>{}</div>\
         <div><h4>Recommended</h4><ol>{}</ol></div>{}</div></article>\n",
        shown(dataset.users().id(sampled.user).unwrap_or_default(), NAME),
        what,
        count(sampled.history as u64),
        list(&history, sampled.history - history.len()),
        recommended,
        held_out,
    )
}

/// Some items of a history: the latest, or without times the most popular.
fn latest(train: &UserItems<'_>, dataset: &Dataset) -> Vec<u32> {
    let key = |at: usize| match train.times.get(at) {
        Some(time) => time.to_native(),
        None => i64::from(dataset.popularity()[train.items[at].to_native() as usize].to_native()),
    };
    let mut best: Vec<(i64, usize)> = Vec::with_capacity(LISTED + 1);
    for at in 0..train.items.len() {
        let place = best.partition_point(|(k, _)| *k >= key(at));
        if place < LISTED {
            best.insert(place, (key(at), at));
            best.truncate(LISTED);
        }
    }
    best.into_iter().map(|(_, at)| train.items[at].to_native()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_powers_of_two() {
        let of: Vec<usize> = [0, 1, 2, 3, 4, 7, 8, u32::MAX].into_iter().map(class_of).collect();
        assert_eq!(of, [0, 1, 2, 2, 3, 3, 4, 32]);
    }

    #[test]
    fn users_are_spread_over_activity() {
        let sampled = (0..100).map(|i| Sampled { user: i, history: 100 - i as usize, items: Vec::new() }).collect();
        let histories: Vec<usize> = spread(sampled).iter().map(|s| s.history).collect();
        assert_eq!(histories.len(), SHOWN);
        assert!(histories.is_sorted() && histories[0] < 20 && histories[SHOWN - 1] > 80, "{histories:?}");
    }
}
