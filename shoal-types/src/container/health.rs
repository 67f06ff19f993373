//! Health checks: what is wished for and what was found.
//!
//! Start reading at [`HealthSpec`]. The machine that decides is `node-agent/src/containers/health.rs`.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How to find out whether a container works. Zero durations and retries mean the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthSpec {
    /// What to run; `None` takes the image's.
    pub test: Option<HealthTest>,
    /// Time between the end of a probe and the next; default 30 s.
    pub interval: Duration,
    /// Time after which a probe counts as failed; default 30 s.
    pub timeout: Duration,
    /// Failures in a row that make the container unhealthy; default 3.
    pub retries: u32,
    /// Time after the start in which failures do not count; default 0.
    pub start_period: Duration,
    /// Time between probes within the start period; default 5 s.
    pub start_interval: Duration,
}

/// What a probe runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "args")]
pub enum HealthTest {
    /// Nothing; an image's check is switched off (`NONE`).
    Disabled,
    /// A command with its arguments (`CMD`).
    Command(Vec<String>),
    /// A command line for the container's shell (`CMD-SHELL`).
    Shell(String),
}

/// What the checks have found so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Nothing yet.
    Starting,
    /// The last probe succeeded, or not enough have failed since.
    Healthy,
    /// Too many probes in a row have failed.
    Unhealthy,
}

/// The observed side of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// Probes that failed in a row.
    pub failing_streak: u32,
    /// The last probes, oldest first, at most five.
    pub log: Vec<ProbeResult>,
}

/// The outcome of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When the probe was started.
    pub start: Timestamp,
    /// When it ended or was given up.
    pub end: Timestamp,
    /// Exit code; -1 when the probe took too long.
    pub exit_code: i32,
    /// What it wrote, at most 4096 bytes.
    pub output: String,
}
