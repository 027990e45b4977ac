//! Exposures and context columns: ingested, told, and what negatives come of them.

use serde_json::Value;

use crate::ingest::{Bench, interactions};

/// Impressions and clicks: d was only ever shown, and erik never took anything.
const FEED: &str = "user,item,time,event\n\
    anna,a,10,impression\nanna,a,20,click\nanna,b,10,impression\nanna,b,30,impression\nanna,c,90,impression\n\
    anna,d,15,impression\nbert,b,20,click\nbert,a,25,shown\nbert,c,95,click\nbert,c,30,shown\nerik,a,40,shown\n\
    carl,c,50,click\ncarl,b,55,click\ndora,c,12,click\ndora,b,13,shown\n";

#[test]
fn what_was_shown_and_never_taken_is_kept_apart_from_what_was_taken() {
    let bench = Bench::new(FEED);
    let exposing = ["--event-column", "event", "--exposure-events", "impression,shown"];
    let summary = bench.ingest(&exposing);
    assert_eq!((&summary["users"], &summary["items"], &summary["exposure_rows"]), (&4.into(), &4.into(), &9.into()));
    assert_eq!(interactions(&summary, "train"), 6);
    // anna: b, c and d; bert: a; dora: b.
    assert_eq!(summary["exposures"], serde_json::json!({ "exposures": 5, "users": 3, "items": 4 }));
    let report: Value = serde_json::from_slice(&bench.run(&["inspect", "out.pec", "--json"]).stdout).unwrap();
    assert_eq!((&report["events"], &report["exposures"]), (&serde_json::json!(["click"]), &summary["exposures"]));
    let text = String::from_utf8(bench.run(&["inspect", "out.pec"]).stdout).unwrap();
    assert!(text.contains("5 shown and not taken, to 3 users"), "{text}");
    let text = String::from_utf8(bench.run(&["verify", "out.pec"]).stdout).unwrap();
    assert!(text.contains("parts, exposures"), "{text}");

    // What is shown from the split on is unknown to train; what is taken then was not passed over.
    let split = bench.ingest(&[&exposing[..], &["--force", "--split", "time:1970-01-01T00:01:00Z"]].concat());
    assert_eq!((interactions(&split, "train"), interactions(&split, "test")), (5, 1));
    assert_eq!(split["exposures"], serde_json::json!({ "exposures": 4, "users": 3, "items": 3 }));
    // Only b and c were taken by two, and what is left of the exposures is dora's of b.
    let core = bench.ingest(&[&exposing[..], &["--force", "--min-item-count", "2"]].concat());
    assert_eq!((&core["items"], &core["exposures"]["exposures"]), (&2.into(), &1.into()), "{core}");
    // Another order and format of the rows, the same dataset.
    let mut turned: Vec<String> = Vec::new();
    for line in FEED.lines().skip(1) {
        let f: Vec<&str> = line.split(',').collect();
        let (user, item, time, event) = (f[0], f[1], f[2], f[3]);
        turned.insert(0, format!("{{\"user\":\"{user}\",\"item\":\"{item}\",\"time\":{time},\"event\":\"{event}\"}}"));
    }
    bench.write("log.csv", turned.join("\n"));
    let same = bench.ingest(&[&exposing[..], &["--force", "--format", "ndjson"]].concat());
    assert_eq!(same["fingerprint"], summary["fingerprint"]);
}

#[test]
fn mistakes_about_exposures_are_named() {
    let bench = Bench::new(FEED);
    bench.fails(&["--exposure-events", "shown"], &["--event-column"]);
    let events = ["--event-column", "event"];
    let fails = |flags: &[&str], words: &[&str]| bench.fails(&[&events[..], flags].concat(), words);
    fails(&["--exposure-events", "impresion,shown"], &["impresion", "no row", "did you mean \"impression\"?"]);
    fails(&["--exposure-events", "shown", "--keep-events", "click,shown"], &["shown", "--keep-events"]);
    fails(&["--exposure-events", "click,impression,shown"], &["no rows are left", "15 are exposures"]);
    bench.fails(&["--event-column", "evnt", "--exposure-events", "shown"], &["'evnt'", "did you mean \"event\"?"]);
}

#[test]
fn negatives_come_from_exposures_where_there_are_any() {
    let mut log = String::from("user,item,event,timestamp\n");
    for user in 0..40 {
        for k in 0..6 {
            log += &format!(
                "u{user},i{},click,{time}\nu{user},i{},shown,{time}\n",
                (user * 7 + k * 3) % 50,
                (user * 5 + k * 11 + 1) % 50,
                time = 1_600_000_000 + (user * 3 + k) % 20 * 86_400,
            );
        }
    }
    let bench = Bench::new(log);
    bench.ingest(&["--event-column", "event", "--exposure-events", "shown"]);
    bench.write("run.toml", "epochs = 2\ndimensions = 8\n[[negatives.mix]]\npropose = \"exposures\"\n");
    let train = |data: &str, more: &[&str]| {
        bench.run(&[&["train", data, "--output", "m.model", "--force", "--quiet"], more].concat())
    };
    for more in [&[][..], &["--deterministic"], &["--precision", "bf16"]] {
        let output = train("out.pec", &[&["--config", "run.toml"], more].concat());
        assert!(output.status.success(), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let flags = ["--config", "run.toml", "--event-column", "event", "--exposure-events", "shown"];
    let planned = bench.run(&[&["plan", "log.csv", "--json", "--quiet"][..], &flags].concat());
    assert!(planned.status.success(), "{}", String::from_utf8_lossy(&planned.stderr));
    let survey = &serde_json::from_slice::<Value>(&planned.stdout).unwrap()["ingest"]["survey"];
    assert_eq!((&survey["rows"], &survey["exposure_rows"]), (&240.into(), &240.into()));
    // And how they came about.
    let explained = |words: &[&str]| {
        let output = bench.run(&[&["explain", "m.model", "out.pec", "--user", "u3", "--quiet"], words].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(explained(&[]).contains("0. exposures, first: 100 % of the negatives"), "{}", explained(&[]));
    bench.write(
        "both.toml",
        "epochs = 1\ndimensions = 8\n[[negatives.mix]]\npropose = \"exposures\"\n\
                              same_context = \"time:1d\"\n[[negatives.mix]]\npropose = \"popularity\"\n\
                              same_context = \"time:2d\"\n",
    );
    let both = train("out.pec", &["--config", "both.toml", "--audit", "a.parquet"]);
    assert!(both.status.success(), "{}", String::from_utf8_lossy(&both.stderr));
    let told: Value = serde_json::from_str(&explained(&["--json", "--positives", "6"])).unwrap();
    for (k, words) in
        [(0, "exposures, same_context time:1d, first"), (1, "popularity^0.75, same_context time:2d, first")]
    {
        assert_eq!(told["components"][k]["makes"], words);
        assert!(told["components"][k]["dropped"]["same_context"].as_u64() > Some(0), "{told}");
    }
    bench.ingest(&["--force", "--event-column", "event"]);
    let output = train("out.pec", &["--config", "run.toml"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    for word in ["negatives.mix.propose", "no exposures", "--exposure-events"] {
        assert!(message.contains(word), "'{word}' is not in: {message}");
    }
    let listed = bench.run(&["train", "--list-samplers"]);
    assert!(String::from_utf8(listed.stdout).unwrap().contains("exposures"));
}

#[test]
fn context_is_kept_and_negatives_are_of_the_same() {
    let mut log = String::from("user,item,device,page,time\n");
    for user in 0..40 {
        for k in 0..6 {
            let (item, device) = ((user * 7 + k * 3) % 50, ["tv", "phone", ""][(user + k) % 3]);
            log += &format!("u{user},i{item},{device},p{},{}\n", k % 2, 1_600_000_000 + k);
        }
    }
    let bench = Bench::new(&log);
    let columns = serde_json::json!([{ "name": "device", "values": 3 }, { "name": "page", "values": 2 }]);
    let summary = bench.ingest(&["--context", "device,page"]);
    assert_eq!(summary["contexts"], serde_json::json!({ "columns": columns, "combinations": 6 }));
    let text = |words: &[&str]| {
        let output = bench.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text(&["inspect", "out.pec"]).contains("device (3 values), page (2 values); 6 combinations"));
    assert!(text(&["verify", "out.pec"]).contains("context"));
    bench.write(
        "run.toml",
        "epochs = 1\ndimensions = 8\n[[negatives.mix]]\nsame_context = \"device\"\n\
                             propose = \"popularity\"\n",
    );
    let train = ["train", "out.pec", "--output", "m.model", "--force", "--quiet", "--config"];
    for more in [&[][..], &["--deterministic"], &["--loss", "softmax", "--negatives", "20"]] {
        text(&[&train[..], &["run.toml"], more].concat());
    }
    let planned = text(&["plan", "log.csv", "--context", "device,page", "--config", "run.toml", "--json", "--quiet"]);
    assert_eq!(serde_json::from_str::<Value>(&planned).unwrap()["ingest"]["survey"]["context_columns"], 2);
    let told = text(&["explain", "m.model", "out.pec", "--user", "u3", "--positives", "6", "--json", "--quiet"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["components"][0]["makes"], "popularity^0.75, same_context device, first");
    assert!(told["components"][0]["dropped"]["same_context"].as_u64() > Some(0), "{told}");
    // The same rows as NDJSON and without a header.
    let rows = log.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let json = |row: Vec<&str>| serde_json::json!({ "user": row[0], "item": row[1], "at": { "device": row[2], "page": row[3] }, "time": row[4] });
    bench.write("log.ndjson", rows.clone().map(|row| format!("{}\n", json(row))).collect::<String>());
    let flags = ["--output", "json.pec", "--json", "--quiet", "--context", "at.device,at.page"];
    let other: Value = serde_json::from_str(&text(&[&["ingest", "log.ndjson"][..], &flags].concat())).unwrap();
    assert_eq!((&other["contexts"]["combinations"], &other["users"]), (&6.into(), &summary["users"]));
    // What is misspelt, or is not there.
    let refused = |config: &str, words: &[&str]| {
        bench.write("wrong.toml", format!("[[negatives.mix]]\nsame_context = \"{config}\"\n"));
        let output = bench.run(&[&train[..], &["wrong.toml"]].concat());
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{message}");
        words.iter().for_each(|word| assert!(message.contains(word), "'{word}' is not in: {message}"));
    };
    refused("devise", &["same_context", "device, page", "did you mean \"device\"?", "--context devise", "time:1d"]);
    bench.ingest(&["--force"]);
    refused("device", &["no columns of context", "--context device"]);
    bench.fails(&["--force", "--context", "devise"], &["--context", "did you mean \"device\"?"]);
    bench.fails(&["--force", "--context", "device,device"], &["--context", "twice"]);
    bench.fails(&["--force", "--context", "device", "--memory", "64MiB"], &["72MiB"]);
}
