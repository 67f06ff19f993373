//! Names: the files that a container's resolver reads, and the embedded server behind 127.0.0.11.
//!
//! Start reading at [`files`] (pure: what stands in resolv.conf and hosts) and at `answer.rs` (pure: what a query is
//! answered with). The server runs in netd, so that names are answered while the daemon is away.

pub mod files;

mod answer;
pub(crate) mod records;
mod redirect;
pub(crate) mod server;
mod upstream;
