//! Settings of the container engine.
//!
//! Start reading at [`engine_config`].

use std::path::PathBuf;

use node_agent::containers::config::{
    EngineConfig, InitDefault, IpcDefault, NoNewPrivilegesDefault, RuntimeProgram,
};
use shoal_types::container::security::IpcMode;

use crate::config::Config;

/// Name of the init program of containers, below the runtime directory.
pub(crate) const INIT_PROGRAM: &str = "docker-init";

/// The init program of containers: bind mounts need a file, and our own may be replaced by an upgrade.
pub(crate) fn init_program(config: &Config) -> PathBuf {
    config.containers.init_path.clone().unwrap_or_else(|| config.exec_root.join(INIT_PROGRAM))
}

/// What the configuration says to the container engine.
pub(crate) fn engine_config(config: &Config) -> EngineConfig {
    let defaults = EngineConfig::new(&config.data_root, &config.exec_root);
    let wanted = &config.containers;
    let runtimes = wanted.runtimes.iter().map(|(name, program)| {
        let program = RuntimeProgram::CommandLine {
            path: PathBuf::from(&program.path),
            arguments: program.arguments.clone(),
        };
        (name.clone(), program)
    });
    EngineConfig {
        runtimes: runtimes.collect(),
        default_runtime: if wanted.runtime.is_empty() {
            defaults.default_runtime.clone()
        } else {
            wanted.runtime.clone()
        },
        init: if wanted.init { InitDefault::With } else { InitDefault::Without },
        init_path: init_program(config),
        shm_size: wanted.shm_size,
        ipc: if wanted.ipc == IpcMode::Shareable { IpcDefault::Shareable } else { IpcDefault::Private },
        cgroup_namespace: wanted.cgroup_namespace,
        cgroup_parent: wanted.cgroup_parent.clone(),
        no_new_privileges: if wanted.no_new_privileges {
            NoNewPrivilegesDefault::On
        } else {
            NoNewPrivilegesDefault::Off
        },
        seccomp: wanted.seccomp.clone(),
        ulimits: wanted.ulimits.clone(),
        cdi_directories: wanted.cdi_directories.clone(),
        log_driver: wanted.log_driver.clone(),
        log_options: wanted.log_options.clone(),
        stop_timeout: wanted.stop_timeout,
        ids: config.ids.clone(),
        ..defaults
    }
}
