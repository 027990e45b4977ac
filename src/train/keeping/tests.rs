//! Checkpoints in files: what is read of them, what is left of them when they are damaged, and disks that fail.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::saved::{Best, Writing, Written};
use super::sound::{check_origin, check_state};
use super::{CheckpointEvery, Origin, Partial, RunState, Saved};
use crate::context::{ByteSize, Context, Live, Progress, Unit};
use crate::dataset::{Dataset, Part};
use crate::model::{Optimizer, Precision, SharedTable, Tables};
use crate::negatives::NegativesReport;
use crate::rank::fixture::dataset;
use crate::storage::StorageError;
use crate::storage::double::{Fault, Watched};
use crate::train::lane::Done;
use crate::train::place::{Cut, OpenWindow, Place, Position};
use crate::train::run::EpochReport;
use crate::train::validation::Validated;
use crate::train::{TrainConfig, TrainError, ValidationConfig, plan_train, train};

fn ctx() -> Context {
    Context::new(2, ByteSize(64 << 20))
}

fn data(folder: &Path) -> Dataset {
    let users = (0..90u32).map(|u| (0..7).map(|i| (u * 7 + i * i * 3) % 50).collect()).collect();
    dataset(&folder.join("data.pec"), 50, &[(Part::Train, users)])
}

fn origin(data: &Dataset) -> Origin {
    let config = TrainConfig { dimensions: 3, ..TrainConfig::default() };
    Origin {
        run: Origin::new_run(),
        peccary: "0".into(),
        dataset: data.path().into(),
        fingerprint: data.fingerprint().into(),
        plan: plan_train(data, &config, &ctx()).unwrap(),
        config,
        force: false,
        instruction_set: "any".into(),
    }
}

/// Tables with an odd number of words in all, every one of them its number plus `first`.
fn tables(first: f32) -> Tables {
    let kept = (Optimizer::Adagrad { epsilon: 1e-8 }, Precision::F32);
    let mut tables = Tables::new(90, 51, 3, true, kept, [None, None]).unwrap();
    let mut number = first;
    tables.tables_mut().for_each(|table| {
        table.strips(|_, strip| {
            for x in strip {
                *x = number;
                number += 1.0;
            }
        });
    });
    tables
}

fn best(first: f32) -> [SharedTable; 2] {
    [3, 5].map(|rows| {
        let mut table = SharedTable::zeros(rows, 3, None).unwrap();
        table.strips(|_, strip| strip.fill(first));
        table
    })
}

/// Writes checkpoint `number`, whose tables begin with its number.
fn write(folder: &Path, origin: &Origin, number: u64) -> Result<Option<Written>, StorageError> {
    let state = RunState { epoch: number as u32, ..RunState::default() };
    let stop = &AtomicBool::new(false);
    let writing = Writing { folder, slot: Partial::slot(number), number, origin, state: &state, stop };
    let mut best = best(number as f32);
    writing.write(tables(number as f32).tables_mut(), Best::Tables(&mut best))
}

fn words<'t>(tables: impl Iterator<Item = &'t mut SharedTable>) -> Vec<f32> {
    let mut words = Vec::new();
    tables.for_each(|table| table.strips(|_, strip| words.extend_from_slice(strip)));
    words
}

/// What a checkpoint holds must be what was written of that number.
fn check(saved: &Saved) {
    assert_eq!(u64::from(saved.state.epoch), saved.number);
    let (mut read, mut read_best) = (tables(-1.0), best(-1.0));
    saved.read_tables(read.tables_mut()).unwrap();
    assert_eq!(words(read.tables_mut()), words(tables(saved.number as f32).tables_mut()));
    assert!(saved.read_best(read_best.iter_mut()).unwrap());
    assert_eq!(words(read_best.iter_mut()), words(best(saved.number as f32).iter_mut()));
}

#[test]
fn any_changed_byte_is_found_and_the_checkpoint_before_is_used() {
    let root = tempfile::tempdir().unwrap();
    let origin = origin(&data(root.path()));
    let partial = Partial::begin(&root.path().join("m"), false, &ctx()).unwrap();
    assert!(partial.newest(&[]).unwrap().is_none());
    for number in 1..4 {
        write(partial.folder(), &origin, number).unwrap().unwrap();
        let newest = partial.newest(&[]).unwrap().unwrap();
        assert_eq!(newest.number, number);
        check(&newest);
    }
    // A table of another shape is refused, and not read in part.
    let other = Tables::new(90, 52, 3, true, (Optimizer::Sgd, Precision::F32), [None, None]);
    let error = partial.newest(&[]).unwrap().unwrap().read_tables(other.unwrap().tables_mut()).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    for file in ["b/manifest.json", "b/tables", "best-000003"] {
        let path = partial.folder().join(file);
        let good = std::fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(good.len() / 150 + 1) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let newest = partial.newest(&[]).unwrap().unwrap();
            assert_eq!(newest.number, 2, "{file}: byte {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert_eq!(partial.newest(&[]).unwrap().unwrap().number, 2, "{file}: cut at {at}");
        }
        std::fs::write(&path, &good).unwrap();
    }
    check(&partial.newest(&[]).unwrap().unwrap());
    assert_eq!(partial.newest(&[3]).unwrap().unwrap().number, 2);
    assert!(partial.newest(&[2, 3]).unwrap().is_none());
    partial.tidy();
    let there = |name: &str| partial.folder().join(name).exists();
    assert!(!there("best-000001") && there("best-000002") && there("best-000003"));
    for slot in ["a", "b"] {
        std::fs::write(partial.folder().join(slot).join("manifest.json"), "{}").unwrap();
    }
    assert!(partial.newest(&[]).is_err());
}

#[test]
fn whatever_call_fails_while_one_is_written_the_one_before_or_the_new_one_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let origin = origin(&data(root.path()));
    let mut failed = 0;
    for at in 0.. {
        let partial = Partial::begin(&root.path().join("m"), true, &ctx()).unwrap();
        for number in 1..3 {
            write(partial.folder(), &origin, number).unwrap().unwrap();
        }
        let fault = Fault { at, error: Errno::NOSPC, stays: true };
        let watched = Watched::new(partial.folder()).fail(fault);
        let written = write(partial.folder(), &origin, 3);
        let refused = watched.failed().is_some();
        drop(watched);
        let newest = partial.newest(&[]).unwrap().unwrap();
        check(&newest);
        assert!(newest.number == 3 || (newest.number == 2 && written.is_err()), "call {at}: {}", newest.number);
        // What failed is tried again in the same place.
        write(partial.folder(), &origin, 3).unwrap().unwrap();
        check(&partial.newest(&[]).unwrap().unwrap());
        if !refused {
            break;
        }
        failed += 1;
    }
    assert!(failed > 10, "{failed} calls");
}

/// Keeps what is said.
#[derive(Default)]
struct Said(Mutex<Vec<String>>);

impl Progress for Said {
    fn begin(&self, _: &str, _: Option<u64>, _: Unit, _: Arc<Live>) {}
    fn end(&self) {}
    fn message(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_string());
    }
}

#[test]
fn what_the_disk_will_not_hold_is_refused_before_it_starts() {
    let root = tempfile::tempdir().unwrap();
    let mut plan = origin(&data(root.path())).plan;
    let said = Arc::new(Said::default());
    let ctx = ctx().with_progress(said.clone());
    let check = |plan: &crate::train::TrainPlan, resumed| plan.check_room(root.path(), Path::new("m"), resumed, &ctx);
    check(&plan, false).unwrap();
    // Checkpoints are what a run can do without.
    plan.checkpoint.as_mut().unwrap().files = ByteSize(1 << 60);
    check(&plan, true).unwrap();
    assert!(said.0.lock().unwrap().is_empty());
    check(&plan, false).unwrap();
    assert!(said.0.lock().unwrap()[0].contains("--checkpoint-every off"));
    plan.table_files = ByteSize(1 << 60);
    assert!(check(&plan, true).unwrap_err().is_full());
}

#[test]
fn a_disk_that_is_full_costs_checkpoints_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let data = data(root.path());
    let output = root.path().join("m");
    let mut config = TrainConfig { dimensions: 4, epochs: 6, ..TrainConfig::default() };
    config.negatives.count = Some(2);
    config.checkpoint.every = CheckpointEvery::Epoch;
    // Some calls are the run log's, whose failures cost nothing but lines of it.
    for (at, stays) in [(4, true), (9, true), (4, false), (7, false), (25, false)] {
        let watched = Watched::new(&root.path().join("m.partial")).fail(Fault { at, error: Errno::NOSPC, stays });
        let said = Arc::new(Said::default());
        let (_, report) = train(&data, &config, &output, true, &ctx().with_progress(said.clone())).unwrap();
        let said = said.0.lock().unwrap().iter().filter(|text| text.contains("no checkpoint")).count();
        let of_log = format!("{:?}", watched.failed().unwrap()).contains("run.ndjson");
        drop(watched);
        let checkpoints = report.checkpoints.unwrap();
        assert!(checkpoints.failed > 0 || of_log && !stays, "{checkpoints:?}");
        assert_eq!(checkpoints.written + checkpoints.failed, 5, "{checkpoints:?}");
        assert!(checkpoints.failed <= 1 || stays, "{checkpoints:?}");
        assert_eq!(said, usize::from(checkpoints.failed > 0), "said once");
        assert_eq!(report.epochs.len(), 6);
        let _ = std::fs::remove_dir_all(root.path().join("m.partial"));
    }
    // What lies there for someone else is left alone.
    std::fs::create_dir(root.path().join("m.partial")).unwrap();
    std::fs::write(root.path().join("m.partial/journal"), "x").unwrap();
    let refused = train(&data, &config, &output, true, &ctx());
    assert!(matches!(refused, Err(TrainError::NotPartial { .. })));
}

/// A state in the second epoch of a run as `origin` says, at `position`.
fn state(origin: &Origin, position: Position) -> RunState {
    let report = EpochReport {
        epoch: 1,
        loss: 0.5,
        learning_rate: 0.1,
        triples: 600,
        skipped: 0,
        negatives: NegativesReport::default(),
        seconds: 0.1,
        triples_per_second: 1.0,
    };
    let cut = Some(Cut::new(&origin.plan, origin.config.deterministic));
    RunState {
        epoch: 1,
        epochs: vec![report],
        place: Place { cut, position, ..Place::default() },
        ..RunState::default()
    }
}

type Lie = fn(&mut RunState);

#[test]
fn a_run_does_not_go_on_from_where_no_run_can_be() {
    let root = tempfile::tempdir().unwrap();
    let data = data(root.path());
    let racing = origin(&data);
    let mut deterministic = racing.clone();
    deterministic.config.deterministic = true;
    deterministic.config.stream.block_items = Some(10);
    deterministic.plan = plan_train(&data, &deterministic.config, &ctx()).unwrap();
    let check = |origin: &Origin, state: &RunState| check_state(state, &data, &origin.config, &origin.plan);
    let in_window = Position { next: 1, open: vec![OpenWindow { number: 0, trained: 3 }], steps: Vec::new() };
    let in_grid = Position { steps: vec![2; 5], ..Position::default() };
    for (origin, position) in [(&racing, Position::default()), (&racing, in_window.clone()), (&deterministic, in_grid)]
    {
        assert_eq!(check(origin, &state(origin, position)), Ok(()));
    }
    assert_eq!(check(&racing, &RunState::default()), Ok(()));
    let lies: [Lie; 15] = [
        |s| s.epoch = 2,
        |s| s.epoch = u32::MAX,
        |s| s.epochs.clear(),
        |s| s.epochs[0].epoch = 7,
        |s| s.epochs[0].triples = 1 << 50,
        |s| s.to_validate = true,
        |s| s.place.parts = vec![Done { positives: 1 << 50, ..Done::default() }],
        |s| s.place.cut = None,
        |s| s.place.cut.as_mut().unwrap().lanes = 0,
        |s| s.place.cut.as_mut().unwrap().lanes = 1 << 63,
        |s| s.place.cut.as_mut().unwrap().window += 1,
        |s| s.place.position.next = 1 << 40,
        |s| s.place.position.open[0].number = 1,
        |s| s.place.position.open.push(OpenWindow { number: 0, trained: 0 }),
        |s| s.place.position.steps = vec![0; 3],
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut state = state(&racing, in_window.clone());
        lie(&mut state);
        assert!(check(&racing, &state).is_err(), "lie {number}");
    }
    for steps in [vec![2; 4], vec![9, 0, 0, 0, 0], vec![3, 1, 2, 2, 2], vec![1 << 40; 5], vec![usize::MAX; 5]] {
        let position = Position { steps, ..Position::default() };
        assert!(check(&deterministic, &state(&deterministic, position.clone())).is_err(), "{position:?}");
    }
    // With a validation there is something to be done.
    let mut validated = racing.clone();
    validated.config.validation = Some(ValidationConfig::default());
    let due = RunState { to_validate: true, ..state(&validated, Position::default()) };
    assert_eq!(check(&validated, &due), Ok(()));
    assert!(check(&validated, &RunState { to_validate: true, ..RunState::default() }).is_err());

    assert_eq!(check_origin(&racing, &data), Ok(()));
    let lies: [fn(&mut Origin); 8] = [
        |o| o.plan.counts.users = 1 << 50,
        |o| o.plan.counts.items += 1,
        |o| o.plan.counts.interactions = u64::MAX,
        |o| o.plan.window = 0,
        |o| o.plan.window = u64::MAX,
        |o| o.plan.sampled_share = f64::NAN,
        |o| o.plan.sampled_share = -1.0,
        |o| o.config.dimensions = 0,
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut origin = racing.clone();
        lie(&mut origin);
        assert!(check_origin(&origin, &data).is_err(), "lie {number}");
    }
}

#[test]
fn a_checkpoint_whose_counts_are_out_of_all_bounds_is_none() {
    let root = tempfile::tempdir().unwrap();
    let data = data(root.path());
    let origin = origin(&data);
    let seen = Validated { epoch: 1, value: 0.1, learning_rate: 0.1, seconds: 0.0 };
    let lies: [&dyn Fn(&mut RunState); 4] =
        [&|_| {}, &|s| s.validated_on.0 = u64::MAX, &|s| s.place.parts = vec![Done::default(); 65], &|s| {
            s.control.history = vec![seen.clone(); 2]
        }];
    for (number, lie) in lies.into_iter().enumerate() {
        let partial = Partial::begin(&root.path().join("m"), true, &ctx()).unwrap();
        let mut state = state(&origin, Position::default());
        lie(&mut state);
        let stop = &AtomicBool::new(false);
        let folder = partial.folder();
        let writing = Writing { folder, slot: "a", number: 2, origin: &origin, state: &state, stop };
        writing.write(tables(1.0).tables_mut(), Best::None).unwrap().unwrap();
        assert_eq!(partial.newest(&[]).is_ok(), number == 0, "lie {number}");
    }
}
