//! What makes and unmakes containers for the shim: the trait [`OciRuntime`] and what it hands over.
//!
//! Start reading at [`OciRuntime`]. Two implementations: `embedded.rs` calls the crate node-runtime and is done when
//! the call returns; `command_line.rs` starts runc, crun or any other program with the OCI command line, and is done
//! when that program has ended. Signals, stdio and logs are not the runtime's business here: the shim is the parent of
//! every process and holds the other ends of their streams.

pub(crate) mod command_line;
mod criu;
pub(crate) mod embedded;
pub(crate) mod mounts;

use std::os::fd::OwnedFd;
use std::path::Path;

use node_runtime::cgroup::Cgroup;
use rustix::process::Pid;

use self::command_line::{CommandLine, RunningCommand};
use self::embedded::Embedded;
use crate::bundle::Bundle;
use crate::protocol::{AfterCheckpoint, ConsoleSize, ExecRequest, Failure, RuntimeChoice};
use crate::stdio::ChildEnds;

/// The standard streams of a process to be made.
#[derive(Debug)]
pub(crate) enum ProcessStdio {
    /// These descriptors.
    Ends(ChildEnds),
    /// A terminal that the runtime makes, of this size if one is known.
    Terminal(Option<ConsoleSize>),
}

/// A process that the runtime has made. It is a child of the shim, which reaps it.
#[derive(Debug)]
pub(crate) struct NewProcess {
    /// Its pid as the shim sees it.
    pub(crate) pid: Pid,
    /// The master of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
}

/// How far an operation has come.
#[derive(Debug)]
pub(crate) enum Progress<T> {
    /// It is done.
    Done(T),
    /// A program is at work; [`RunningCommand::conclude`] tells the outcome after it has ended.
    Running(RunningCommand),
}

/// A runtime that looks after one container.
///
/// The order of calls is create, start, any number of execs, delete; delete is allowed at any time and repeatable, and
/// leaves nothing behind also after a create that failed or was never asked for.
pub(crate) trait OciRuntime: std::fmt::Debug {
    /// Makes the container, up to where its own program would start. One that goes on from a checkpoint runs at once; a start
    /// then changes nothing.
    fn create(&mut self, bundle: &Bundle, stdio: ProcessStdio) -> Result<Progress<NewProcess>, Failure>;

    /// Starts the container's program.
    fn start(&mut self) -> Result<Progress<()>, Failure>;

    /// Adds a process to the running container.
    fn exec(&mut self, exec: &ExecRequest, stdio: ProcessStdio) -> Result<Progress<NewProcess>, Failure>;

    /// Writes the state of the running container into an empty directory. Done when the command has ended.
    fn checkpoint(&mut self, directory: &Path, after: AfterCheckpoint) -> Result<RunningCommand, Failure>;

    /// The cgroup of the container whose init process is `init`.
    fn cgroup(&self, init: Pid) -> Result<Cgroup, Failure>;

    /// Forgets the container; what is left of it is killed.
    fn delete(&mut self) -> Result<Progress<()>, Failure>;
}

/// The runtime that a bundle asks for; `empty_mounts` serves one that knows what to do with it.
pub(crate) fn choose(bundle: &Bundle, empty_mounts: Option<OwnedFd>) -> Box<dyn OciRuntime> {
    let id = bundle.launch.container_id.to_string();
    match &bundle.launch.runtime {
        RuntimeChoice::Embedded { .. } => Box::new(Embedded::new(id, bundle.path.clone(), empty_mounts)),
        RuntimeChoice::CommandLine { program, arguments, root } => {
            Box::new(CommandLine::new(id, program.clone(), arguments.clone(), root.clone()))
        }
    }
}
