//! The daemon's life: make every part, find what the last daemon left, serve, and go without taking a container along.
//!
//! Start reading at [`run`]; `engine.rs` is where the parts are made and joined. Order: one process per pidfile, listeners
//! bound (clients wait in the kernel's queue), engine opened, containers found again, requests answered, readiness told.
//! At the end the same backwards. What happens meanwhile is told by signals (`signals.rs`).

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use api_compat::Api;
use http::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use node_agent::boot::Policies;
use node_agent::userns::subordinate::{self, AccountFiles};
use rustix::process::Rlimit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{CommandLine, Config, HostAddress};
use crate::engine::{Engine, StartError};
use crate::listen;
use crate::memory::Quiet;
use crate::pidfile::Pidfile;
use crate::signals::{Signal, Signals};
use crate::telemetry::{self, LevelHandle};
use crate::{config, directories, fail, limits, parts};

/// How long requests under way and the engine's tasks may take to end when the daemon goes. Requests that a client follows
/// do not end by themselves, and whatever else is cut off is what a crash would cut off: the next boot takes it up.
const FAREWELL: Duration = Duration::from_millis(700);
/// How many signals it takes to go at once, as dockerd has it.
const N_IMPATIENT_SIGNALS: u32 = 3;

/// Runs the daemon until it is told to end.
pub(crate) fn run(line: &CommandLine) -> ExitCode {
    let config = match config::load(line) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    let level = telemetry::start(&config);
    for (key, reason) in &config.ignored {
        tracing::warn!(option = key, reason, "option has no effect");
    }
    let descriptors = limits::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("shoald").build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("failed to start daemon: {error}")),
    };
    let outcome = runtime.block_on(live(line, config, &level, descriptors));
    // Blocking work that still runs (a layer being unpacked) is cut off here and taken up at the next boot.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Their texts are whole, as dockerd has them.
        Err(error @ (StartError::Pidfile(_) | StartError::Listen(_))) => fail(&error),
        Err(error) => fail(&format!("failed to start daemon: {}", chain(&error))),
    }
}

async fn live(
    line: &CommandLine,
    config: Config,
    level: &LevelHandle,
    descriptors: Rlimit,
) -> Result<(), StartError> {
    let mut signals = Signals::watch()?;
    let config = remap(config).await?;
    directories::prepare(&config)?;
    let _pidfile = Pidfile::create(&config.pidfile)?;
    let listeners = listen::bind(&config).await?;
    let metrics = match &config.metrics_address {
        Some(address) => Some(listen::bind_metrics(address).await?),
        None => None,
    };
    let engine = Engine::open(&config, &listeners, descriptors, Policies::Follow).await?;
    let background = TaskTracker::new();
    let stop = CancellationToken::new();
    engine.spawn_keepers(&background, &stop);
    let connections = TaskTracker::new();
    let quiet = Quiet::default();
    spawn_until(&background, &stop, quiet.clone().keep());
    for listener in listeners {
        tracing::info!(listener = listener.name(), "API listens");
        let service = Noticed { api: engine.api(), quiet: quiet.clone() };
        background.spawn(listener.serve(service, connections.clone(), stop.clone()));
    }
    if let Some(listener) = metrics {
        tracing::info!(listener = listener.name(), "metrics are served");
        background.spawn(listener.serve(engine.metrics(), connections.clone(), stop.clone()));
    }
    // Fails when nobody supervises us.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    tracing::info!("daemon has started");
    attend(&mut signals, line, config, level, &engine).await;

    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
    stop.cancel();
    background.close();
    connections.close();
    // First of all: other nodes shall not wait for one that goes.
    tokio::select! {
        () = engine.close_membership() => {}
        () = impatience(&mut signals) => tracing::warn!("forcing shutdown"),
    }
    let farewell = async {
        tokio::join!(engine.close(), connections.wait(), background.wait());
    };
    tokio::select! {
        ended = tokio::time::timeout(FAREWELL, farewell) => if ended.is_err() {
            tracing::debug!(connections = connections.len(), "leaving what has not ended");
        },
        () = impatience(&mut signals) => tracing::warn!("forcing shutdown"),
    }
    tracing::info!("daemon has ended; containers go on");
    Ok(())
}

/// Finds out whose ids containers have.
async fn remap(config: Config) -> Result<Config, StartError> {
    if config.userns_remap.is_empty() {
        return Ok(config);
    }
    let ids = subordinate::resolve(&config.userns_remap, &AccountFiles::default()).await?;
    Ok(config.remapped(ids))
}

/// The API, and who is told of each request and of the end of each connection, which has a clone of its own.
#[derive(Clone)]
struct Noticed {
    api: Api,
    quiet: Quiet,
}

impl Service<Request<Incoming>> for Noticed {
    type Response = <Api as Service<Request<Incoming>>>::Response;
    type Error = <Api as Service<Request<Incoming>>>::Error;
    type Future = <Api as Service<Request<Incoming>>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.quiet.disturb();
        self.api.call(request)
    }
}

impl Drop for Noticed {
    fn drop(&mut self) {
        // What a long answer took is free now, such as that of a pull.
        self.quiet.disturb();
    }
}

/// Runs a task that ends with the daemon.
fn spawn_until(
    background: &TaskTracker,
    stop: &CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let stop = stop.clone();
    background.spawn(async move {
        tokio::select! {
            () = task => {}
            () = stop.cancelled() => {}
        }
    });
}

/// Does what signals say until one of them says to end.
async fn attend(
    signals: &mut Signals,
    line: &CommandLine,
    mut config: Config,
    level: &LevelHandle,
    engine: &Engine,
) {
    loop {
        match signals.next().await {
            Signal::End => return,
            Signal::Reload => {
                let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Reloading]);
                config = reload(line, config, level, engine);
                let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
            }
            Signal::Report => engine.report(&config.exec_root),
        }
    }
}

/// Reads the configuration again and applies what may change while the daemon runs: all of it or, when something is
/// wrong, nothing.
fn reload(line: &CommandLine, current: Config, level: &LevelHandle, engine: &Engine) -> Config {
    let wanted = config::load(line).and_then(|wanted| current.reloaded(&wanted));
    let applied = wanted.map_err(|error| error.to_string()).and_then(|next| {
        engine.reconfigure(&next)?;
        level.apply(&next);
        Ok(next)
    });
    match applied {
        Ok(next) => {
            let settings = parts::reload::attributes(&next);
            tracing::info!(?settings, "configuration reloaded");
            next
        }
        Err(error) => {
            tracing::error!(%error, "configuration is not reloaded");
            current
        }
    }
}

async fn impatience(signals: &mut Signals) {
    // The first one has brought us here.
    let mut n_signals = 1;
    while n_signals < N_IMPATIENT_SIGNALS {
        if signals.next().await == Signal::End {
            n_signals += 1;
        }
    }
}

/// Removes every container, network and rule, and then the state itself. No daemon may run on it.
pub(crate) fn uninstall(line: &CommandLine) -> ExitCode {
    let config = match config::load(line) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    let _ = telemetry::start(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(async { remove_everything(&remap(config).await?).await }),
        Err(error) => return fail(&error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("failed to uninstall: {}", chain(&error))),
    }
}

async fn remove_everything(config: &Config) -> Result<(), StartError> {
    directories::prepare(config)?;
    let _pidfile = Pidfile::create(&config.pidfile)?;
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let engine = Engine::open(config, &[], descriptors, Policies::LeaveAlone).await?;
    engine.remove_everything().await?;
    engine.close().await;
    drop(engine);
    let files = parts::swarm::task_files(config);
    node_agent::worker::clear_files(&files).map_err(|source| removed(&files, source))?;
    for path in [config.exec_root.as_path(), config.data_root.as_path()] {
        directories::remove(path).map_err(|source| removed(path, source))?;
    }
    for host in &config.hosts {
        if let HostAddress::Unix(path) = host {
            listen::remove_stale(path).map_err(|source| removed(path, source))?;
        }
    }
    Ok(())
}

fn removed(path: &Path, source: std::io::Error) -> StartError {
    StartError::Directory { path: path.to_owned(), source }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
