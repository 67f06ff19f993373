//! The Docker Engine API, versions 1.24 to 1.56, as a translation at the edge of the node.
//!
//! Start reading at [`Api`] (in `service`), then at `route` and `router`, which make axum's router of a list of operations,
//! and at the handlers in `routes`: each extracts, converts, calls one port of `node_agent::api` and formats. This is the only crate that knows
//! Docker's paths and JSON names, and it keeps no state but caches of encoded replies.
//!
//! | module | holds |
//! |---|---|
//! | `service` | request to answer: version, router, common headers |
//! | `authorization` | plugins that have a say in each request |
//! | `route`, `router`, `names` | operations as data, their router, names with slashes |
//! | [`state`] | what handlers see |
//! | [`version`] | the path's prefix, range, comparing |
//! | [`error`] | the one mapping from kinds to statuses |
//! | `extract`, `filters`, `json` | taking requests apart |
//! | `reply`, `hijack`, `stream` | putting answers together |
//! | [`model`] | Docker's JSON |
//! | `convert` | between Docker's JSON and the engine's types |
//! | `compat` | older versions |
//! | `routes` | handlers by noun |
//! | `fuzz` | bodies of fuzz targets, in tests |

mod authorization;
mod compat;
mod convert;
#[cfg(feature = "schema")]
mod describe;
pub mod error;
mod extract;
mod filters;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod hijack;
mod json;
pub mod model;
mod names;
mod reply;
mod route;
mod router;
mod routes;
mod schema;
mod service;
pub mod state;
mod stream;
mod upload;
pub mod version;
mod websocket;

pub use authorization::{Authorization, PeerCertificate};
pub use convert::task_container::request_of;
pub use error::ApiError;
pub use reply::{Body, BodyError};
pub use service::Api;
pub use state::{ApiState, Component, DaemonInfo, PreferredBuilder};
pub use version::ApiVersion;
