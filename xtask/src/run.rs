//! `run`: a daemon on a temporary root, to try something out.
//!
//! Start reading at [`command`]. It listens in the root, uses its own bridge and leaves the machine's own daemon alone.

use anyhow::{Context as _, Result};

use crate::dist::target_directory;
use crate::{call, root};

/// Builds a debug binary and runs it until interrupted. What it had is removed afterwards by the next run.
pub(crate) fn command(arguments: &[String]) -> Result<()> {
    call("cargo", &["build", "--locked", "--package", "shoald"])?;
    let state = target_directory()?.join("run");
    std::fs::create_dir_all(&state).with_context(|| format!("create {}", state.display()))?;
    let path = |name: &str| state.join(name).display().to_string();
    let socket = format!("unix://{}", path("shoal.sock"));
    let (data, exec, pidfile) = (path("data"), path("exec"), path("shoal.pid"));
    eprintln!("export DOCKER_HOST={socket}");
    let binary = target_directory()?.join("debug/shoald").display().to_string();
    let mut all = vec![
        "--config-file",
        "/dev/null",
        "--host",
        &socket,
        "--data-root",
        &data,
        "--exec-root",
        &exec,
        "--pidfile",
        &pidfile,
        "--bridge",
        "shoaldev0",
        "--debug",
    ];
    all.extend(arguments.iter().map(String::as_str));
    // A bridge that is named must be there; it stays for the next run.
    if call("ip", &["link", "show", "shoaldev0"]).is_err() {
        call("ip", &["link", "add", "shoaldev0", "type", "bridge"])?;
    }
    let _ = root()?;
    call(&binary, &all)
}
