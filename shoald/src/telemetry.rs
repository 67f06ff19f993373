//! The daemon's own log: to standard error, for the service manager to keep.
//!
//! Start reading at [`start`]. The level can be changed while the daemon runs, which SIGHUP does. Libraries are quieter than the
//! daemon itself: what they find worth telling is not what an operator can act on.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use crate::config::{Config, LogFormat, LogLevel};

/// The way to change the level later.
#[derive(Debug, Clone)]
pub(crate) struct LevelHandle(reload::Handle<Targets, Registry>);

impl LevelHandle {
    /// Logs from now on what `config` says.
    pub(crate) fn apply(&self, config: &Config) {
        // Fails only when the subscriber is gone, and then nobody logs anyway.
        let _ = self.0.reload(targets(config.log_level));
    }
}

/// Starts logging. Called once; a second subscriber is not installed.
pub(crate) fn start(config: &Config) -> LevelHandle {
    let (filter, handle) = reload::Layer::new(targets(config.log_level));
    let use_colours = !config.raw_logs && std::io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(use_colours)
        .with_target(false);
    let layer = match config.log_format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    LevelHandle(handle)
}

/// Libraries whose debugging output would bury everything else.
const CHATTY: [&str; 5] = ["h2", "hyper", "hyper_util", "rustls", "tokio_util"];
/// The consensus library reports every message that a member who is away has not taken as an error. What that means for the
/// cluster is logged by the manager.
const CONSENSUS: &str = "openraft";

fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let quieter = level.min(LevelFilter::INFO);
    Targets::new()
        .with_default(level)
        .with_targets(CHATTY.map(|library| (library, quieter)))
        .with_target(CONSENSUS, LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_daemon_says_what_was_asked_for_and_libraries_less() {
        let debug = targets(LogLevel::Debug);
        assert!(debug.would_enable("node_agent::worker", &Level::DEBUG));
        assert!(!debug.would_enable("h2::client", &Level::DEBUG));
        assert!(debug.would_enable("h2::client", &Level::WARN));
        assert!(!debug.would_enable("openraft::core", &Level::ERROR));
        assert!(!targets(LogLevel::Error).would_enable("h2::client", &Level::WARN));
    }
}
