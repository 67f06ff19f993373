//! The harness of the black-box suites: it starts a daemon on a machine of its own and talks to it as any client does.
//!
//! Start reading at [`runner`] (what a suite is and how cases run), then [`session`] (what a case does with a
//! daemon: the stock `docker` command line and raw HTTP), then [`daemon`] and [`machine`] (how a daemon gets its own
//! namespaces, cgroup and roots, and how nothing of it stays behind).
//!
//! The same cases run against Shoal and against a reference dockerd; the environment chooses (see [`daemon::Implementation`]).
//! No product crate is imported here: whatever these suites know of Shoal, they learn through its sockets.
//!
//! Everything reports failure by panicking, as tests do; a panic fails the running case and nothing else.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test harness reports every failure by panicking; the runner turns the panic into a failed case"
)]

pub mod condition;
pub mod container;
pub mod daemon;
pub mod diff;
pub mod events;
pub mod guard;
pub mod http;
pub mod images;
pub mod lan;
pub mod leftovers;
pub mod linear;
pub mod log_audit;
pub mod machine;
pub mod net;
pub mod plan;
pub mod plugin;
pub mod process;
pub mod pty;
pub mod registry;
pub mod report;
pub mod resolver;
pub mod runner;
pub mod session;
pub mod stdcopy;
pub mod words;

pub use container::Container;
pub use daemon::{Daemon, DaemonOptions, Implementation};
pub use http::Reply;
pub use process::Outcome;
pub use runner::{Case, OwnDaemon, Suite, Test, skip};
pub use session::{ApiVersion, Session};
