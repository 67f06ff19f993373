//! What an OCI runtime takes for one container when no engine is around it: the floor under every engine that starts one.
//!
//! Start reading at [`Bundle::run`]. The bundle is what `runc spec` proposes: namespaces, masks and capabilities as Docker has
//! them, but no seccomp filter, no veth pair and a root file system that is a plain directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use super::samples::{Clock, Milliseconds};
use super::{accounting, program};
use crate::setup;

/// Ends a runtime that hangs; in seconds.
const PATIENCE: &str = "20";
/// Where a hybrid layout keeps its second version, which some releases of crun refuse.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// A program that speaks the OCI command line.
#[derive(Debug)]
pub(super) struct Runtime {
    /// The row that its times belong to.
    pub(super) floor: &'static str,
    program: PathBuf,
    /// What comes before the OCI arguments.
    arguments: &'static [&'static str],
}

/// The runtimes of this machine; `shoald` is one as well.
pub(super) fn available(shoald: Option<&Path>) -> Vec<Runtime> {
    let installed = |name, floor| setup::find(name).map(|program| Runtime { floor, program, arguments: &[] });
    let embedded = |program: &Path| Runtime {
        floor: "floor.runtime.shoal",
        program: program.to_owned(),
        arguments: &["runtime"],
    };
    let peers = [installed("runc", "floor.runtime.runc"), installed("crun", "floor.runtime.crun")];
    peers.into_iter().flatten().chain(shoald.map(embedded)).collect()
}

/// A bundle whose container runs `true`.
#[derive(Debug)]
pub(super) struct Bundle {
    directory: PathBuf,
}

impl Bundle {
    /// Writes the bundle of a container whose root is `root`.
    pub(super) fn prepare(directory: &Path, root: &Path) -> Result<Self> {
        let bundle = Self { directory: directory.join("bundle") };
        fs::create_dir_all(&bundle.directory)?;
        let file = bundle.directory.join("config.json");
        program::run("runc", &["spec", "--bundle", &bundle.directory.display().to_string()])?;
        let mut spec: Value = serde_json::from_slice(&fs::read(&file)?).context("read what runc proposes")?;
        spec["root"]["path"] = json!(root);
        spec["process"]["args"] = json!(["/bin/true"]);
        spec["process"]["terminal"] = json!(false);
        // Raising them needs a capability that some virtual machines do not give.
        spec["process"]["rlimits"] = json!([]);
        spec["linux"]["cgroupsPath"] = json!(format!("/{}/runtime", accounting::TOP));
        fs::write(file, spec.to_string())?;
        Ok(bundle)
    }

    /// Creates, starts, waits for and deletes one container by `runtime run`. Puts the calling thread into a mount namespace.
    pub(super) fn run(&self, runtime: &Runtime) -> Result<Milliseconds> {
        hide_unified()?;
        let mut command = program::command("timeout", [PATIENCE]);
        command.arg(&runtime.program).args(runtime.arguments);
        command.arg("--root").arg(self.directory.join("state")).arg("run");
        command.arg("--bundle").arg(&self.directory).arg("floor");
        timed(command, &self.directory.join("errors"))
    }

    /// The start and the end of the program alone: what each process that an engine starts from it costs at least.
    pub(super) fn spawn(&self, program: &Path) -> Result<Milliseconds> {
        timed(program::command(program, ["--version"]), &self.directory.join("errors"))
    }
}

/// The error output goes to a file: a pipe would stay open as long as anything that the runtime started.
fn timed(mut command: Command, errors: &Path) -> Result<Milliseconds> {
    let output = fs::File::create(errors)?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
    let mut clock = Clock::start();
    let status = command.status().context("start a runtime")?;
    let took = clock.lap();
    let said = || fs::read_to_string(errors).unwrap_or_default();
    ensure!(status.success(), "{:?}: {status}: {}", command, said().trim());
    Ok(took)
}

fn hide_unified() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)?;
    if Path::new(UNIFIED).is_dir() {
        umount2(UNIFIED, MntFlags::MNT_DETACH).context("hide the second version of control groups")?;
    }
    Ok(())
}
