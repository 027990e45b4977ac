//! The whole pipeline against a naive one in memory, with buffers so small that everything spills and splits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::budget::Budget;
use super::pipeline::{Whole, ingest_with};
use super::split::pair_hash;
use super::{Column, IngestError, IngestOptions, IngestRun, IngestSummary, Input, Inputs, ReadOptions, Split};
use crate::context::{ByteSize, Context};
use crate::dataset::{Dataset, Part, id_hash};

#[derive(Clone, Debug)]
struct Row {
    user: u8,
    item: u8,
    time: i64,
    weight: u8,
    event: u8,
    /// Values of two columns of context.
    context: (u8, u8),
    /// 0 for the main input, 1 for a ready-made validation part, 2 for test.
    source: u8,
}

/// Interaction by item: time, weight, count, event.
type Items = BTreeMap<String, (i64, f32, u32, String)>;
type Parts = BTreeMap<Part, BTreeMap<String, Items>>;
/// Values of the columns of context of each train interaction.
type Around = BTreeMap<(String, String), Vec<String>>;
/// Exposed items by user.
type Shown = BTreeMap<String, BTreeSet<String>>;

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (0u8..12, 0u8..10, 0i64..40, 0u8..6, 0u8..3, 0u8..3, (0u8..3, 0u8..4)).prop_map(
        |(user, item, time, weight, event, source, context)| {
            // Some users and items are much more frequent than others.
            Row { user: user / 2 * (user % 2), item: item / 2, time, weight, event, context, source }
        },
    );
    prop_oneof![
        proptest::collection::vec(row.clone(), 1..120),
        proptest::collection::vec(
            row.prop_map(|r| Row { user: r.user * 20 + r.weight, item: r.item * 30 + r.event, ..r }),
            1..60
        ),
    ]
}

fn split() -> impl Strategy<Value = Split> {
    prop_oneof![
        1 => Just(Split::None),
        3 => Just(Split::LeaveOneOut),
        3 => Just(Split::Random(0.4)),
        2 => (0.1f64..0.9).prop_map(Split::TimeFraction),
        2 => (1i64..40).prop_map(|t| Split::TimeAt(t * 1000)),
    ]
}

fn options() -> impl Strategy<Value = (IngestOptions, [bool; 2])> {
    let filters = (
        prop_oneof![Just(None), Just(Some(2.0f32))],
        proptest::bool::weighted(0.3),
        proptest::bool::weighted(0.4),
        any::<bool>(),
    );
    (
        filters,
        0u32..4,
        0u32..4,
        split(),
        split(),
        [proptest::bool::weighted(0.2), proptest::bool::weighted(0.2)],
        0u64..3,
        0u64..3,
    )
        .prop_map(
            |(
                (min_weight, keep, expose, context),
                min_user_count,
                min_item_count,
                split,
                valid_split,
                ready,
                seed,
                hash_seed,
            )| {
                let name = |n: &str| Some(Column::Name(n.into()));
                let valid_split = match (split, valid_split) {
                    (Split::TimeAt(test), Split::TimeAt(valid)) if valid >= test => Split::None, // is refused
                    _ => valid_split,
                };
                let context = if context { vec![name("device").unwrap(), name("page").unwrap()] } else { Vec::new() };
                let read = ReadOptions { weight: name("weight"), event: name("event"), context, ..Default::default() };
                let options = IngestOptions {
                    read,
                    min_weight,
                    keep_events: if keep { vec!["e2".into(), "e0".into()] } else { Vec::new() },
                    exposure_events: if expose { vec!["e1".into()] } else { Vec::new() },
                    min_user_count,
                    min_item_count,
                    split: if ready[1] { Split::None } else { split },
                    valid_split: if ready[0] { Split::None } else { valid_split },
                    seed,
                    hash_seed,
                    ..IngestOptions::default()
                };
                (options, ready)
            },
        )
}

fn ingest_for_test(
    inputs: &Inputs,
    options: &IngestOptions,
    output: &Path,
    budget: &Budget,
    ctx: &Context,
) -> Result<IngestSummary, IngestError> {
    // Some with checkpoints now and then, which sync every file; the result is the same.
    let checkpoint = if options.seed == 2 { Duration::from_millis(2) } else { IngestRun::CHECKPOINT };
    let run = IngestRun { force: true, checkpoint, ..IngestRun::default() };
    ingest_with(inputs, options, output, run, Whole::All, |_, _, _| Ok(budget.clone()), ctx)
}

fn write(folder: &Path, rows: &[Row], ready: [bool; 2]) -> Inputs {
    let mut inputs = Inputs::default();
    let file = |name: &str, rows: &mut dyn Iterator<Item = &Row>| {
        let mut text = "user,item,time,weight,event,device,page\n".to_string();
        for row in rows {
            let Row { user, item, time, weight, event, .. } = row;
            let [device, page] = values(row);
            text += &format!("u{user},i{item},{time},{}.1,e{event},{device},{page}\n", weight);
        }
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        vec![Input::Path(path)]
    };
    let part = |row: &Row| part_of(row, ready);
    inputs.main = file("main.csv", &mut rows.iter().filter(|r| part(r) == Part::Train));
    if ready[0] {
        inputs.valid = file("valid.csv", &mut rows.iter().filter(|r| part(r) == Part::Valid));
    }
    if ready[1] {
        inputs.test = file("test.csv", &mut rows.iter().filter(|r| part(r) == Part::Test));
    }
    inputs
}

/// Values of context; one of them is empty, and one is the beginning of another.
fn values(row: &Row) -> [String; 2] {
    [["", "tv", "t"][usize::from(row.context.0)].into(), format!("p{}", row.context.1)]
}

fn part_of(row: &Row, ready: [bool; 2]) -> Part {
    match row.source {
        1 if ready[0] => Part::Valid,
        2 if ready[1] => Part::Test,
        _ => Part::Train,
    }
}

/// The moment of a split, by trying all.
fn moment(split: Split, times: &[i64]) -> Option<i64> {
    match split {
        Split::TimeAt(time) => Some(time),
        Split::TimeFraction(fraction) => {
            let wanted = (times.len() as f64 * fraction).round() as i64;
            let after = |t: i64| times.iter().filter(|o| **o >= t).count() as i64;
            times.iter().copied().min_by_key(|t| ((after(*t) - wanted).abs(), -t))
        }
        _ => None,
    }
}

/// What the dataset should hold, or `None` if there should be an error.
fn oracle(rows: &[Row], options: &IngestOptions, ready: [bool; 2]) -> Option<(Parts, Shown, Around)> {
    let weight = |r: &Row| format!("{}.1", r.weight).parse::<f32>().unwrap();
    let event = |r: &Row| format!("e{}", r.event);
    let exposure = |r: &Row| options.exposure_events.contains(&event(r));
    let kept: Vec<&Row> = rows
        .iter()
        .filter(|r| !exposure(r))
        .filter(|r| options.keep_events.is_empty() || options.keep_events.contains(&event(r)))
        .filter(|r| options.min_weight.is_none_or(|m| weight(r) >= m))
        .collect();
    let mut times: Vec<i64> = kept.iter().filter(|r| part_of(r, ready) == Part::Train).map(|r| r.time * 1000).collect();
    let test = moment(options.split, &times);
    times.retain(|t| test.is_none_or(|m| *t < m));
    let valid = moment(options.valid_split, &times);
    let mut pairs: BTreeMap<(String, String), Vec<&Row>> = BTreeMap::new();
    for row in kept {
        pairs.entry((format!("u{}", row.user), format!("i{}", row.item))).or_default().push(row);
    }
    let taken: BTreeSet<(String, String)> = pairs.keys().cloned().collect();
    loop {
        let (mut users, mut items) = (BTreeMap::new(), BTreeMap::new());
        for (user, item) in pairs.keys() {
            *users.entry(user.clone()).or_insert(0u32) += 1;
            *items.entry(item.clone()).or_insert(0u32) += 1;
        }
        let before = pairs.len();
        pairs.retain(|(u, i), _| users[u] >= options.min_user_count && items[i] >= options.min_item_count);
        if pairs.len() == before {
            break;
        }
    }
    let hash = |id: &str| id_hash(id.as_bytes(), options.hash_seed);
    let merge = |rows: &[&Row]| {
        let mut rows = rows.to_vec();
        // Of rows that agree in all else the one with the last combination, in the order of lengths and bytes, comes last.
        let key = |r: &Row| {
            let values = values(r).map(|value| ((value.len() as u32).to_le_bytes(), value));
            (r.time, r.event, r.weight, r.source.min(part_of(r, ready) as u8), values)
        };
        rows.sort_by_key(|r| key(r));
        let last = rows.last().unwrap();
        let sum: f64 = rows.iter().map(|r| f64::from(weight(r))).sum();
        ((last.time * 1000, sum as f32, rows.len() as u32, event(last)), values(last))
    };
    let mut around = Around::new();
    let mut result = Parts::new();
    let users: BTreeSet<String> = pairs.keys().map(|(u, _)| u.clone()).collect();
    for user in users {
        // Each pair: item, rows by part.
        let mut left: Vec<(String, [Vec<&Row>; 3])> = Vec::new();
        for ((_, item), rows) in pairs.iter().filter(|((u, _), _)| *u == user) {
            let mut by_part: [Vec<&Row>; 3] = Default::default();
            for row in rows {
                let part = match part_of(row, ready) {
                    Part::Train if test.is_some_and(|t| row.time * 1000 >= t) => Part::Test,
                    Part::Train if valid.is_some_and(|t| row.time * 1000 >= t) => Part::Valid,
                    part => part,
                };
                by_part[part as usize].push(row);
            }
            left.push((item.clone(), by_part));
        }
        let mut place = |part: Part, item: &str, (merged, context): ((i64, f32, u32, String), [String; 2])| {
            if part == Part::Train {
                around.insert((user.clone(), item.into()), context.to_vec());
            }
            result.entry(part).or_default().entry(user.clone()).or_default().insert(item.into(), merged);
        };
        let both_ones = options.split == Split::LeaveOneOut && options.valid_split == Split::LeaveOneOut;
        let mut leave = true;
        // Test, where it is not by rows.
        let candidates = |left: &[(String, [Vec<&Row>; 3])]| -> Vec<usize> {
            let first = |p: &[Vec<&Row>; 3]| p.iter().position(|r| !r.is_empty()).unwrap();
            (0..left.len())
                .filter(|i| first(&left[*i].1) == 0 || (first(&left[*i].1) == 1 && valid.is_some()))
                .collect()
        };
        let draw = |part: Part, item: &str| pair_hash(options.seed, part as u8, hash(&user), hash(item));
        let open = candidates(&left);
        let whole = |p: &[Vec<&Row>; 3]| -> ((i64, f32, u32, String), [String; 2]) {
            let valid = if valid.is_some() { &p[1][..] } else { &[] };
            merge(&p[0].iter().chain(valid).copied().collect::<Vec<_>>())
        };
        let mut chosen: Vec<usize> = match options.split {
            Split::LeaveOneOut => {
                leave = open.len() >= if both_ones { 3 } else { 2 };
                let latest = open.into_iter().max_by_key(|i| (whole(&left[*i].1).0.0, draw(Part::Test, &left[*i].0)));
                latest.filter(|_| leave).into_iter().collect()
            }
            Split::Random(f) => {
                open.into_iter().filter(|i| (draw(Part::Test, &left[*i].0) as f64) < f * 2f64.powi(64)).collect()
            }
            _ => Vec::new(),
        };
        chosen.sort_unstable();
        for at in chosen.into_iter().rev() {
            let (item, rows) = left.remove(at);
            place(Part::Test, &item, whole(&rows));
        }
        let open: Vec<usize> = (0..left.len()).filter(|i| !left[*i].1[0].is_empty()).collect();
        let mut chosen: Vec<usize> = match options.valid_split {
            Split::LeaveOneOut if leave && open.len() >= 2 => {
                let latest =
                    open.into_iter().max_by_key(|i| (merge(&left[*i].1[0]).0.0, draw(Part::Valid, &left[*i].0)));
                latest.into_iter().collect()
            }
            Split::Random(f) => {
                open.into_iter().filter(|i| (draw(Part::Valid, &left[*i].0) as f64) < f * 2f64.powi(64)).collect()
            }
            _ => Vec::new(),
        };
        chosen.sort_unstable();
        for at in chosen.into_iter().rev() {
            let (item, rows) = left.remove(at);
            place(Part::Valid, &item, merge(&rows[0]));
        }
        for (item, by_part) in left {
            let first = by_part.iter().position(|r| !r.is_empty()).unwrap();
            place(Part::ALL[first], &item, merge(&by_part[first]));
        }
    }
    let mut shown = Shown::new();
    let before = |r: &&Row| [test, valid].into_iter().flatten().all(|t| r.time * 1000 < t);
    let alive: BTreeSet<&String> = pairs.keys().map(|(_, i)| i).collect();
    let drops = options.min_user_count > 1 || options.min_item_count > 1;
    for row in rows.iter().filter(|r| exposure(r) && part_of(r, ready) == Part::Train).filter(before) {
        let (user, item) = (format!("u{}", row.user), format!("i{}", row.item));
        let of_user = pairs.keys().any(|(u, _)| *u == user);
        let taken = taken.contains(&(user.clone(), item.clone()));
        if of_user && !taken && (!drops || alive.contains(&item)) {
            shown.entry(user).or_default().insert(item);
        }
    }
    result.contains_key(&Part::Train).then_some((result, shown, around))
}

fn content(dataset: &Dataset) -> Parts {
    let mut result = Parts::new();
    for (part, interactions) in dataset.parts() {
        for user in 0..dataset.users().len() {
            let items = interactions.user(user);
            let id = dataset.users().id(user).unwrap().to_string();
            for (i, item) in items.items.iter().enumerate() {
                let event = &dataset.manifest().events[usize::from(items.events[i])];
                let count = items.counts.get(i).map_or(1, |c| c.to_native());
                let value = (items.times[i].to_native(), items.weights[i].to_native(), count, event.clone());
                let item = dataset.items().id(item.to_native()).unwrap().to_string();
                result.entry(part).or_default().entry(id.clone()).or_default().insert(item, value);
            }
        }
    }
    result
}

fn around(dataset: &Dataset) -> Around {
    let mut result = Around::new();
    let Some(contexts) = dataset.contexts() else { return result };
    let columns = contexts.summary().columns.len();
    for user in 0..dataset.users().len() {
        let items = dataset.train().user(user).items;
        for (item, code) in items.iter().zip(contexts.user(dataset.train(), user)) {
            let value =
                |k: usize| contexts.value(k, contexts.values(k)[code.to_native() as usize].to_native()).into_owned();
            let key = (user, item.to_native());
            let key = (dataset.users().id(key.0).unwrap().into(), dataset.items().id(key.1).unwrap().into());
            result.insert(key, (0..columns).map(value).collect());
        }
    }
    result
}

fn shown(dataset: &Dataset) -> Shown {
    let mut result = Shown::new();
    for (exposures, user) in
        dataset.exposures().into_iter().flat_map(|e| (0..dataset.users().len()).map(move |u| (e, u)))
    {
        for item in exposures.user(user) {
            let id = dataset.users().id(user).unwrap().to_string();
            result.entry(id).or_default().insert(dataset.items().id(item.to_native()).unwrap().to_string());
        }
    }
    result
}

/// Every file, as bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(n, bytes)| (format!("{name}/{n}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

fn check_counts(rows: &[Row], summary: &IngestSummary, expected: &Parts) {
    let counts = &summary.counts;
    let held: u64 = summary.parts.iter().map(|(_, p)| p.interactions).sum();
    assert_eq!(held, expected.values().flat_map(|users| users.values()).map(|items| items.len() as u64).sum::<u64>());
    assert_eq!(counts.rows_read, rows.len() as u64);
    let removed = counts.exposure_rows
        + counts.filtered_by_event
        + counts.filtered_by_weight
        + counts.merged
        + counts.filtered_by_count;
    assert_eq!(counts.rows_read, removed + held);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn equals_the_naive_pipeline(
        rows in rows(),
        (options, ready) in options(),
        (workers, bits, share) in (1usize..4, 0u32..5, 64usize..4000),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.pec");
        let ctx = Context::new(1, ByteSize(1 << 30));
        let inputs = write(folder.path(), &rows, ready);
        let expected = oracle(&rows, &options, ready);
        let tiny = Budget::tiny(workers, 1 << bits, share);
        let result = ingest_for_test(&inputs, &options, &output, &tiny, &ctx);
        let exposes = !options.exposure_events.is_empty();
        let missing = exposes && !rows.iter().any(|r| r.event == 1);
        if missing {
            // Which error comes first depends on whether any row is left.
            prop_assert!(result.is_err() && !output.exists());
            return Ok(());
        }
        let Some((expected, expected_shown, expected_around)) = expected else {
            let error = result.unwrap_err().to_string();
            prop_assert!(error.contains("no rows") || error.contains("no interactions"), "{}", error);
            prop_assert!(!output.exists());
            return Ok(());
        };
        let summary = result.unwrap();
        check_counts(&rows, &summary, &expected);
        let dataset = Dataset::open(&output).unwrap();
        dataset.verify(&ctx).unwrap();
        prop_assert_eq!(content(&dataset), expected);
        prop_assert_eq!(shown(&dataset), expected_shown);
        let contexts = !options.read.context.is_empty();
        prop_assert_eq!(around(&dataset), if contexts { expected_around } else { Around::new() });
        prop_assert_eq!(dataset.exposures().is_some(), exposes);

        // Another order of rows, other threads, other memory: the same bytes.
        let first = files(&output);
        let mut turned = rows.clone();
        turned.reverse();
        let inputs = write(folder.path(), &turned, ready);
        let wide = Budget::tiny(4 - workers, 8, 1 << 20);
        ingest_for_test(&inputs, &options, &output, &wide, &ctx).unwrap();
        prop_assert!(first == files(&output), "the bytes differ");
    }
}
