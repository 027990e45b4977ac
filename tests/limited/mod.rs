//! Runs the binary under a hard limit of memory, and watches how much of it is resident.
//!
//! Where there is a folder of the memory controller (version 1 or 2) in which groups may be made, each run gets a group of
//! its own there, and is killed when it needs more: page cache counts, too. That is the folder that `PECCARY_CGROUP`
//! names, or else the controller's root, if this process is in it. A process that somebody has put into a group stays
//! there, for that group is the somebody's to divide.
//!
//! Otherwise the limit is RLIMIT_DATA: every private, writable page that the process maps counts, touched or not, thread
//! stacks (2 MiB each) included, and the system refuses to map more. It needs no privilege. Which of them it is is
//! printed, and part of [`Run::describe`].

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The binary, about to run under a limit.
pub struct Limited {
    command: Command,
    /// None: RLIMIT_DATA.
    group: Option<Group>,
}

/// How a run under a limit ended, and the most memory that was seen resident, in bytes.
pub struct Run {
    pub output: Output,
    /// Anonymous pages: what cannot be had again from a file. Sampled every millisecond.
    pub peak_anonymous: u64,
    /// All pages, those of mapped files included, as the system counts the peak.
    pub peak_resident: u64,
    /// Bytes read from the disk; what was read in the last millisecond may be missing.
    pub read: u64,
    /// What kept it within its limit.
    pub limit: String,
}

/// The binary with these arguments, under a hard limit of `bytes`.
pub fn limited(bytes: u64, arguments: &[impl AsRef<OsStr>]) -> Limited {
    let group = match std::env::var_os("PECCARY_CGROUP") {
        Some(parent) => Some(Group::new(Path::new(&parent), bytes).expect("PECCARY_CGROUP names a folder for groups")),
        None => root_groups().and_then(|parent| Group::new(&parent, bytes).ok()),
    };
    let mut command = Command::new("sh");
    match &group {
        None => command
            .args(["-c", "ulimit -d \"$1\" && shift && exec \"$@\"", "limited"])
            .arg(bytes.div_ceil(1024).to_string()),
        Some(group) => command
            .args(["-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "limited"])
            .arg(group.folder.join("cgroup.procs")),
    };
    command.arg(env!("CARGO_BIN_EXE_peccary")).args(arguments);
    Limited { command, group }
}

impl Limited {
    /// Runs it to its end.
    pub fn run(mut self) -> Run {
        let limit = match &self.group {
            Some(group) => format!("control group {}", group.folder.display()),
            None => "RLIMIT_DATA, as no control group may be made".to_string(),
        };
        println!("limited by {limit}");
        let command = self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("sh starts");
        let (status, io) = (format!("/proc/{}/status", child.id()), format!("/proc/{}/io", child.id()));
        let waiting = std::thread::spawn(move || child.wait_with_output().expect("the process can be waited for"));
        let (mut peak_anonymous, mut peak_resident, mut read) = (0, 0, 0);
        while !waiting.is_finished() {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            peak_anonymous = field(&text, "RssAnon:").max(peak_anonymous);
            peak_resident = field(&text, "VmHWM:").max(peak_resident);
            let text = std::fs::read_to_string(&io).unwrap_or_default();
            read = number(&text, "read_bytes:").max(read);
            std::thread::sleep(Duration::from_millis(1));
        }
        let output = waiting.join().expect("waiting does not panic");
        drop(self.group);
        Run { output, peak_anonymous, peak_resident, read, limit }
    }
}

impl Run {
    /// Standard error, and what else is needed to understand a failure.
    pub fn describe(&self) -> String {
        format!(
            "{} under {}, peak {} KiB anonymous and {} KiB resident, {} KiB read: {}",
            self.output.status,
            self.limit,
            self.peak_anonymous >> 10,
            self.peak_resident >> 10,
            self.read >> 10,
            String::from_utf8_lossy(&self.output.stderr)
        )
    }
}

/// A field of `/proc/PID/status` in bytes; 0 where it is missing, as when the process has just ended.
fn field(status: &str, name: &str) -> u64 {
    number(status, name) << 10
}

/// The number behind a name.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The root of the memory controller, if this process is in no group below it.
fn root_groups() -> Option<PathBuf> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let root = if in_root_group(&groups)? { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
    Path::new(root).is_dir().then(|| root.into())
}

/// From the text of `/proc/self/cgroup`: whether the memory controller is of version 1; `None` if the process is in a
/// group below its root.
fn in_root_group(groups: &str) -> Option<bool> {
    let version_1 = groups.lines().find_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == "memory").then_some(group)
    });
    let group = version_1.or_else(|| groups.lines().find_map(|line| line.strip_prefix("0::")));
    (group? == "/").then_some(version_1.is_some())
}

/// A memory control group, removed when dropped.
struct Group {
    folder: PathBuf,
}

impl Group {
    fn new(parent: &Path, bytes: u64) -> std::io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("peccary-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder)?;
        let group = Self { folder };
        let version_1 = group.folder.join("memory.limit_in_bytes");
        let limit = if version_1.exists() { version_1 } else { group.folder.join("memory.max") };
        // Without the memory controller there is no such file, and none can be made.
        std::fs::write(limit, bytes.to_string())?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The system refuses while a process is in it; ours has ended.
        let _ = std::fs::remove_dir(&self.folder);
    }
}

#[test]
fn a_group_is_only_made_where_nobody_has_put_this_process_into_one() {
    assert_eq!(in_root_group("9:name=systemd:/x\n4:cpu,memory:/\n0::/x\n"), Some(true));
    assert_eq!(in_root_group("4:memory:/jobs/7\n0::/\n"), None);
    assert_eq!(in_root_group("0::/\n"), Some(false));
    assert_eq!(in_root_group("0::/user.slice/user-0.slice\n"), None);
    assert_eq!(in_root_group(""), None);
}
