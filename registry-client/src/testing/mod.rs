//! A registry that misbehaves on request, for the suites of this crate, the engine and the command line.
//!
//! Start reading at [`FaultyRegistry`]. It is a complete small registry in memory (pull, push, mounts, tags, referrers,
//! search, token server) on a loopback port of its own, and every answer can be spoilt by a [`Fault`]. It runs on the
//! caller's tokio runtime and ends when it is dropped. Only built with the feature `testing`; never part of the product.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test server that cannot go on must fail the test"
)]

mod answer;
mod fault;
mod gate;
mod proxy;
mod raw;
mod relay;
mod routes;
mod server;
mod store;

pub use fault::{Fault, Rule};
pub use gate::{Gate, TokenPolicy};
pub use proxy::TunnelProxy;
pub use raw::RawServer;
pub use relay::{Direction, Relay};
pub use server::{FaultyRegistry, SeenRequest};
pub use store::TestImage;
