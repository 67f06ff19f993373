//! PURE. What a shim is told: all that the runtime spec does not say.
//!
//! Start reading at [`describe`].

use std::path::PathBuf;

use node_shim::protocol::{Launch, LogConfig, PROTOCOL_VERSION, RootfsSource, RuntimeChoice, StdinMode};
use shoal_types::container::spec::{ContainerSpec, ProcessSpec};
use shoal_types::{ContainerId, ImageId};

use crate::containers::config::{EngineConfig, RuntimeProgram};
use crate::containers::ports::Rootfs;
use crate::error::NodeError;
use crate::logs::settings::{self, Subject};

/// Directory below the exec root for the state of runtimes, one subdirectory for each runtime.
const RUNTIME_STATE_DIR: &str = "runtime";

/// What the shim's parameters depend on.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    /// The container.
    pub(crate) id: ContainerId,
    /// Its name.
    pub(crate) name: &'a str,
    /// Its image.
    pub(crate) image_id: Option<ImageId>,
    /// What it shall be.
    pub(crate) spec: &'a ContainerSpec,
    /// Its root file system.
    pub(crate) rootfs: Rootfs,
    /// Where its log goes.
    pub(crate) log_path: PathBuf,
    /// User and group on the host of root in it.
    pub(crate) stdio_owner: (u32, u32),
    /// The checkpoint that it goes on from.
    pub(crate) restore_from: Option<PathBuf>,
    /// The engine's settings.
    pub(crate) config: &'a EngineConfig,
}

/// Puts together what the shim is told.
pub(crate) fn describe(inputs: Inputs<'_>) -> Result<Launch, NodeError> {
    let Inputs { id, name, image_id, spec, rootfs, log_path, stdio_owner, restore_from, config } = inputs;
    Ok(Launch {
        version: PROTOCOL_VERSION,
        container_id: id,
        runtime: runtime(spec, config)?,
        rootfs: RootfsSource::Overlay {
            lowers: rootfs.lowers,
            upper: rootfs.upper,
            work: rootfs.work,
            options: rootfs.options,
        },
        stdin: stdin(&spec.process),
        log: describe_log(id, name, image_id, spec, log_path),
        oom_score_adj: None,
        stdio_owner: (stdio_owner != (0, 0)).then_some(stdio_owner),
        restore_from,
    })
}

/// Where and how a container's log is stored, for clients that read it: without what is added to entries.
pub(crate) fn log_config(id: ContainerId, spec: &ContainerSpec, path: PathBuf) -> LogConfig {
    if !settings::is_readable(&spec.logging.driver, &spec.logging.options) {
        return LogConfig::None;
    }
    stored_log(id, spec, path)
}

/// Where and how a container's log is stored, whoever may read it.
pub(crate) fn stored_log(id: ContainerId, spec: &ContainerSpec, path: PathBuf) -> LogConfig {
    describe_log(id, "", None, spec, path)
}

fn describe_log(
    id: ContainerId,
    name: &str,
    image_id: Option<ImageId>,
    spec: &ContainerSpec,
    path: PathBuf,
) -> LogConfig {
    let id_text = id.to_string();
    let image_id = image_id.map(|id| id.to_string()).unwrap_or_default();
    let subject = Subject {
        id: &id_text,
        name,
        image: &spec.image,
        image_id: &image_id,
        labels: &spec.labels,
        env: &spec.process.env,
    };
    settings::describe(&spec.logging.driver, &spec.logging.options, path, subject)
}

fn runtime(spec: &ContainerSpec, config: &EngineConfig) -> Result<RuntimeChoice, NodeError> {
    let name = spec.runtime.as_deref().unwrap_or(&config.default_runtime);
    let root = config.exec_root.join(RUNTIME_STATE_DIR).join(name.replace('/', "_"));
    match config.runtime(name) {
        Some(RuntimeProgram::Embedded) => Ok(RuntimeChoice::Embedded { root }),
        Some(RuntimeProgram::CommandLine { path, arguments }) => {
            Ok(RuntimeChoice::CommandLine { program: path, arguments, root })
        }
        None => Err(NodeError::invalid(format!("unknown or invalid runtime name: {name}"))),
    }
}

fn stdin(process: &ProcessSpec) -> StdinMode {
    match (process.open_stdin, process.stdin_once) {
        (false, _) => StdinMode::Closed,
        (true, false) => StdinMode::Open,
        // With a terminal the end of a client's input ends its attachment only, as in Docker.
        (true, true) if process.tty => StdinMode::Open,
        (true, true) => StdinMode::Once,
    }
}
