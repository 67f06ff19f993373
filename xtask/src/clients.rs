//! `test clients` and `test schema`: programs that others wrote, taken from their registries, against a daemon of our own.
//!
//! Start reading at [`suites`] and [`schema`]. The suites and the versions of what is taken are in `integration-cli/clients`; it is
//! put below `target/clients` and kept for the next run. Without registries the parts are skipped, loudly.

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
    let tar = state.join("databases.tar").display().to_string();
    if let Err(error) = call(&clients.join("databases/make.sh").display().to_string(), &[&tar]) {
        eprintln!("SKIPPED: images of databases cannot be made: {error:#}");
    }
    let docker = setup::docker_client()?;
    let text = |path: &Path| path.display().to_string();
    in_namespaces(&[
        text(&clients.join("run.sh")),
        text(&target_directory()?.join("debug/shoald")),
        text(&state),
        text(&docker),
        text(&state.join("python/bin/python")),
        text(&state.join("node/node_modules")),
    ])
}

/// Lets schemathesis make requests from our description of the API, and hold the answers against it.
pub(crate) fn schema() -> Result<()> {
    setup::for_schema()?;
    let state = target_directory()?.join("clients/schemathesis");
    std::fs::create_dir_all(&state).with_context(|| format!("create {}", state.display()))?;
    let ours = root()?.join("integration-cli/clients/schemathesis");
    let python = state.join("python");
    if let Err(error) = install_python(&python, &ours.join("requirements.txt")) {
        eprintln!("SKIPPED: schemathesis cannot be installed: {error:#}");
        return Ok(());
    }
    let text = |path: &Path| path.display().to_string();
    in_namespaces(&[
        text(&ours.join("run.sh")),
        text(&target_directory()?.join("debug/shoald")),
        text(&state.join("run")),
        text(&python.join("bin/schemathesis")),
        text(&root()?.join("swagger/v1.56.json")),
        std::env::var("SHOAL_SCHEMA_REQUESTS").unwrap_or_else(|_| "10".to_owned()),
    ])
}

/// Runs a program with arguments in a network and a mount namespace that end with it.
fn in_namespaces(words: &[String]) -> Result<()> {
    let mut arguments = vec!["--net", "--mount", "--propagation", "private"];
    arguments.extend(words.iter().map(String::as_str));
    call("unshare", &arguments)
}

/// Puts the libraries where the suites find them; quick when they are there already.
fn install(clients: &Path, state: &Path) -> Result<()> {
    let node = state.join("node");
    install_python(&state.join("python"), &clients.join("python/requirements.txt"))?;
    std::fs::create_dir_all(&node).with_context(|| format!("create {}", node.display()))?;
    std::fs::copy(clients.join("node/package.json"), node.join("package.json"))?;
    let prefix = node.display().to_string();
    call(
        "npm",
        &["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", &prefix],
    )?;
    let manifest = clients.join("rust/Cargo.toml").display().to_string();
    let built = state.join("rust").display().to_string();
    let build = ["test", "--no-run", "--quiet", "--locked", "--manifest-path", &manifest];
    call("cargo", &[build.as_slice(), &["--target-dir", &built]].concat())
}

/// Puts what a file of requirements names into a directory with a Python of its own.
fn install_python(python: &Path, requirements: &Path) -> Result<()> {
    if !python.join("bin/pip").exists() {
        call("python3", &["-m", "venv", &python.display().to_string()])?;
    }
    let pip = python.join("bin/pip").display().to_string();
    let requirements = requirements.display().to_string();
    call(&pip, &["install", "--quiet", "--disable-pip-version-check", "--requirement", &requirements])
}
