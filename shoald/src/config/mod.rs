//! The daemon's configuration: command line and configuration file become one typed [`Config`].
//!
//! Start reading at [`load`]. `options.rs` is the table of everything that can be set; `command_line.rs` and `file.rs`
//! read the two sources by it; `settings.rs` merges them and refuses what contradicts; `typed.rs` makes sense of the
//! values, with a file for each part of the daemon that has many. Nothing here acts on a setting. The texts of the refusals
//! are dockerd's, because unit files and test suites look at them.

mod command_line;
mod containers;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), expect(dead_code, reason = "each program of libFuzzer calls one of the bodies"))]
pub(crate) mod fuzz;
mod listeners;
mod networks;
mod options;
#[cfg(test)]
mod reference;
mod registries;
mod settings;
mod swarm;
mod typed;

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) use self::command_line::{CommandLine, Invocation};
pub(crate) use self::containers::EMBEDDED_RUNTIMES;
pub(crate) use self::listeners::{HostAddress, TlsMode, TlsSettings};
pub(crate) use self::settings::Settings;
pub(crate) use self::typed::{Config, LogFormat, LogLevel};

/// Where the configuration file is when nobody says otherwise.
pub(crate) const DEFAULT_CONFIG_FILE: &str = "/etc/shoal/daemon.json";

/// Group of the unix socket when nobody says otherwise; Docker's, so that users who may use Docker may use Shoal.
pub(crate) const DEFAULT_GROUP: &str = "docker";

/// Why the daemon cannot be configured. Each text is complete; there is no chain to follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The command line cannot be read.
    #[error("{0}\nSee 'shoald --help'.")]
    CommandLine(String),
    /// The configuration file cannot be read, or contradicts the command line.
    #[error("unable to configure the Docker daemon with file {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value makes no sense.
    #[error("{0}")]
    Value(String),
}

impl ConfigError {
    /// A value that makes no sense, with the whole text.
    fn value(text: impl Into<String>) -> Self {
        Self::Value(text.into())
    }
}

/// Reads the command line (without the program's name).
pub(crate) fn read_command_line(
    arguments: impl Iterator<Item = OsString>,
) -> Result<Invocation, ConfigError> {
    command_line::read(arguments)
}

/// Merges the command line with the configuration file it names and makes one configuration of them.
pub(crate) fn load(command_line: &CommandLine) -> Result<Config, ConfigError> {
    let path =
        command_line.text("config-file").map_or_else(|| PathBuf::from(DEFAULT_CONFIG_FILE), PathBuf::from);
    let is_required = command_line.text("config-file").is_some();
    let from_file = file::read(&path, is_required)?;
    let settings = Settings::merge(command_line, from_file, &path)?;
    Config::from_settings(&settings, path)
}

/// The text of `--help`.
pub(crate) fn usage() -> String {
    options::usage()
}
