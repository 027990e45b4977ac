//! What all subcommands share: the global flags, the context they make, output, errors and exit codes.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use peccary::{ByteSize, Context, Interrupted, Precision, versions};
use serde::Serialize;

use crate::printable::{cut, printable};
use crate::progress::Display;

/// Stack of a thread that checks files.
const CHECKING_STACK: usize = 512 << 10;

/// Exit code of a failure.
const FAILED: u8 = 1;

/// Exit code of a wrong command line, which is clap's too.
const USAGE: u8 = 2;

/// Exit code of an interruption: 128 + SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// Flags that every subcommand takes, before or after its name.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Print one JSON object on standard output and nothing else there, errors included
    #[arg(long, global = true)]
    pub json: bool,
    /// Worker threads [default: one a core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Memory to stay within, such as 2GiB [default: half of the machine's]
    #[arg(long, global = true, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Show neither progress nor messages
    #[arg(long, global = true)]
    pub quiet: bool,
}

/// The values of `--precision`.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Kept {
    /// Four bytes a factor
    F32,
    /// Two bytes a factor, updates rounded stochastically
    Bf16,
}

impl From<Kept> for Precision {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::F32 => Self::F32,
            Kept::Bf16 => Self::Bf16,
        }
    }
}

/// Set by the first signal.
static CANCEL: OnceLock<Arc<AtomicBool>> = OnceLock::new();

impl Globals {
    /// Makes Ctrl-C and SIGTERM ask the running operation to stop, and a second one stop the process at once; starts
    /// the threads that files are checked by.
    pub fn install(&self) -> anyhow::Result<()> {
        let flag = CANCEL.get_or_init(Arc::default).clone();
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(INTERRUPTED));
            }
        })
        .context("cannot listen for Ctrl-C")?;
        // Those that check files when they are opened: as many as asked for, with stacks that fit a small budget.
        rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads())
            .stack_size(CHECKING_STACK)
            .build_global()
            .context("cannot start worker threads; pass fewer by --threads")
    }

    fn threads(&self) -> usize {
        self.threads.map_or(Context::default().threads(), usize::from)
    }

    /// The context that these flags describe.
    pub fn context(&self) -> Context {
        self.context_with(self.threads())
    }

    /// The same, but for the number of threads.
    pub fn context_with(&self, threads: usize) -> Context {
        let default = Context::default();
        let memory = self.memory.unwrap_or(default.memory());
        let context = Context::new(threads, memory).with_cancel(CANCEL.get_or_init(Arc::default).clone());
        if self.quiet { context } else { context.with_progress(Arc::new(Display::new())) }
    }

    /// Prints the result of a command on standard output: `result` as the one JSON object if `--json` is given, `text`
    /// otherwise.
    pub fn print(&self, result: &impl Serialize, text: impl fmt::Display) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let mut write = || {
            if self.json {
                serde_json::to_writer(&mut out, result)?;
                writeln!(out)?;
            } else {
                writeln!(out, "{}", printable(&text.to_string()))?;
            }
            out.flush()
        };
        write().context("cannot write to standard output")
    }
}

/// A mistake in the command line that clap cannot see, such as two flags whose values do not go together.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Prints clap's complaint, or the help or version asked for.
pub fn refuse(error: &clap::Error) -> ExitCode {
    // A closed pipe is no reason to complain.
    let _ = error.print();
    if error.use_stderr() {
        // The flags did not parse, so the plain arguments must tell whether JSON was asked for.
        if std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == "--json") {
            // What is wrong, without how the command is used.
            let text = error.to_string();
            let what = text.split("\n\nUsage:").next().unwrap_or_default();
            let words: Vec<&str> = what.split_whitespace().collect();
            print_json_error(words.join(" ").trim_start_matches("error: "));
        }
        return ExitCode::from(USAGE);
    }
    ExitCode::SUCCESS
}

/// Prints an error with its causes and chooses the exit code.
pub fn fail(error: &anyhow::Error, json: bool) -> ExitCode {
    let io_kind = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    if error.chain().any(|cause| io_kind(cause) == Some(io::ErrorKind::BrokenPipe)) {
        // The reader of standard output has had enough, as `head` has.
        return ExitCode::SUCCESS;
    }
    let text = causes(error);
    if json {
        print_json_error(&text);
    }
    let code = exit_code(error);
    let lead = if code == INTERRUPTED { "" } else { "error: " };
    let _ = writeln!(io::stderr(), "{lead}{}", printable(&cut(&text)));
    ExitCode::from(code)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    // A transparent error variant shows its inner error's text and hides its type: ask every cause for both.
    let interrupted = Interrupted.to_string();
    if error.chain().any(|cause| cause.is::<Interrupted>() || cause.to_string() == interrupted) {
        INTERRUPTED
    } else if error.is::<Usage>() {
        USAGE
    } else {
        FAILED
    }
}

/// The error and its causes, one after the other, leaving out what a message before has said already.
fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let is_missing = cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound);
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if is_missing && text.contains("no such file") {
            // In the system's words once more.
        } else if !(text.contains(&cause) || cause == Interrupted.to_string() && text.starts_with("interrupted")) {
            text = text + ": " + &cause;
        }
    }
    text
}

fn print_json_error(text: &str) {
    let _ = writeln!(io::stdout(), "{}", serde_json::json!({ "error": text }));
}

/// Refuses `MODEL@N` where a command changes the model and not one of its versions.
pub fn whole_model(path: &Path) -> Result<(), Usage> {
    let is_free = |path: &Path| !path.exists() && !Path::new(&format!("{}.partial", path.display())).exists();
    match path.to_str().and_then(|name| name.rsplit_once('@')) {
        Some((model, number)) if is_free(path) && number.parse::<u32>().is_ok() && versions(model).is_ok() => {
            Err(Usage(format!(
                "{}: names version {number} of {model}, but this changes the model itself; leave @{number} out, after peccary \
                 rollback {model} --to {number} where that is to be the one to start from",
                path.display()
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_listed_once() {
        let error = anyhow::anyhow!("no space").context("cannot write a: no space").context("training stopped");
        assert_eq!(causes(&error), "training stopped: cannot write a: no space");
    }

    #[test]
    fn exit_codes_are_those_of_the_help() {
        assert_eq!(exit_code(&anyhow::anyhow!("x")), FAILED);
        assert_eq!(exit_code(&Usage("x".into()).into()), USAGE);
        assert_eq!(exit_code(&anyhow::Error::from(Interrupted).context("training")), INTERRUPTED);
        assert_eq!(exit_code(&peccary::SynthError::from(Interrupted).into()), INTERRUPTED);
    }
}
