//! `ingest --append`, `compact` and `forget`: against an ingest of everything at once, and with real processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use peccary::{
    ByteSize, ChangeKind, Column, Context, Dataset, DatasetError, IngestOptions, IngestRun, Input, Inputs, Part, Split,
    append_ingest, append_options, compact, forget, hold_out, ingest,
};
use proptest::prelude::*;
use serde_json::Value;

/// Part, time, weight, count, event and context of a pair.
type Content = BTreeMap<(String, String), (Part, i64, String, u32, String, Vec<String>)>;
type Pairs = BTreeSet<(String, String)>;

fn context() -> Context {
    Context::new(2, ByteSize(128 << 20))
}

fn user_id(dataset: &Dataset, user: u32) -> String {
    dataset.users().id(user).unwrap_or("(forgotten)").to_string()
}

fn item_id(dataset: &Dataset, item: u32) -> String {
    dataset.items().id(item).expect("items are not forgotten").to_string()
}

/// All that a dataset holds, by original ids: interactions and exposures.
fn content(dataset: &Dataset) -> (Content, Pairs) {
    let (mut content, mut shown) = (Content::new(), Pairs::new());
    let events = &dataset.manifest().events;
    for (part, rows) in dataset.parts() {
        for index in 0..rows.chunks() {
            let chunk = rows.chunk(index);
            let mut row = 0;
            for at in 0..chunk.users() {
                let (user, items) = (chunk.first_user() + at as u32, chunk.user(at));
                for (i, item) in items.items.iter().enumerate() {
                    let contexts = dataset.contexts().filter(|_| part == Part::Train);
                    let values = contexts.map(|contexts| {
                        let code = contexts.chunk(index)[row].to_native() as usize;
                        let value = |k| contexts.value(k, contexts.values(k)[code].to_native()).into_owned();
                        (0..contexts.summary().columns.len()).map(value).collect()
                    });
                    row += 1;
                    let value = (
                        part,
                        items.times.get(i).map_or(0, |t| t.to_native()),
                        items.weights.get(i).map_or(String::new(), |w| w.to_native().to_string()),
                        items.counts.get(i).map_or(1, |c| c.to_native()),
                        items.events.get(i).map_or(String::new(), |e| events[usize::from(*e)].clone()),
                        values.unwrap_or_default(),
                    );
                    let key = (user_id(dataset, user), item_id(dataset, item.to_native()));
                    assert!(content.insert(key, value).is_none(), "a pair is there twice");
                }
            }
        }
    }
    for user in (0..dataset.users().len()).filter(|_| dataset.exposures().is_some()) {
        for item in dataset.exposures().unwrap().user(user) {
            shown.insert((user_id(dataset, user), item_id(dataset, item.to_native())));
        }
    }
    (content, shown)
}

fn ids(dataset: &Dataset) -> [Vec<Option<String>>; 2] {
    [dataset.users(), dataset.items()].map(|ids| (0..ids.len()).map(|i| ids.id(i).map(str::to_string)).collect())
}

/// What was appended since, by original ids.
fn appended(dataset: &Dataset, since: &str) -> Vec<(String, String)> {
    let appended = dataset.appended_since(since).unwrap().expect("a fingerprint of its own");
    let pairs: Vec<(u32, u32)> = appended.pairs().collect();
    assert!(pairs.is_sorted_by(|a, b| a < b), "pairs ascend without repeats");
    pairs.into_iter().map(|(user, item)| (user_id(dataset, user), item_id(dataset, item))).collect()
}

#[derive(Clone, Debug)]
struct Row {
    user: u8,
    item: u8,
    time: i64,
    weight: u8,
    event: u8,
    device: u8,
}

/// Which columns are read and how rows are held out.
#[derive(Clone, Copy, Debug)]
struct Plan {
    columns: bool,
    exposures: bool,
    context: bool,
    split: u8,
}

impl Plan {
    fn options(self) -> IngestOptions {
        let name = |name: &str| Some(Column::Name(name.into()));
        let mut options = IngestOptions::default();
        options.read.header = Some(true);
        options.read.user = name("user");
        options.read.item = name("item");
        if self.columns {
            (options.read.time, options.read.weight, options.read.event) = (name("t"), name("w"), name("e"));
        }
        if self.exposures {
            options.exposure_events = vec!["shown".into()];
        }
        if self.context {
            options.read.context = vec![Column::Name("device".into()), Column::Name("place".into())];
        }
        options.split = match self.split {
            1 => Split::TimeAt(3000),
            2 => Split::Random(0.3),
            _ => Split::None,
        };
        options
    }

    /// The lines of rows, the first of which is number `from` of all.
    fn log(self, rows: &[Row], from: usize) -> String {
        let mut log = String::from("user,item,t,w,e,device,place\n");
        for (number, row) in (from..).zip(rows) {
            let event = match (row.event, self.exposures) {
                (0, true) => "shown",
                (0 | 1, _) => "buy",
                (2, _) => "a view",
                _ => "zoom",
            };
            // Where rows of a pair agree in time and event, which is the last one goes by weight before context: keep apart.
            let time = if self.context { row.time * 1000 + number as i64 } else { row.time };
            let unit = if self.context { "" } else { "000" };
            let (weight, device) = (f64::from(row.weight) / 4.0, row.device);
            log += &format!("u{},i{},{time}{unit},{weight},{event},d{device},p{}\n", row.user, row.item, device / 2);
        }
        log
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (0u8..10, 0u8..12, 0i64..6, 0u8..20, 0u8..5, 0u8..5);
    proptest::collection::vec(row, 1..150).prop_map(|rows| {
        let row = |(user, item, time, weight, event, device)| Row { user, item, time, weight, event, device };
        rows.into_iter().map(row).collect()
    })
}

fn plans() -> impl Strategy<Value = Plan> {
    (any::<bool>(), any::<bool>(), any::<bool>(), 0u8..3).prop_map(|(columns, exposures, context, split)| {
        // Exposures go by events, the split by times; context keeps times apart by thousands.
        let columns = columns || exposures || split == 1;
        Plan { columns, exposures, context, split }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn appending_in_pieces_then_compacting_is_ingesting_at_once(
        mut rows in rows(),
        plan in plans(),
        cuts in proptest::collection::vec(0usize..150, 0..4),
        compact_after in 0usize..5,
        gone in 0u8..10,
        since in 0usize..4,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (path, all) = (folder.path().join("d.pec"), folder.path().join("all.pec"));
        let first: Vec<Row> = if plan.exposures {
            // Exposures of who took nothing yet are not kept: let everyone begin with something.
            (0..10).map(|user| Row { user, item: 40, time: 0, weight: 1, event: 1, device: 0 }).collect()
        } else {
            vec![Row { user: 0, item: 40, time: 0, weight: 1, event: 1, device: 0 }]
        };
        let least = first.len();
        rows.splice(0..0, first);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.clamp(least, rows.len())).chain([0, rows.len()]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let options = plan.options();
        let log = |name: &str, from: usize, to: usize| {
            let file = folder.path().join(name);
            std::fs::write(&file, plan.log(&rows[from..to], from)).unwrap();
            Inputs::from(vec![Input::Path(file)])
        };
        let ctx = context();
        let whole = ingest(&log("all.csv", 0, rows.len()), &options, &all, false, &ctx);
        let first = ingest(&log("0.csv", 0, cuts[1]), &options, &path, false, &ctx);
        // A first piece that is held out whole is no dataset to append to.
        prop_assume!(first.is_ok() && whole.is_ok());
        let (mut before, base) = (ids(&Dataset::open(&path).unwrap()), first.unwrap().fingerprint);
        // What was there after each append, and what had been appended until then.
        let state = || {
            let dataset = Dataset::open(&path).unwrap();
            (dataset.fingerprint().to_string(), content(&dataset).0, appended(&dataset, &base))
        };
        let mut states = vec![state()];
        for (piece, cut) in cuts.windows(2).enumerate().skip(1) {
            let mut options = append_options(&path).unwrap();
            prop_assert_eq!(&options.read, &plan.options().read);
            options.split = plan.options().split;
            let inputs = log(&format!("{piece}.csv"), cut[0], cut[1]);
            let summary = append_ingest(&inputs, &options, &path, IngestRun::default(), &ctx).unwrap();
            prop_assert_eq!(summary.change.number as usize, piece);
            if piece == compact_after {
                compact(&path, &ctx).unwrap();
            }
            let dataset = Dataset::open(&path).unwrap();
            dataset.verify(&ctx).unwrap();
            let now = ids(&dataset);
            for (before, now) in before.iter().zip(&now) {
                prop_assert_eq!(before, &now[..before.len()], "ids that were there keep theirs");
            }
            before = now;
            states.push(state());
        }
        let dataset = Dataset::open(&path).unwrap();
        let wanted = content(&Dataset::open(&all).unwrap());
        prop_assert_eq!(&content(&dataset), &wanted);
        let parts = |d: &Dataset| d.manifest().parts.clone();
        prop_assert_eq!(parts(&dataset), parts(&Dataset::open(&all).unwrap()));
        let added = appended(&dataset, &base);
        if plan.split == 0 {
            let later = rows[cuts[1]..].iter().filter(|row| !plan.exposures || row.event > 0);
            let later: Pairs = later.map(|row| (format!("u{}", row.user), format!("i{}", row.item))).collect();
            prop_assert_eq!(&added.iter().cloned().collect::<Pairs>(), &later);
        }
        prop_assert!(dataset.appended_since("another").unwrap().is_none());
        let fingerprint = dataset.fingerprint().to_string();
        prop_assert_eq!(appended(&dataset, &fingerprint), vec![]);

        // What came since, held out.
        let held = folder.path().join("held.pec");
        let since = since.min(states.len() - 1);
        let (then, learnt, until) = &states[since];
        let is_held = |(_, (part, ..)): &(&_, &(Part, _, _, _, _, _))| *part != Part::Train;
        let holds_out_more = states[since..].windows(2).any(|states| {
            let [before, after] = [&states[0].1, &states[1].1];
            after.iter().filter(is_held).any(|(pair, _)| !before.contains_key(pair))
        });
        let mut parted = wanted.0.clone();
        parted.retain(|_, (part, ..)| *part == Part::Train || !holds_out_more);
        for ((user, item), (part, .., contexts)) in &mut parted {
            let pair = (user.clone(), item.clone());
            let was_there = learnt.get(&pair).is_some_and(|(part, ..)| *part == Part::Train);
            *part = match part {
                Part::Train if was_there => Part::Train,
                Part::Train => {
                    contexts.clear();
                    Part::Test
                }
                _ => Part::Valid,
            };
        }
        let made = hold_out(&dataset, then, (&held, false), &ctx);
        if parted.values().any(|(part, ..)| *part == Part::Test) {
            let (made, held) = (made.unwrap(), Dataset::open(&held).unwrap());
            held.verify(&ctx).unwrap();
            prop_assert_eq!(content(&held), (parted.clone(), wanted.1.clone()));
            prop_assert_eq!((ids(&held), made.fingerprint), (ids(&dataset), held.fingerprint().to_string()));
            prop_assert_eq!(made.left_out == 0, !holds_out_more || !wanted.0.iter().any(|of| is_held(&of)));
            prop_assert_eq!(&appended(&held, &base), until, "who learnt from what was there has nothing to learn");
            let later: Vec<&String> = states[since + 1..].iter().map(|(fingerprint, ..)| fingerprint).collect();
            let change = held.manifest().changes.last().unwrap();
            prop_assert_eq!((&change.before, change.withheld.iter().collect::<Vec<_>>()), (then, later));

            // It can be changed as any other.
            let path = folder.path().join("held.pec");
            if let Some(number) = held.users().find(&format!("u{gone}")) {
                forget(&path, &[format!("u{gone}")], &ctx).unwrap();
                let now = Dataset::open(&path).unwrap();
                now.verify(&ctx).unwrap();
                parted.retain(|(user, _), _| *user != format!("u{gone}"));
                prop_assert_eq!((&content(&now).0, now.users().id(number)), (&parted, None));
            }
            let again = append_options(&path).unwrap();
            append_ingest(&log("held.csv", 0, rows.len()), &again, &path, IngestRun::default(), &ctx).unwrap();
            compact(&path, &ctx).unwrap();
            let grown = Dataset::open(&path).unwrap();
            grown.verify(&ctx).unwrap();
            prop_assert!(grown.changes_since(then).is_some_and(|since| since[0].kind == ChangeKind::HoldOut));
            // And what was appended to it held out in turn.
            let (of_held, twice) = (held.fingerprint(), folder.path().join("twice.pec"));
            if grown.appended_since(of_held).unwrap().unwrap().arrivals().next().is_some() {
                hold_out(&grown, of_held, (&twice, false), &ctx).unwrap();
                let twice = Dataset::open(&twice).unwrap();
                twice.verify(&ctx).unwrap();
                let train = |of: &Content| of.keys().filter(|pair| of[*pair].0 == Part::Train).cloned().collect::<Pairs>();
                prop_assert_eq!(train(&content(&twice).0), train(&parted));
                prop_assert!(twice.changes_since(then).is_some(), "models of the beginning belong there, too");
            }
            // From before it was made: what the first one tested is in no part then, being newer than some of train.
            let (first, last) = (&states[0].0, folder.path().join("last.pec"));
            match hold_out(&grown, first, (&last, false), &ctx) {
                Ok(_) => Dataset::open(&last).unwrap().verify(&ctx).unwrap(),
                Err(error) => prop_assert!(matches!(error, DatasetError::NothingSince { .. }), "nothing to hold out"),
            }
        } else {
            prop_assert!(matches!(made, Err(DatasetError::NothingSince { .. })), "nothing to hold out");
        }
        let never = hold_out(&dataset, "x", (&held, true), &ctx);
        prop_assert!(matches!(never, Err(DatasetError::NeverHad { .. })), "a state that it never was in");

        // Compacting changes nothing that can be seen; who had it open is not disturbed.
        let summary = compact(&path, &ctx).unwrap();
        let compacted = Dataset::open(&path).unwrap();
        compacted.verify(&ctx).unwrap();
        prop_assert_eq!(&summary.fingerprint, &fingerprint);
        prop_assert_eq!(compacted.fingerprint(), &fingerprint);
        prop_assert_eq!(&content(&compacted), &wanted);
        prop_assert_eq!(&ids(&compacted), &before);
        prop_assert_eq!(&appended(&compacted, &base), &added);
        prop_assert_eq!(&content(&dataset), &wanted);
        prop_assert!(!compact(&path, &ctx).unwrap().compacted, "a second time there is nothing to do");

        // A user is forgotten, and appended again.
        let gone = format!("u{gone}");
        let Some(number) = compacted.users().find(&gone) else { return Ok(()) };
        let summary = forget(&path, std::slice::from_ref(&gone), &ctx).unwrap();
        let forgotten = Dataset::open(&path).unwrap();
        forgotten.verify(&ctx).unwrap();
        prop_assert_eq!(forgotten.users().find(&gone), None);
        prop_assert_eq!(forgotten.users().id(number), None);
        prop_assert_eq!(forgotten.users().len(), compacted.users().len());
        let mut rest = wanted.clone();
        rest.0.retain(|(user, _), _| *user != gone);
        rest.1.retain(|(user, _)| *user != gone);
        prop_assert_eq!(summary.interactions as usize, wanted.0.len() - rest.0.len());
        prop_assert_eq!(summary.exposures as usize, wanted.1.len() - rest.1.len());
        prop_assert_eq!(&content(&forgotten), &rest);
        prop_assert!(appended(&forgotten, &base).iter().all(|(user, _)| *user != gone));
        let again = append_options(&path).unwrap();
        append_ingest(&log("again.csv", 0, rows.len()), &again, &path, IngestRun::default(), &ctx).unwrap();
        let again = Dataset::open(&path).unwrap();
        again.verify(&ctx).unwrap();
        prop_assert_eq!(again.users().find(&gone).is_none_or(|n| n >= forgotten.users().len()), true);
        compact(&path, &ctx).unwrap();
        prop_assert_eq!(content(&Dataset::open(&path).unwrap()), content(&again));
        prop_assert_eq!(&content(&compacted), &wanted, "who had it open is not disturbed");
    }
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// A folder with a dataset of three users.
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.write(
            "log.csv",
            "user,item,time\nanna,tea,1\nanna,jam,2\nbert,tea,3\nwilhelmine,rye,4\nwilhelmine,tea,5\n",
        );
        bench.run(&["ingest", "log.csv", "--output", "d.pec"]);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peccary"));
        command.current_dir(self.folder.path()).args(arguments).arg("--quiet");
        command
    }

    /// Must succeed; what `--json` says.
    fn run(&self, arguments: &[&str]) -> Value {
        let output = self.command(&[arguments, &["--json"]].concat()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Must fail with a message that holds all of `words`, and leave the dataset as it is.
    fn fails(&self, arguments: &[&str], words: &[&str]) {
        let before = files(&self.path("d.pec"));
        self.refuses(arguments, words);
        assert_eq!(files(&self.path("d.pec")), before, "{arguments:?} changed something");
    }

    /// Must fail with a message that holds all of `words`.
    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}: {}", text(&output));
        for word in words {
            assert!(text(&output).contains(word), "'{word}' is not in: {}", text(&output));
        }
    }

    /// An append that waits for its rows on standard input, and holds the lock.
    fn waiting(&self) -> Child {
        let mut command = self.command(&["ingest", "--append", "d.pec", "-", "--format", "csv"]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait(|| self.path("d.pec/.append.partial").exists());
        child
    }

    fn fingerprint(&self) -> String {
        self.run(&["verify", "d.pec"])["fingerprint"].as_str().unwrap().to_string()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn wait(mut until: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !until() {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing happens");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All files below a folder with their content, but locks and what an append works on.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with(".append") {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with(".lock") {
            found.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn an_append_says_what_it_added_and_inspect_shows_it() {
    let bench = Bench::new();
    bench.write("more.csv", "user,item,time\nanna,tea,9\nanna,oat,9\ncarl,rye,9\n");
    let summary = bench.run(&["ingest", "--append", "d.pec", "more.csv"]);
    let of = |key: &str| summary["change"][key].as_u64().unwrap();
    assert_eq!(["number", "users", "items", "interactions", "merged"].map(of), [1, 1, 1, 2, 1]);
    assert_eq!((summary["users"].as_u64(), summary["items"].as_u64()), (Some(4), Some(4)));
    let report = bench.run(&["inspect", "d.pec"]);
    assert_eq!(report["changes"][0]["sources"][0]["rows"], 3);
    assert_eq!(report["changes"][0]["after"], report["fingerprint"]);
    let text = String::from_utf8(bench.command(&["inspect", "d.pec"]).output().unwrap().stdout).unwrap();
    for word in ["append 1", "2 interactions", "1 users", "more.csv"] {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
    bench.run(&["verify", "d.pec"]);
}

#[test]
fn who_arrives_is_told_from_who_comes_back() {
    let bench = Bench::new();
    let base = bench.fingerprint();
    // dora is new, and so is a pair of anna's with an item of before; then both come back, and emil comes.
    bench.write("one.csv", "user,item,time\ndora,rye,9\ndora,oat,9\nanna,new,9\n");
    bench.run(&["ingest", "--append", "d.pec", "one.csv"]);
    let between = bench.fingerprint();
    bench.write("two.csv", "user,item,time\ndora,rye,10\nanna,new,10\nemil,oat,10\n");
    bench.run(&["ingest", "--append", "d.pec", "two.csv"]);
    let now = bench.fingerprint();
    let arrivals = |then: &str| {
        let dataset = Dataset::open(bench.path("d.pec")).unwrap();
        let named = |(user, item)| (dataset.users().id(user).unwrap().into(), dataset.items().id(item).unwrap().into());
        let appended = dataset.appended_since(then).unwrap().unwrap();
        let all: BTreeSet<(String, String)> = appended.arrivals().map(named).collect();
        assert_eq!(appended.arrivals().count(), all.len(), "each once");
        all
    };
    let pairs = |of: &[(&str, &str)]| of.iter().map(|(u, i)| (u.to_string(), i.to_string())).collect::<BTreeSet<_>>();
    let late = pairs(&[("emil", "oat")]);
    let all = pairs(&[("dora", "rye"), ("dora", "oat"), ("anna", "new"), ("emil", "oat")]);
    assert_eq!((arrivals(&base), arrivals(&between), arrivals(&now)), (all, late.clone(), pairs(&[])));
    // That stays so when files are written anew.
    bench.run(&["compact", "d.pec"]);
    bench.run(&["forget", "d.pec", "--user", "dora"]);
    assert_eq!((arrivals(&base), arrivals(&between)), (pairs(&[("anna", "new"), ("emil", "oat")]), late));
    bench.run(&["verify", "d.pec"]);
}

#[test]
fn what_cannot_be_kept_true_is_refused() {
    let bench = Bench::new();
    bench.write("more.csv", "user,item,time\ncarl,rye,9\n");
    bench.write("weighed.csv", "user,item,time,w\ncarl,rye,9,2\n");
    bench.write("bad.csv", "user,item,time\ncarl,rye\n");
    bench.write("empty.csv", "user,item,time\n");
    let append = ["ingest", "--append", "d.pec"];
    let with = |more: &[&'static str]| [&append[..], more].concat();
    bench.fails(&with(&["more.csv", "--min-user-count", "2"]), &["--min-user-count", "--append"]);
    bench.fails(&with(&["more.csv", "--min-item-count", "2"]), &["--min-item-count", "--append"]);
    bench.fails(&with(&["more.csv", "--hash-seed", "2"]), &["--hash-seed", "--append"]);
    bench.fails(&with(&["more.csv", "--output", "e.pec"]), &["--output", "--append"]);
    bench.fails(&with(&["more.csv", "--context", "time"]), &["--context time", "none", "ingest all logs anew"]);
    // Before anything is read: the second row of this one cannot be.
    bench.write("timeless.csv", "user,item\ncarl,rye\ncarl\n");
    bench.fails(&with(&["timeless.csv"]), &["timeless.csv has no time column, unlike the dataset"]);
    bench.fails(&with(&["more.csv", "timeless.csv"]), &["timeless.csv has no time column, unlike the dataset"]);
    bench.fails(
        &with(&["weighed.csv", "--weight-column", "w"]),
        &["weighed.csv has a weight column, unlike the dataset"],
    );
    bench.fails(&with(&["bad.csv"]), &["bad.csv", "--on-error skip"]);
    bench.fails(&with(&["empty.csv"]), &["empty"]);
    bench.fails(&["ingest", "--append", "nowhere.pec", "more.csv"], &["nowhere.pec", "no such folder"]);
    bench.fails(&["ingest", "more.csv"], &["--output"]);
    bench.fails(
        &["forget", "d.pec", "--user", "anna", "--user", "WILHELMINE"],
        &["WILHELMINE", "wilhelmine", "nothing was"],
    );
    bench.fails(&["forget", "d.pec"], &["--user"]);
    bench.fails(&["forget", "d.pec", "--users", "nothing.txt"], &["nothing.txt"]);
    bench.fails(&["compact", "log.csv"], &["log.csv", "not a Peccary dataset"]);
    for command in [&with(&["more.csv"])[..], &["forget", "d.pec", "--user", "anna"]] {
        bench.fails(&[command, &["--memory", "16MiB"]].concat(), &["--memory 16MiB"]);
    }
    assert!(!bench.path("d.pec/.append").exists() && !bench.path("d.pec/.append.partial").exists());
}

#[test]
fn forgotten_users_are_in_no_file() {
    let bench = Bench::new();
    for day in 1..4 {
        bench.write(
            "more.csv",
            &format!("user,item,time\nwilhelmine,tea,9{day}\nwilhelmine,oat{day},9\nu{day},rye,9\n"),
        );
        bench.run(&["ingest", "--append", "d.pec", "more.csv"]);
    }
    let holds =
        |id: &str| files(&bench.path("d.pec")).values().any(|b| memchr::memmem::find(b, id.as_bytes()).is_some());
    let open = Dataset::open(bench.path("d.pec")).unwrap();
    let before = content(&open);
    assert!(holds("wilhelmine") && holds("anna"));
    bench.write("ids.txt", "wilhelmine\n\nu2\n");
    let summary = bench.run(&["forget", "d.pec", "--users", "ids.txt"]);
    assert_eq!((summary["users"].as_u64(), summary["interactions"].as_u64()), (Some(2), Some(6)));
    assert!(!holds("wilhelmine") && !holds("u2") && holds("anna") && holds("u3"));
    bench.run(&["verify", "d.pec"]);
    assert_eq!(content(&open), before, "who had it open is not disturbed");
    // No file is left that the manifest does not list: what the old ones held is gone with them.
    let now = Dataset::open(bench.path("d.pec")).unwrap();
    let mut listed: Vec<PathBuf> = now.manifest().files.iter().map(|f| bench.path("d.pec").join(&f.path)).collect();
    listed.push(bench.path("d.pec/manifest.json"));
    listed.sort();
    assert_eq!(files(&bench.path("d.pec")).into_keys().collect::<Vec<_>>(), listed);
    assert_eq!(now.users().holes(), 2);
    // Whoever prints ids copes with the hole.
    bench.run(&["train", "d.pec", "--output", "m.pec", "--dim", "8", "--epochs", "1"]);
    for format in ["out.ndjson", "out.csv", "out.parquet"] {
        bench.run(&["recommend", "m.pec", "d.pec", "--all", "--output", format]);
    }
    let out = std::fs::read_to_string(bench.path("out.ndjson")).unwrap();
    assert!(out.contains("anna") && !out.contains("\"\""), "no line for nobody: {out}");
}

#[test]
fn one_change_at_a_time() {
    let bench = Bench::new();
    bench.write("more.csv", "user,item,time\ncarl,rye,9\n");
    let mut first = bench.waiting();
    let before = files(&bench.path("d.pec"));
    for command in [
        &["ingest", "--append", "d.pec", "more.csv"][..],
        &["compact", "d.pec"],
        &["forget", "d.pec", "--user", "anna"],
        &["ingest", "log.csv", "--output", "d.pec", "--force"],
    ] {
        let output = bench.command(command).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(text(&output).contains("wait for its end"), "{command:?}: {}", text(&output));
    }
    bench.run(&["inspect", "d.pec"]);
    assert_eq!(files(&bench.path("d.pec")), before);
    use std::io::Write as _;
    first.stdin.take().unwrap().write_all(b"user,item,time\ncarl,rye,9\n").unwrap();
    assert!(first.wait().unwrap().success());
    assert_eq!(bench.run(&["inspect", "d.pec"])["users"], 4);
}

#[test]
fn an_interrupted_append_leaves_the_old_state() {
    let bench = Bench::new();
    let before = bench.fingerprint();
    for signal in ["-KILL", "-INT"] {
        let mut child = bench.waiting();
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        child.wait().unwrap();
        assert_eq!(bench.fingerprint(), before);
    }
    bench.write("more.csv", "user,item,time\ncarl,rye,9\n");
    bench.run(&["ingest", "--append", "d.pec", "more.csv"]);
    assert_ne!(bench.fingerprint(), before);
    assert!(!bench.path("d.pec/.append.partial").exists() && !bench.path("d.pec/.append").exists());
}

#[test]
fn killed_at_any_point_and_gone_on_with_an_append_gives_the_same_content() {
    let bench = Bench::new();
    let mut log = String::from("user,item,time\n");
    for i in 0..300_000u64 {
        let hash = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        log += &format!("user{},item{},{}\n", hash % 40_000, hash % 1999, 1000 + i);
    }
    bench.write("big.csv", &log);
    bench.write("other.csv", "user,item,time\ncarl,rye,9\n");
    let copy = || {
        let _ = std::fs::remove_dir_all(bench.path("d.pec"));
        bench.run(&["ingest", "log.csv", "--output", "d.pec"]);
    };
    let append = ["ingest", "--append", "d.pec", "big.csv", "--memory", "64MiB", "--checkpoint", "0"];
    bench.run(&append);
    let wanted = bench.fingerprint();
    let places =
        ["d.pec/.append.partial/journal", "d.pec/.append/manifest.json", "d.pec/segments/000001/train/00000.shard"];
    for place in places {
        copy();
        let before = bench.fingerprint();
        let mut child = bench.command(&append).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait(|| bench.path(place).exists() || child.try_wait().unwrap().is_some());
        let _ = child.kill();
        let finished = child.wait().unwrap().success();
        let state = bench.fingerprint();
        assert!(state == if finished { wanted.clone() } else { before }, "{place}: neither the old state nor the new");
        if finished {
            println!("skipped: {place} came too late");
            continue;
        }
        if bench.path("d.pec/.append.partial/journal").exists() {
            bench.refuses(&append, &["--resume", "--restart"]);
            bench.refuses(&["forget", "d.pec", "--user", "anna"], &[".append.partial", "--resume"]);
            bench.refuses(&["ingest", "--append", "d.pec", "other.csv", "--resume"], &["big.csv", "--restart"]);
            bench.run(&[&append[..], &["--resume"]].concat());
        } else {
            bench.refuses(&[&append[..], &["--resume"]].concat(), &["nothing to resume", "without --resume"]);
            bench.run(&append);
        }
        assert_eq!(bench.fingerprint(), wanted, "{place}");
    }
}

#[test]
fn training_and_models_are_not_disturbed() {
    let bench = Bench::new();
    let size = ["--users", "2000", "--items", "500", "--interactions", "60000"];
    bench.run(&[&["synth", "--output", "big.csv"][..], &size].concat());
    bench.run(&["ingest", "big.csv", "--output", "d.pec", "--force"]);
    let train = |epochs: &str| {
        let arguments = ["train", "d.pec", "--output", "m.pec", "--force", "--dim", "8", "--epochs", epochs];
        bench.command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let training = train("60");
    std::thread::sleep(Duration::from_millis(300));
    bench.write("more.csv", "user,item,time\nu1,new,9\ncarl,rye,9\n");
    bench.run(&["ingest", "--append", "d.pec", "more.csv"]);
    bench.run(&["compact", "d.pec"]);
    let output = training.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    // The model is of the dataset as it was.
    let output = bench.command(&["recommend", "m.pec", "d.pec", "--all"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let recommended = String::from_utf8_lossy(&output.stdout);
    assert!(recommended.lines().count() > 1000 && !recommended.contains("\"new\"") && !recommended.contains("carl"));
    // One of the dataset with what was appended is of the compacted one, too.
    bench.run(&["ingest", "--append", "d.pec", "more.csv"]);
    assert!(train("1").wait().unwrap().success());
    assert_eq!(bench.run(&["compact", "d.pec"])["compacted"], false, "no new ids, and all chunks were written");
    bench.write("more.csv", "user,item,time\ndora,rye,9\n");
    bench.run(&["ingest", "--append", "d.pec", "more.csv"]);
    assert!(train("1").wait().unwrap().success());
    assert_eq!(bench.run(&["compact", "d.pec"])["compacted"], true);
    bench.run(&["recommend", "m.pec", "d.pec", "--all", "--output", "out.ndjson"]);
}

#[test]
#[cfg(target_os = "linux")]
fn memory_stays_within_the_budget() {
    let bench = Bench::new();
    let size = ["--users", "60000", "--items", "20000", "--interactions", "2000000"];
    bench.run(&[&["synth", "--output", "big.csv"][..], &size].concat());
    let size = ["--users", "90000", "--items", "25000", "--interactions", "400000", "--seed", "2"];
    bench.run(&[&["synth", "--output", "more.csv"][..], &size].concat());
    bench.run(&["ingest", "big.csv", "--output", "d.pec", "--force"]);
    for arguments in
        [&["ingest", "--append", "d.pec", "more.csv"][..], &["compact", "d.pec"], &["forget", "d.pec", "--user", "u1"]]
    {
        let mut child =
            bench.command(&[arguments, &["--memory", "64MiB"]].concat()).stdout(Stdio::null()).spawn().unwrap();
        let mut peak = 0;
        while child.try_wait().unwrap().is_none() {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let field = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            let kib: Option<u64> = field.and_then(|l| l.split_whitespace().next()?.parse().ok());
            peak = kib.unwrap_or_default().max(peak);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(child.wait().unwrap().success());
        println!("{arguments:?}: {} MiB", peak >> 10);
        assert!(peak <= 64 << 10, "{arguments:?}: {peak} KiB");
    }
    bench.run(&["verify", "d.pec"]);
}
