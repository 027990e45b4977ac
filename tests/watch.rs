//! `peccary watch` on a terminal: it draws, keys leave it, it ends with the run, and the terminal is as it was before.
//!
//! The terminal is a pseudo-terminal that `script` (util-linux) makes. What is waited for is output, never time; the
//! deadline is there so that what does not come fails.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::trained::Trained;
use peccary::RunLog;

const DEADLINE: Duration = Duration::from_secs(300);
/// Switches to the terminal's second screen, and back.
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// Whether there is a `script` that runs commands.
fn is_there() -> bool {
    let tried = Command::new("script").args(["-qec", "stty -g", "/dev/null"]).stdin(Stdio::null()).output();
    let there = tried.is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: no script of util-linux to make a terminal with");
    }
    there
}

/// A training that goes on until it is stopped.
struct Run {
    child: Child,
    model: String,
}

impl Run {
    fn begin(trained: &Trained, name: &str) -> Self {
        let model = trained.path(name);
        let child = Command::new(env!("CARGO_BIN_EXE_peccary"))
            .args(["train", &trained.dataset, "--output", &model, "--epochs", "1000000", "--threads", "1", "--quiet"])
            .args(["--dim", "8"])
            .spawn()
            .unwrap();
        let run = Self { child, model };
        run.until_epochs(2);
        run
    }

    fn epochs(&self) -> usize {
        RunLog::open_running(&self.model).map_or(0, |log| log.epochs().len())
    }

    fn until_epochs(&self, many: usize) {
        let began = Instant::now();
        while self.epochs() < many {
            assert!(began.elapsed() < DEADLINE, "the training does not go on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(&mut self, signal: &str) {
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `peccary watch` on a terminal of 100 × 40, between two looks at its settings.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn watch(model: &str) -> Self {
        let binary = env!("CARGO_BIN_EXE_peccary");
        let watch = format!("sh -c 'echo pid: $$; exec \"$@\"' watch '{binary}' watch '{model}'");
        let look = "$(stty -g)";
        let command = format!("stty rows 40 cols 100; echo settings: {look}; {watch}; echo code $?; echo left: {look}");
        let mut child = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (keys, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
        let all = shown.clone();
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut some) {
                all.lock().unwrap().extend_from_slice(&some[..count]);
            }
        });
        Self { child, keys, shown }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn until(&self, wanted: &str) {
        let began = Instant::now();
        while !plain(&self.text()).contains(wanted) {
            assert!(began.elapsed() < DEADLINE, "no '{wanted}' in {:?}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The process of `peccary watch`.
    fn pid(&self) -> String {
        self.until("q leaves");
        let text = self.text();
        text.split("pid: ").nth(1).unwrap().lines().next().unwrap().trim().to_string()
    }

    fn press(&mut self, key: &str) {
        self.keys.write_all(key.as_bytes()).and_then(|()| self.keys.flush()).unwrap();
    }

    /// Waits for its end, and makes sure that it left the terminal as it was. Returns what it said then.
    fn ends(mut self) -> String {
        self.until("left: ");
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < DEADLINE, "script does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = self.text();
        let settings = |name: &str| {
            let rest = plain(&text).split(name).nth(1).map(|rest| rest.lines().next().unwrap().trim().to_string());
            rest.unwrap_or_else(|| panic!("no '{name}' in {text:?}"))
        };
        assert_eq!(settings("settings: "), settings("left: "), "the terminal's settings");
        assert_eq!(text.matches(ENTER).count(), 1, "{text:?}");
        assert_eq!(text.matches(LEAVE).count(), 1, "{text:?}");
        let (_, said) = text.split_once(LEAVE).unwrap();
        assert!(!text.rsplit_once(ENTER).unwrap().0.contains("epoch"), "nothing is drawn on the first screen");
        assert!(said.contains("\u{1b}[?25h") || !text.contains("\u{1b}[?25l"), "the cursor is back: {text:?}");
        plain(said)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Without what moves and colours.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.push(c);
        } else if chars.next() == Some('[') {
            // Up to the letter that ends it.
            chars.by_ref().find(|c| c.is_ascii_alphabetic());
        }
    }
    out
}

#[test]
fn keys_leave_a_run_that_goes_on() {
    if !is_there() {
        return;
    }
    let trained = Trained::new();
    let mut run = Run::begin(&trained, "long.model");
    for key in ["q", "\u{1b}", "\u{3}"] {
        let mut terminal = Terminal::watch(&run.model);
        terminal.until("q leaves; the run goes on");
        let drawn = plain(&terminal.text());
        assert!(drawn.contains("long.model") && drawn.contains("/1000000"), "{drawn}");
        // Other keys do nothing, or it would have left before this one.
        terminal.press("x");
        terminal.press(key);
        let said = terminal.ends();
        assert!(said.contains("code 0") && said.contains("epochs"), "{key:?}: {said}");
        let done = run.epochs();
        assert!(run.child.try_wait().unwrap().is_none(), "{key:?}: the run goes on");
        run.until_epochs(done + 1);
    }
}

#[test]
fn it_ends_with_the_run_and_says_how() {
    if !is_there() {
        return;
    }
    let trained = Trained::new();
    for (signal, words) in [("-INT", "interrupted"), ("-KILL", "killed")] {
        let mut run = Run::begin(&trained, &format!("run{signal}.model"));
        let terminal = Terminal::watch(&run.model);
        terminal.until("q leaves; the run goes on");
        run.stop(signal);
        let said = terminal.ends();
        assert!(said.contains("code 0") && said.contains(words), "{signal}: {said}");
    }
}

#[test]
fn a_run_that_had_ended_stays_to_be_looked_at() {
    if !is_there() {
        return;
    }
    let trained = Trained::new();
    let mut terminal = Terminal::watch(&trained.model);
    terminal.until("q leaves");
    // What is blank is not drawn.
    let drawn = plain(&terminal.text()).replace(' ', "");
    assert!(drawn.contains("epoch3.0/3") && drawn.contains("endedafter") && !drawn.contains("goeson"), "{drawn}");
    terminal.press("q");
    let said = terminal.ends();
    assert!(said.contains("code 0") && said.contains("3 of 3 epochs"), "{said}");
}

#[test]
fn a_signal_ends_it_and_so_does_the_end_of_the_terminal() {
    if !is_there() {
        return;
    }
    let trained = Trained::new();
    let run = Run::begin(&trained, "long.model");
    let terminal = Terminal::watch(&run.model);
    let signalled = Command::new("kill").arg(terminal.pid()).status().unwrap();
    assert!(signalled.success());
    let said = terminal.ends();
    assert!(said.contains("code 0"), "{said}");

    // A window that is closed.
    let mut terminal = Terminal::watch(&run.model);
    let pid = terminal.pid();
    terminal.child.kill().unwrap();
    terminal.child.wait().unwrap();
    let began = Instant::now();
    let is_running = || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.contains("peccary") && !state.contains(") Z ")
    };
    while is_running() {
        assert!(began.elapsed() < DEADLINE, "it goes on without a terminal");
        std::thread::sleep(Duration::from_millis(20));
    }
}
