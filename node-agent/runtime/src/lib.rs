//! The embedded OCI runtime of Shoal: it makes containers out of a runtime spec, for the shim and for
//! `shoald runtime`.
//!
//! Start reading at [`create()`] and [`Container`]; the order of events is described in `create.rs` (the caller's side)
//! and `init.rs` (the container's side). [`cgroup`] and [`seccomp`] are of use on their own and are public for the engine.
//!
//! So are [`open_overlay`], [`trees`], [`RootDirectory`], [`in_private_mount_namespace`], [`as_filesystem_user`] and
//! [`empty_mounts::open`], which alone may be called in a process with threads.
//!
//! What it deliberately does not do: no threads that stay and no async (it clones, which is safe only in a process with
//! one thread: the caller guarantees that), no image handling, no networking, no logging, and no mount in the host's
//! mount namespace.

mod attach;
mod capabilities;
pub mod cgroup;
mod cgroup_mounts;
mod channel;
pub mod cli;
pub mod container;
mod copy_up;
mod create;
mod devices;
pub mod empty_mounts;
pub mod error;
mod exec;
mod executable;
mod filesystem_user;
mod holder;
mod hooks;
mod idmap;
mod init;
mod launch;
mod lifecycle;
mod limits;
mod listener;
mod masks;
mod mount_options;
mod mounts;
mod namespaces;
mod paths;
mod plan;
mod private_mounts;
mod process;
mod rootfs;
pub mod sealed;
pub mod seccomp;
mod stdio;
mod sys;
mod sysctl;
pub mod trees;
mod tty;

pub use container::{
    Container, ContainerRecord, CreateOptions, CreateRequest, Created, ExecProcess, ExecRequest, Gate,
    Keyring, OverlayRootfs, RootSwitch, RootfsSource, SeccompSource, Stdio, TerminalSize,
};
pub use create::create;
pub use error::{ExecutableError, ExecutableReason, Result, RuntimeError, Warning};
pub use exec::exec;
pub use executable::{NOT_FOUND_IN_PATH, errno_text};
pub use filesystem_user::as_filesystem_user;
pub use holder::hold_namespaces;
pub use lifecycle::{KillScope, clean_up, reap, start_through};
pub use listener::{listen_at, send_descriptor};
pub use paths::RootDirectory;
pub use private_mounts::in_private_mount_namespace;
pub use rootfs::open_overlay;
