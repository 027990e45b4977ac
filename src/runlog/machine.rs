//! What a run log says of the machine, and of the process's memory.

use serde::{Deserialize, Serialize};

use crate::model::InstructionSet;

/// The machine that a run trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunMachine {
    /// Operating system, such as `linux`.
    pub os: String,
    /// Architecture, such as `x86_64`.
    pub arch: String,
    /// The processor's name, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Cores that the process may use.
    pub cores: usize,
    /// Memory in bytes, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Kernels used.
    pub instruction_set: String,
}

impl RunMachine {
    /// This one.
    pub(crate) fn this() -> Self {
        Self {
            os: std::env::consts::OS.to_string(),
            arch: std::env::consts::ARCH.to_string(),
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            memory: kibibytes("/proc/meminfo", "MemTotal"),
            instruction_set: InstructionSet::detect().name().to_string(),
        }
    }
}

/// Bytes of the process in memory, pages of mapped files included; `None` where the system does not tell.
pub(crate) fn resident_bytes() -> Option<u64> {
    kibibytes("/proc/self/status", "VmRSS")
}

/// What follows `key` and a colon in a file of the system's.
fn field(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let of = |line: &str| Some(line.strip_prefix(key)?.trim_start().strip_prefix(':')?.trim().to_string());
    text.lines().find_map(of)
}

fn kibibytes(file: &str, key: &str) -> Option<u64> {
    Some(field(file, key)?.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
