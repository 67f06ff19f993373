//! How a shim runs its container: what the daemon writes into the bundle beside the OCI spec.
//!
//! Start reading at [`Launch`]. Types only. A shim reads them once, when it starts; a later version may add fields that
//! have a default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shoal_types::ContainerId;

/// How a shim runs its container: all that the OCI spec does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// [`crate::protocol::PROTOCOL_VERSION`] of the daemon that wrote this.
    pub version: u32,
    /// The container; also the id that an external runtime knows it by.
    pub container_id: ContainerId,
    /// What makes a container of the bundle.
    pub runtime: RuntimeChoice,
    /// What the container's root file system is made of.
    pub rootfs: RootfsSource,
    /// What becomes of the container's standard input.
    pub stdin: StdinMode,
    /// Where output is stored.
    pub log: LogConfig,
    /// The wish for the shim's own `oom_score_adj`; a kernel that refuses it is no failure. Processes inherit it, so that
    /// the container's `config.json` should name a score of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// User and group on the host of root in the container, who has to be able to open its streams anew; the caller's
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdio_owner: Option<(u32, u32)>,
    /// The directory of a checkpoint that the container goes on from; it starts anew when left out. For runtimes with a
    /// command line only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<PathBuf>,
}

/// The runtime that a shim drives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeChoice {
    /// The crate `node-runtime`, inside the shim.
    Embedded {
        /// Directory for the state of embedded containers, one subdirectory each.
        root: PathBuf,
    },
    /// A program with the OCI command line: runc, crun and others.
    CommandLine {
        /// The program, absolute or looked up in `PATH`.
        program: PathBuf,
        /// Global arguments before the verb, as configured by the operator.
        #[serde(default)]
        arguments: Vec<String>,
        /// The value of `--root`.
        root: PathBuf,
    },
}

/// What a root file system is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootfsSource {
    /// An overlay, mounted where only this container (or, for an external runtime, its shim) sees it.
    Overlay {
        /// Read-only layers, topmost first; at least one.
        lowers: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// The scratch directory that overlayfs wants beside `upper`.
        work: PathBuf,
        /// Further mount options, `key` or `key=value`.
        #[serde(default)]
        options: Vec<String>,
    },
    /// A directory as it is.
    Directory {
        /// Absolute.
        path: PathBuf,
    },
}

/// What becomes of the container's standard input. Without a terminal, clients' input is ignored when `Closed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdinMode {
    /// The null device.
    Closed,
    /// Open as long as the container lives (Docker's `OpenStdin`).
    Open,
    /// Open until the first client that had attached to it ends its input or goes (Docker's `StdinOnce`, where there is
    /// no terminal).
    Once,
}

/// Where the container's output is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "kebab-case")]
pub enum LogConfig {
    /// Nowhere; attached clients still get it.
    None,
    /// Docker's `json-file`.
    JsonFile(LogFileConfig),
    /// The engine's own compact frames.
    Local(LogFileConfig),
}

impl LogConfig {
    /// The current file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::JsonFile(file) | Self::Local(file) => Some(&file.path),
        }
    }
}

/// A log in a file, rotated by size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFileConfig {
    /// The current file; rotated ones are `PATH.1` (newest) and up, with `.gz` appended when compressed.
    pub path: PathBuf,
    /// Bytes after which the file is rotated; `None` never rotates.
    #[serde(default)]
    pub max_size: Option<u64>,
    /// How many files there may be, the current one included; at least 1.
    pub max_files: u32,
    /// Whether rotated files are compressed.
    #[serde(default)]
    pub compress: bool,
    /// Attributes repeated in every entry (from the options `labels`, `env`, `tag`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attrs: BTreeMap<String, String>,
}
