//! The daemon's own log: to standard error, for the service manager to keep.
//!
//! Start reading at [`start`]. The level can be changed while the daemon runs, which SIGHUP does.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use crate::config::{Config, LogFormat, LogLevel};

/// The way to change the level later.
#[derive(Debug, Clone)]
pub(crate) struct LevelHandle(reload::Handle<LevelFilter, Registry>);

impl LevelHandle {
    /// Logs from now on what `config` says.
    pub(crate) fn apply(&self, config: &Config) {
        // Fails only when the subscriber is gone, and then nobody logs anyway.
        let _ = self.0.reload(level(config));
    }
}

/// Starts logging. Called once; a second subscriber is not installed.
pub(crate) fn start(config: &Config) -> LevelHandle {
    let (filter, handle) = reload::Layer::new(level(config));
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

fn level(config: &Config) -> LevelFilter {
    match config.log_level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    }
}
