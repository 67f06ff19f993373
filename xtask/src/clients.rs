//! `test clients`: libraries that others wrote, taken from their registries, against a daemon of our own.
//!
//! Start reading at [`suites`]. The suites and the versions of the libraries are in `integration-cli/clients`; what comes from
//! registries is put below `target/clients` and kept for the next run. Without registries the part is skipped, loudly.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::dist::target_directory;
use crate::{call, root, setup};

/// Installs the libraries and runs every suite, in a network and a mount namespace that end with it.
pub(crate) fn suites() -> Result<()> {
    setup::for_clients()?;
    let state = target_directory()?.join("clients");
    std::fs::create_dir_all(&state).with_context(|| format!("create {}", state.display()))?;
    let clients = root()?.join("integration-cli/clients");
    if let Err(error) = install(&clients, &state) {
        eprintln!("SKIPPED: the clients' libraries cannot be installed: {error:#}");
        return Ok(());
    }
    let docker = setup::docker_client()?;
    let text = |path: &Path| path.display().to_string();
    let arguments = [
        "--net".to_owned(),
        "--mount".to_owned(),
        "--propagation".to_owned(),
        "private".to_owned(),
        text(&clients.join("run.sh")),
        text(&target_directory()?.join("debug/shoald")),
        text(&state),
        text(&docker),
        text(&state.join("python/bin/python")),
        text(&state.join("node/node_modules")),
    ];
    call("unshare", &arguments.each_ref().map(String::as_str))
}

/// Puts the libraries where the suites find them; quick when they are there already.
fn install(clients: &Path, state: &Path) -> Result<()> {
    let (python, node) = (state.join("python"), state.join("node"));
    if !python.join("bin/pip").exists() {
        call("python3", &["-m", "venv", &python.display().to_string()])?;
    }
    let pip = python.join("bin/pip").display().to_string();
    let requirements = clients.join("python/requirements.txt").display().to_string();
    call(&pip, &["install", "--quiet", "--disable-pip-version-check", "--requirement", &requirements])?;
    std::fs::create_dir_all(&node).with_context(|| format!("create {}", node.display()))?;
    std::fs::copy(clients.join("node/package.json"), node.join("package.json"))?;
    let prefix = node.display().to_string();
    call("npm", &["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", &prefix])
}
