//! Ids are found both ways, in one file, in a chain of files, merged, and with holes.

use proptest::prelude::*;

use super::*;

const SEED: u64 = 7;

fn write(folder: &Path, name: &str, ids: &[String], block: usize) -> FileRecord {
    let mut writer = DictionaryWriter::create(&folder.join(name), SEED).unwrap();
    for group in ids.chunks(block) {
        let mut offsets = vec![0u32];
        let mut bytes = Vec::new();
        for id in group {
            bytes.extend_from_slice(id.as_bytes());
            offsets.push(bytes.len() as u32);
        }
        writer.append(&offsets, &bytes).unwrap();
    }
    writer.finish(name).unwrap()
}

fn check(dictionary: &Dictionary, ids: &[Option<String>]) {
    dictionary.verify().unwrap();
    assert_eq!(dictionary.len() as usize, ids.len());
    assert_eq!(dictionary.holes() as usize, ids.iter().filter(|id| id.is_none()).count());
    for (dense, id) in (0..).zip(ids) {
        assert_eq!(dictionary.id(dense), id.as_deref());
        if let Some(id) = id {
            assert_eq!(dictionary.find(id), Some(dense));
        }
    }
    assert_eq!(dictionary.id(ids.len() as u32), None);
    assert_eq!(dictionary.find("an id that is much longer than twelve characters"), None);
}

proptest! {
    #[test]
    fn ids_are_found_both_ways(
        ids in proptest::collection::btree_set(".{1,12}", 1..200),
        block in 1usize..50,
        cuts in proptest::collection::vec(0usize..200, 0..4),
        forgotten in proptest::collection::btree_set(0u32..200, 0..20),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<String> = ids.into_iter().collect();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(ids.len())).chain([0, ids.len()]).collect();
        cuts.sort_unstable();
        let (mut all, mut records) = (Vec::new(), Vec::new());
        for (n, cut) in cuts.windows(2).enumerate() {
            let mut piece = ids[cut[0]..cut[1]].to_vec();
            piece.sort_by_key(|id| id_hash(id.as_bytes(), SEED));
            records.push(write(folder.path(), &format!("d{n}"), &piece, block));
            all.extend(piece.into_iter().map(Some));
        }
        let chain = Dictionary::open_chain(folder.path(), &records.iter().collect::<Vec<_>>()).unwrap();
        check(&chain, &all);
        let record = chain.copy_to(&folder.path().join("copy"), "copy", &Context::default()).unwrap();
        check(&Dictionary::open(folder.path(), &record).unwrap(), &all);
        let forgotten: Vec<u32> = forgotten.into_iter().filter(|n| (*n as usize) < all.len()).collect();
        let record = write_listed(&chain, &forgotten, &folder.path().join("l"), "l", &Context::default()).unwrap();
        let listed = Dictionary::open(folder.path(), &record).unwrap();
        for number in &forgotten {
            let id = all[*number as usize].take().unwrap();
            prop_assert_eq!(listed.find(&id), None);
        }
        check(&listed, &all);
        let record = write_listed(&listed, &[], &folder.path().join("m"), "m", &Context::default()).unwrap();
        check(&Dictionary::open(folder.path(), &record).unwrap(), &all);
    }
}
