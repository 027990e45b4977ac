//! Logs that are whole, cut off anywhere, damaged, gone on with, and written where there is no room.

use super::*;
use crate::context::{ByteSize, Context};
use crate::negatives::NegativesReport;
use std::path::Path;

fn header() -> RunHeader {
    RunHeader {
        v: RUN_LOG_VERSION,
        peccary: "0.0.0".into(),
        at: now(),
        model: "m".into(),
        dataset: RunDataset { path: "d".into(), fingerprint: "f".into(), users: 3, items: 4, interactions: 5 },
        epochs: 9,
        triples: 100,
        threads: 2,
        config: serde_json::json!({ "dimensions": 8 }),
        plan: serde_json::Value::Null,
        machine: RunMachine::this(),
    }
}

fn ctx() -> Context {
    Context::new(1, ByteSize(1 << 20))
}

fn moment(triples: u64) -> RunRecord {
    RunRecord::Now(RunMoment { seconds: 0.1 + 0.2, triples, loss: Some(1.0 / 3.0), ..RunMoment::default() })
}

fn epoch(number: u32) -> RunRecord {
    RunRecord::Epoch(Box::new(RunEpoch {
        seconds: 1.0,
        epoch: number,
        loss: Some(0.5),
        learning_rate: 0.05,
        triples: 100,
        skipped: 0,
        duration: 1.0,
        rate: 100.0,
        gradient: None,
        update: Some(0.25),
        row: None,
        producers_blocked: Some(0.5),
        trainers_blocked: None,
        memory: None,
        scheduled: [("negatives.mix.0.share".to_string(), 0.5)].into(),
        negatives: NegativesReport::default(),
    }))
}

fn validation(number: u32) -> RunRecord {
    RunRecord::Valid(RunValidation {
        seconds: 1.0,
        epoch: number,
        metric: "ndcg@20".into(),
        value: 1.0 / 7.0,
        best: true,
        lowered: false,
        stop: false,
        duration: 0.5,
    })
}

fn end() -> RunRecord {
    let status = RunEnded::Done;
    RunRecord::End(RunEnd { seconds: 2.0, at: 1, status, epochs: 9, triples: 900, best: None, text: String::new() })
}

fn text_of(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join(NAME)).unwrap()
}

#[test]
fn what_is_written_is_read_while_it_is_written_and_after() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("m.partial");
    let log = RunLogWriter::create(&folder, header(), &ctx());
    let mut read = RunLog::open(root.path().join("m")).unwrap();
    assert_eq!((read.header().dataset.interactions, read.header().v), (5, RUN_LOG_VERSION));
    assert!(read.records().is_empty() && read.is_being_written() && read.end().is_none());
    [moment(7), epoch(1), validation(1)].iter().for_each(|record| log.write(record));
    assert_eq!(read.refresh().unwrap(), 3);
    assert_eq!(read.refresh().unwrap(), 0);
    assert_eq!(
        (read.moments().len(), read.epochs()[0].update, read.validations()[0].value),
        (1, Some(0.25), 1.0 / 7.0)
    );
    // Moments are rounded, epochs are not.
    assert_eq!((read.moments()[0].seconds, read.moments()[0].loss), (0.3, Some(0.333333)));
    log.write(&end());
    // It moves into the model, and whoever reads it goes on.
    let model = root.path().join("m");
    std::fs::create_dir(&model).unwrap();
    let record = log.publish(&model, NAME).unwrap();
    drop(log);
    assert!(!folder.exists());
    assert_eq!(read.refresh().unwrap(), 1);
    assert!(read.end().is_some_and(|end| end.status == RunEnded::Done) && !read.is_being_written());
    assert_eq!(record.bytes, text_of(&model).len() as u64);
    crate::storage::check_plain(&model, &record).unwrap();
    assert_eq!(RunLog::open(&model).unwrap().records().len(), 4);
}

#[test]
fn a_log_cut_off_at_any_byte_is_read_up_to_the_line_before() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("p");
    let log = RunLogWriter::create(&folder, header(), &ctx());
    [moment(7), epoch(1), moment(9), end()].iter().for_each(|record| log.write(record));
    let text = text_of(&folder);
    let cut = root.path().join("cut");
    for length in 0..text.len() {
        std::fs::write(&cut, &text[..length]).unwrap();
        let lines = text[..length].iter().filter(|byte| **byte == b'\n').count();
        match RunLog::open(&cut) {
            Ok(read) => {
                assert_eq!(read.records().len() + 1, lines);
                assert_eq!(read.is_cut_off(), text[length - 1] != b'\n');
            }
            Err(error) => assert!(lines == 0 && matches!(error, RunLogError::Header { .. }), "{error}"),
        }
    }
}

#[test]
fn a_run_that_was_gone_on_with_is_told_once() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("p");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("lock"), "").unwrap();
    let log = RunLogWriter::create(&folder, header(), &ctx());
    let before = [moment(50), epoch(1), validation(1), moment(150), epoch(2), moment(250)];
    before.iter().for_each(|record| log.write(record));
    drop(log);
    // The folder is another's: what is in it stays. A line was cut off.
    let mut text = text_of(&folder);
    text.extend(b"{\"k\":\"now\",\"t\":");
    std::fs::write(folder.join(NAME), text).unwrap();
    let log = RunLogWriter::resume(&folder, header(), (1.5, 150), &ctx());
    assert!(log.seconds() >= 1.0, "the time goes on from the epoch's");
    [moment(200), epoch(2), end()].iter().for_each(|record| log.write(record));
    let read = RunLog::open(folder.join(NAME)).unwrap();
    assert_eq!(read.records().len(), 10);
    assert_eq!(read.moments().iter().map(|m| m.triples).collect::<Vec<_>>(), [50, 150, 200]);
    assert_eq!(read.epochs().iter().map(|e| e.epoch).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((read.validations().len(), read.events().count()), (1, 1));
}

#[test]
fn what_is_no_log_is_refused_and_a_bad_line_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log");
    let missing = RunLog::open(&path).err().unwrap().to_string();
    assert!(missing.contains("no such model"), "{missing}");
    let fails = |text: &str, words: &[&str]| {
        std::fs::write(&path, text).unwrap();
        let message = RunLog::open(&path).err().unwrap().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    fails("", &["empty"]);
    fails("a,b,c\n", &["line 1", "run.ndjson"]);
    fails("{\"k\":\"now\",\"v\":1}\n", &["line 1", "run"]);
    fails("{\"k\":\"run\",\"v\":2,\"new\":true}\n", &["version 2", "up to 1", "newer peccary"]);
    let mut text = serde_json::to_string(&RunRecord::Run(Box::new(header()))).unwrap();
    text += "\n{\"k\":\"soon\",\"x\":1}\n{\"k\":\"now\",\"t\":\"late\"}\n";
    fails(&text, &["line 3", "cut it off"]);
    // Kinds of a later build of the same version are passed over.
    std::fs::write(&path, text.lines().take(2).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    assert!(matches!(RunLog::open(&path).unwrap().records(), [RunRecord::Unknown]));
}

#[test]
fn without_a_place_for_it_there_is_none_and_nothing_fails() {
    let root = tempfile::tempdir().unwrap();
    let nowhere = root.path().join("file/p");
    std::fs::write(root.path().join("file"), "").unwrap();
    let log = RunLogWriter::create(&nowhere, header(), &ctx());
    log.write(&end());
    assert!(!log.writes() && log.publish(root.path(), NAME).is_none());
    // Of a full disk every line is left out, and told of once; the log stays readable.
    let full = Path::new("/dev/full");
    if full.exists() {
        let folder = root.path().join("p");
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(full, folder.join(NAME)).unwrap();
        let log = RunLogWriter::create(&folder, header(), &ctx());
        log.write(&moment(1));
        drop(log);
    }
}
