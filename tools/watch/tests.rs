//! The views of a run, on terminals of all sizes, against what they were when somebody looked at them.

use peccary::RunLog;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::story::{Story, summary};
use super::view::draw;

/// A log of a run of ten epochs, after six and a half of them.
fn log(validated: bool, ended: bool) -> (tempfile::TempDir, RunLog) {
    let mut lines = vec![
        r#"{"k":"run","v":1,"peccary":"0.1.0","at":0,"model":"clicks.model","dataset":{"path":"clicks.pec","fingerprint":"f","users":10,"items":20,"interactions":1000},"epochs":10,"triples":8000,"threads":2,"config":{"dimensions":64,"loss":{"kind":"bpr"},"negatives":{"count":8}},"plan":{},"machine":{"os":"linux","arch":"x86_64","cores":2,"instruction_set":"avx2"}}"#.to_string(),
    ];
    for k in 0..13 {
        let e = 0.5 * f64::from(k + 1);
        let (n, loss) = ((8000.0 * e) as u64, 0.1 + 0.6 / (1.0 + e));
        lines.push(format!(
            r#"{{"k":"now","t":{},"e":{e},"n":{n},"r":4000,"l":{loss},"lr":0.05,"g":0.12,"u":0.01,"x":1.25,"p":0.75,"w":0.05,"m":104857600}}"#,
            k + 1
        ));
        if k % 2 == 1 {
            let epoch = (k + 1) / 2;
            lines.push(format!(
                r#"{{"k":"epoch","t":{},"e":{epoch},"l":{loss},"lr":0.05,"n":8000,"d":2,"r":4000,"p":0.75,"w":0.05,"neg":{{"sampled":100,"harder":0.125,"difficulty":[0.4,0.2,0.1,0.1,0.05,0.05,0.05,0.03,0.01,0.01],"mean_gap":1.5,"log_popularity":2.0,"positive_log_popularity":3.0,"effective_sample_size":1.0,"false_negatives":0.001,"components":[{{"propose":"uniform","select":"hardest","share":0.6}},{{"propose":"uniform","select":"first","share":0.4}}],"filled":0.0,"void":0.0}}}}"#,
                k + 1
            ));
            if validated {
                let value = 0.05 + 0.01 * f64::from(epoch.min(8 - epoch));
                lines.push(format!(
                    r#"{{"k":"valid","t":{},"e":{epoch},"metric":"ndcg@20","value":{value},"best":{},"d":0.5}}"#,
                    k + 1,
                    epoch <= 4
                ));
            }
        }
    }
    lines.push(r#"{"k":"event","t":13,"at":0,"what":"checkpoint","e":6.5,"n":52000}"#.to_string());
    if ended {
        lines.push(r#"{"k":"end","t":13,"at":0,"status":"patience","epochs":6,"n":48000}"#.to_string());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.ndjson");
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let log = RunLog::open(&path).unwrap();
    (folder, log)
}

fn drawn(log: &RunLog, (width, height): (u16, u16), gone: bool) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, log, gone)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn views_are_as_they_were_looked_at() {
    let (_folder, log) = log(true, false);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/watch/views");
    for (name, size) in [("wide", (110, 32)), ("narrow", (60, 30)), ("tall", (44, 60)), ("small", (40, 12))] {
        let view = drawn(&log, size, false);
        let path = folder.join(format!("{name}.txt"));
        if std::env::var_os("PECCARY_DRAW_VIEWS").is_some() {
            std::fs::write(&path, &view).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap();
        assert_eq!(view, expected, "{name}: look at it; if it is as it should be, run again with PECCARY_DRAW_VIEWS=1");
    }
}

#[test]
fn the_most_telling_is_there_whatever_the_size() {
    let (_folder, log) = log(true, false);
    for width in [1, 5, 20, 60, 89, 90, 200] {
        for height in [1, 2, 3, 5, 10, 24, 30, 80] {
            let view = drawn(&log, (width, height), false);
            if width >= 60 && height >= 30 {
                for word in ["loss", "ndcg@20", "best 0.09000 at 4", "left", "producers wait", "epoch 6.5/10", "65 %"] {
                    assert!(view.contains(word), "{width}x{height}: no {word}\n{view}");
                }
            }
        }
    }
    let view = drawn(&log, (110, 40), false);
    for word in ["4.00k triples/s", "12.5 % score above", "60 % uniform/hardest", "checkpoint after 6.50", "100MiB"] {
        assert!(view.contains(word), "no {word}\n{view}");
    }
}

#[test]
fn a_run_is_told_as_it_stands() {
    let (_folder, running) = log(false, false);
    let story = Story::of(&running);
    assert_eq!((story.epochs, story.triples, story.progress), (6.5, 52_000, 0.65));
    // Three and a half epochs of 8,000 triples at 4,000 a second.
    assert_eq!(story.left, Some(7.0));
    assert!(drawn(&running, (110, 32), false).contains("gradient norm"));
    assert!(drawn(&running, (110, 32), true).contains("killed"));
    assert!(summary(&running, true).contains("--resume clicks.model"));
    let (_folder, ended) = log(true, true);
    assert_eq!(Story::of(&ended).left, None);
    let text = summary(&ended, false);
    assert!(text.contains("6 of 10 epochs") && text.contains("want of improvement"), "{text}");
    assert!(text.contains("best: ndcg@20 0.09000 after epoch 4"), "{text}");
}
