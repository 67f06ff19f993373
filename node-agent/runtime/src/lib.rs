//! The embedded OCI runtime of Shoal: it makes containers out of a runtime spec, for the shim and for
//! `shoald runtime`.
//!
//! Start reading at [`create`] and [`Container`]; the order of events is described in `create.rs` (the caller's side)
//! and `init.rs` (the container's side). `cgroup` and `seccomp` are of use on their own and are public for the engine.
//!
//! What it deliberately does not do: no threads and no async (it clones, which is safe only in a process with one
//! thread: the caller guarantees that), no image handling, no networking, no logging, and no mount in the host's
//! mount namespace.

pub mod cgroup;
pub mod container;
pub mod error;
pub mod seccomp;

pub use container::{
    Container, ContainerRecord, CreateOptions, CreateRequest, Created, ExecProcess, ExecRequest, Gate,
    Keyring, OverlayRootfs, RootSwitch, RootfsSource, SeccompSource, Stdio, TerminalSize,
};
pub use error::{ExecutableError, ExecutableReason, Result, RuntimeError, Warning};
pub mod sealed;

/// Creates a container up to its gate.
pub fn create(request: CreateRequest<'_>) -> Result<Created> {
    let _ = request;
    Err(RuntimeError::Unsupported("not built yet".into()))
}
/// Adds a process to a running container and returns once it has been executed.
pub fn exec(request: &ExecRequest<'_>) -> Result<ExecProcess> {
    let _ = request;
    Err(RuntimeError::Unsupported("not built yet".into()))
}
/// Whom a signal is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillScope {
    /// The init process.
    Init,
    /// Every process of the container's cgroup.
    All,
}
impl Container {
    /// Opens the gate and returns once the program has been executed; runs the `startContainer` and `poststart` hooks.
    pub fn start(&mut self, spec: &oci_spec::runtime::Spec) -> Result<()> {
        let _ = spec;
        Err(RuntimeError::Unsupported("not built yet".into()))
    }
    /// Sends a signal; `Ok(false)` when the process has ended already.
    pub fn kill(&self, signal: i32, scope: KillScope) -> Result<bool> {
        let _ = (signal, scope);
        Err(RuntimeError::Unsupported("not built yet".into()))
    }
    /// Kills what is left, runs the `poststop` hooks, removes the cgroup; repeatable, collects errors and goes on.
    pub fn delete(self, spec: &oci_spec::runtime::Spec) -> Result<()> {
        let _ = spec;
        Err(RuntimeError::Unsupported("not built yet".into()))
    }
    /// Finds a container again; `None` when its init process has ended meanwhile (then [`clean_up`] is what is left to do).
    pub fn from_record(record: ContainerRecord) -> Result<Option<Self>> {
        let _ = record;
        Err(RuntimeError::Unsupported("not built yet".into()))
    }
    /// Tells whether the init process has not ended yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        false
    }
}
/// Does the work of [`Container::delete`] for a container whose handle is lost: cgroup and hooks by its record alone.
pub fn clean_up(record: &ContainerRecord, spec: Option<&oci_spec::runtime::Spec>) -> Result<()> {
    let _ = (record, spec);
    Err(RuntimeError::Unsupported("not built yet".into()))
}
pub mod cli {
    //! The OCI command line.
    /// Runs `create`, `start`, `state`, `kill`, `delete`, `exec`, ... with the arguments after the program's name.
    pub fn main(args: impl Iterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
        let _ = args;
        std::process::ExitCode::FAILURE
    }
}
