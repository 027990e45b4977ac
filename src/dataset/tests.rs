//! Datasets whose checksums are right and whose content is not: opening or verifying says so, and nothing panics.

use std::path::Path;

use super::*;
use crate::context::Context;

const ITEMS: u32 = 6;

/// Two users and six items; `spoil` may change what is written of them. Returns what opening and verifying say.
fn spoilt(parts: &[(Part, [&[u32]; 2])], spoil: impl Fn(&mut UserBlock)) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("d");
    write(&target, parts, spoil);
    let dataset = Dataset::open(&target).map_err(|e| e.to_string())?;
    dataset.verify(&Context::default()).map_err(|e| e.to_string())
}

fn write(target: &Path, parts: &[(Part, [&[u32]; 2])], spoil: impl Fn(&mut UserBlock)) {
    let ids: Vec<String> = (0..ITEMS).map(|item| format!("i{item}")).collect();
    write_named(target, ids, parts, spoil);
}

/// The same with items of these ids.
fn write_named(
    target: &Path,
    mut ids_of_items: Vec<String>,
    parts: &[(Part, [&[u32]; 2])],
    spoil: impl Fn(&mut UserBlock),
) {
    let names: Vec<Part> = parts.iter().map(|(part, _)| *part).collect();
    let mut writer = DatasetWriter::create(target, false, Columns::default(), &names, 0).unwrap();
    let mut ids_of_users = ["u0".to_string(), "u1".to_string()];
    ids_of_users.sort_by_key(|id| id_hash(id.as_bytes(), 0));
    ids_of_items.sort_by_key(|id| id_hash(id.as_bytes(), 0));
    let mut items = writer.start_items().unwrap();
    for id in ids_of_items {
        items.append(&[0, id.len() as u32], id.as_bytes()).unwrap();
    }
    writer.finish_items(items).unwrap();
    let mut block = UserBlock::new(Columns::default(), &names);
    for (user, id) in ids_of_users.iter().enumerate() {
        for (part, rows) in parts {
            for item in rows[user] {
                block.push(*part, Event { item: *item, time: 0, weight: 1.0, count: 1, event: 0, context: 0 });
            }
        }
        block.end_user(id.as_bytes());
    }
    spoil(&mut block);
    writer.append(&block).unwrap();
    writer.finish(Description::default()).unwrap();
}

#[test]
fn content_that_contradicts_itself_is_refused() {
    let train: &[(Part, [&[u32]; 2])] = &[(Part::Train, [&[0, 2, 5], &[1, 2]])];
    assert_eq!(spoilt(train, |_| {}), Ok(()));
    let refused = |spoil: &dyn Fn(&mut UserBlock), word: &str| {
        let message = spoilt(train, spoil).unwrap_err();
        assert!(message.contains(word), "'{word}' is not in: {message}");
    };
    refused(&|b| b.parts[0].1.items[..2].reverse(), "invalid");
    refused(&|b| b.parts[0].1.items[4] = 1, "invalid");
    refused(&|b| b.parts[0].1.offsets[1] = 4, "invalid");
    refused(&|b| b.parts[0].1.offsets = vec![0, 7, 5], "invalid");
    refused(&|b| b.parts[0].1.offsets.clear(), "invalid");
    refused(&|b| b.parts[0].1.weights = vec![1.0; 2], "invalid");
    refused(&|b| b.parts[0].1.positive_offsets.truncate(2), "positives");
    refused(&|b| b.parts[0].1.positive_offsets[1] = 3, "positives of user 0");
    refused(&|b| b.parts[0].1.positives.fill(0xFF), "positives of user 0");
    refused(&|b| b.ids[0] = 0xFF, "id 0");
    refused(&|b| b.id_offsets[2] = 9_999, "users.dict: damaged: id ");
}

#[test]
fn a_pair_in_two_parts_is_found() {
    for (parts, words) in [
        (
            [(Part::Train, [&[0][..], &[1]]), (Part::Test, [&[], &[1, 2]])],
            "user 1 has an item both in train and in test",
        ),
        ([(Part::Train, [&[0], &[1]]), (Part::Valid, [&[0], &[]])], "user 0 has an item both in train and in valid"),
    ] {
        assert!(spoilt(&parts, |_| {}).unwrap_err().contains(words));
    }
    let parts: [(Part, [&[u32]; 2]); 3] =
        [(Part::Train, [&[0], &[1]]), (Part::Valid, [&[3], &[4]]), (Part::Test, [&[2], &[4]])];
    assert!(spoilt(&parts, |_| {}).unwrap_err().contains("user 1 has an item both in valid and in test"));
}

#[test]
fn ids_like_an_unknown_one_come_nearest_first() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("d");
    write(&target, &[(Part::Train, [&[0], &[1]])], |_| {});
    let dataset = Dataset::open(&target).unwrap();
    assert_eq!(dataset.items().similar("I3"), ["i3"]);
    assert_eq!(dataset.items().similar("I").len(), 5);
    assert!(dataset.items().similar("x").is_empty());
    // Two letters of a long id, one of a shorter one; numbers are all alike.
    let (target, items) = (folder.path().join("e"), ["spot-chicago", "spot-boston", "jazz", "1234"]);
    let items = items.map(String::from).to_vec();
    write_named(&target, items, &[(Part::Train, [&[0], &[1]])], |_| {});
    let dataset = Dataset::open(&target).unwrap();
    let similar = |id: &str| dataset.items().similar(id);
    assert_eq!((similar("spot-chcago"), similar("spto-boston")), (vec!["spot-chicago"], vec!["spot-boston"]));
    assert_eq!((similar("jaxz"), similar("1235"), similar("rock")), (vec!["jazz"], vec![], vec![]));
}

#[test]
fn exposures_are_checked_against_what_was_taken() {
    let train: &[(Part, [&[u32]; 2])] = &[(Part::Train, [&[0, 2, 5], &[1, 2]])];
    let exposed = |offsets: &[u32], items: &[u32]| {
        let block = |offsets: &[u32], items: &[u32]| super::exposures::ExposureBlock {
            offsets: offsets.to_vec(),
            items: items.to_vec(),
            exposed_users: 1,
        };
        spoilt(train, |b| b.exposures = Some(block(offsets, items)))
    };
    assert_eq!(exposed(&[0, 2, 3], &[1, 3, 0]), Ok(()));
    assert!(exposed(&[0, 2, 3], &[1, 3, 2]).unwrap_err().contains("user 1 has an item both in train and in exposures"));
    for (offsets, items) in [(&[0, 2, 3][..], &[3, 1, 0][..]), (&[0, 2], &[1, 3]), (&[0, 2, 1], &[1, 3, 4])] {
        let message = exposed(offsets, items).unwrap_err();
        assert!(message.contains("exposures"), "{message}");
    }
}
