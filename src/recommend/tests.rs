//! Recommendations against a full sort, and their formats.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::context::{ByteSize, Context};
use crate::dataset::{Dataset, Part};
use crate::rank::RankError;
use crate::rank::fixture::{self, Matrix, noise};

fn context(threads: usize) -> Context {
    Context::new(threads, ByteSize(1 << 30))
}

/// Each user's items: a few in train, valid and test. User 0 has none in train.
fn example(folder: &Path, users: usize, items: usize) -> Dataset {
    let lists = |part: usize| -> Vec<Vec<u32>> {
        let pick = |u: usize, n: usize| (noise(u, n + 100 * part) * (items / 3) as f32) as u32 * 3 + part as u32;
        (0..users).map(|u| if part == 0 && u == 0 { vec![] } else { (0..3).map(|n| pick(u, n)).collect() }).collect()
    };
    let parts = [(Part::Train, lists(0)), (Part::Valid, lists(1)), (Part::Test, lists(2))];
    fixture::dataset(&folder.join("d"), items, &parts)
}

fn all(matrix: &Matrix, dataset: &Dataset, options: RecommendOptions, ctx: &Context) -> Vec<Recommendations> {
    let mut out = Vec::new();
    let push = |r: &Recommendations| {
        out.push(r.clone());
        Ok(())
    };
    let summary = recommend(matrix, dataset, &RecommendUsers::All, options, ctx, push).unwrap();
    assert_eq!((summary.users as usize, summary.cold_users), (out.len(), 1));
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn equals_a_full_sort_whatever_the_blocks_and_threads(
        users in 2usize..30, items in 12usize..100, k in 1usize..120, include_seen: bool, salt in 0usize..1000,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let dataset = example(folder.path(), users, items);
        let scores = (0..users * items).map(|i| (noise(i, salt) * 40.0).floor() - 20.0).collect();
        let matrix = Matrix { users, items, scores };
        let options = RecommendOptions { k, include_seen };
        let got = all(&matrix, &dataset, options, &context(1));
        prop_assert!(got.iter().map(|r| r.user).eq(1..users as u32));
        for r in &got {
            let seen = |i: &u32| {
                [Part::Train, Part::Valid].iter().any(|p| dataset.part(*p).unwrap().positives(r.user).contains(*i))
            };
            let score = |i: u32| matrix.scores[r.user as usize * items + i as usize];
            let mut rest: Vec<u32> = (0..items as u32).filter(|i| include_seen || !seen(i)).collect();
            rest.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
            prop_assert_eq!(r.items.len(), k.min(rest.len()));
            for ((item, s), expected) in r.items.iter().zip(&rest) {
                prop_assert!(*s == score(*item) && *s == score(*expected) && (include_seen || !seen(item)));
            }
            let distinct: std::collections::HashSet<u32> = r.items.iter().map(|(i, _)| *i).collect();
            prop_assert_eq!(distinct.len(), r.items.len());
        }
        let tiny = Context::new(3, ByteSize(1));
        let Err(RecommendError::Rank(RankError::Memory { needed, .. })) =
            recommend(&matrix, &dataset, &RecommendUsers::All, options, &tiny, |_| Ok(()))
        else {
            panic!("that is too little memory")
        };
        prop_assert_eq!(&all(&matrix, &dataset, options, &Context::new(3, needed)), &got);
        prop_assert_eq!(&all(&matrix, &dataset, options, &context(2)), &got);
    }
}

#[test]
fn formats_hold_the_same_and_nothing_is_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = example(folder.path(), 40, 30);
    let matrix = Matrix { users: 40, items: 30, scores: (0..1200).map(|i| noise(i, 5)).collect() };
    let options = RecommendOptions { k: 4, include_seen: false };
    let mut expected = Vec::new();
    for r in all(&matrix, &dataset, options, &context(1)) {
        for (rank, (item, score)) in (1u32..).zip(r.items) {
            let (user, item) = (dataset.users().id(r.user).unwrap(), dataset.items().id(item).unwrap());
            expected.push((user.to_string(), rank, item.to_string(), score));
        }
    }
    let save = |name: &str, force: bool| {
        let path = folder.path().join(name);
        let format = RecommendFormat::of_path(&path).unwrap();
        save_recommendations(&matrix, &dataset, &RecommendUsers::All, options, format, &path, force, &context(2))
            .map(|_| path)
    };
    let csv = std::fs::read_to_string(save("a.csv", false).unwrap()).unwrap();
    let rows: Vec<String> = expected.iter().map(|(u, r, i, s)| format!("{u},{r},{i},{s}")).collect();
    assert_eq!(csv, format!("user,rank,item,score\n{}\n", rows.join("\n")));

    let mut lines = Vec::new();
    for line in std::fs::read_to_string(save("a.ndjson", false).unwrap()).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        for (rank, item) in (1u32..).zip(line["items"].as_array().unwrap()) {
            let text = |v: &serde_json::Value| v.as_str().unwrap().to_string();
            lines.push((text(&line["user"]), rank, text(&item["item"]), item["score"].as_f64().unwrap() as f32));
        }
    }
    assert_eq!(lines, expected);

    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float32Type, UInt32Type};
    let file = std::fs::File::open(save("a.parquet", false).unwrap()).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let mut rows = Vec::new();
    for batch in reader.map(Result::unwrap) {
        let (users, items) = (batch.column(0).as_string::<i32>(), batch.column(2).as_string::<i32>());
        let (ranks, scores) =
            (batch.column(1).as_primitive::<UInt32Type>(), batch.column(3).as_primitive::<Float32Type>());
        rows.extend(
            (0..batch.num_rows())
                .map(|i| (users.value(i).to_string(), ranks.value(i), items.value(i).to_string(), scores.value(i))),
        );
    }
    assert_eq!(rows, expected);

    assert!(save("a.csv", false).unwrap_err().to_string().contains("--force"));
    save("a.csv", true).unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("a.csv")).unwrap(), csv);
}

#[test]
fn csv_fields_are_quoted_where_they_must_be() {
    let mut out = Vec::new();
    for field in ["plain", "a,b", "say \"x\"", "two\nlines"] {
        output::write_field(&mut out, field).unwrap();
        out.push(b'|');
    }
    assert_eq!(String::from_utf8(out).unwrap(), "plain|\"a,b\"|\"say \"\"x\"\"\"|\"two\nlines\"|");
}

#[test]
fn named_users_come_in_the_order_asked_and_bad_names_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = example(folder.path(), 10, 30);
    let matrix = Matrix { users: 10, items: 30, scores: (0..300).map(|i| noise(i, 5)).collect() };
    let id = |u: u32| dataset.users().id(u).unwrap().to_string();
    let mut got = Vec::new();
    let mut run = |ids: Vec<String>| {
        recommend(&matrix, &dataset, &RecommendUsers::Ids(ids), RecommendOptions::default(), &context(2), |r| {
            got.push(r.user);
            Ok(())
        })
    };
    run(vec![id(7), id(2)]).unwrap();
    let text = run(vec![id(3), "U7".into()]).unwrap_err().to_string();
    assert!(text.contains("--user U7") && text.contains("did you mean u7?"), "{text}");
    let text = run(vec![id(3), id(0)]).unwrap_err().to_string();
    assert!(text.contains("no train interactions"), "{text}");
    assert_eq!(got, [7, 2], "nothing is handed out before all names are known");
}

#[test]
fn similar_items_by_cosine_without_biases() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = example(folder.path(), 5, 12);
    // Item i points at the angle i; the bias columns would turn the order around.
    let row = |i: usize, out: &mut [f32]| {
        let (angle, length) = (i as f32 * 0.2, 1.0 + i as f32);
        out.copy_from_slice(&[angle.cos() * length, angle.sin() * length, -50.0 * i as f32, 1.0]);
    };
    let model = fixture::model(&folder.path().join("m"), &dataset, (2, true), |_, _| {}, row);
    let name = model.item_ids().id(4).unwrap();
    let got = similar(&model, name, 3, &context(1)).unwrap();
    assert_eq!(got.len(), 3);
    let mut nearest: Vec<u32> = got[..2].iter().map(|(item, _)| *item).collect();
    nearest.sort_unstable();
    assert_eq!(nearest, [3, 5]);
    assert!(got.iter().take(2).all(|(_, cosine)| (cosine - 0.2f32.cos()).abs() < 1e-6), "{got:?}");
    assert!((got[2].1 - 0.4f32.cos()).abs() < 1e-6, "{got:?}");
    assert_eq!(similar(&model, name, 100, &context(1)).unwrap().len(), 11);
    let text = similar(&model, &name.to_uppercase(), 3, &context(1)).unwrap_err().to_string();
    assert!(text.contains(&format!("did you mean {name}?")), "{text}");
}
