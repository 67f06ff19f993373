//! From a container's spec to what an OCI runtime is given: the runtime spec, the bundle, the files in it.
//!
//! Start reading at `inputs.rs` (what is known when a container starts) and `spec/` (PURE: what `config.json` is made of).
//! `bundle.rs` puts it where the shim finds it, `launch.rs` tells the shim what the spec cannot say. The parts of the spec
//! that need a look at the machine are found out before: devices (`devices.rs`), the user (`user.rs`), the system call
//! filter (`filters.rs`). Running containers is node-runtime's and node-shim's business.

pub mod apparmor;
pub(crate) mod bundle;
pub(crate) mod capabilities;
pub(crate) mod cdi;
pub(crate) mod cgroup;
pub(crate) mod devices;
pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod filters;
pub(crate) mod inputs;
pub(crate) mod launch;
pub(crate) mod masks;
pub(crate) mod resources;
pub(crate) mod spec;
pub(crate) mod texts;
pub(crate) mod user;
