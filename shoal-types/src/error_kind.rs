//! The kinds of failure that every crate of Shoal agrees on.
//!
//! Start reading at [`ErrorKind`]. Each crate has its own error enum and maps a variant to one of these by a
//! `kind()` method; `api-compat/src/error.rs` maps a kind to an HTTP status, and nothing else in the tree knows
//! a status code. This module holds no messages and no conversions.

use serde::{Deserialize, Serialize};

/// What sort of failure it was, without the transport that reports it.
///
/// Kinds are compared and persisted (a failed start keeps its kind on disk); message texts never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request itself is wrong; the same request can never succeed.
    InvalidArgument,
    /// The caller has not said who it is, or wrongly.
    Unauthorized,
    /// The caller is known and may not do this; or a rule of the engine forbids it.
    Forbidden,
    /// The thing that was named does not exist.
    NotFound,
    /// The request contradicts the present state; it may succeed after another operation.
    Conflict,
    /// The thing already is in the state that was asked for.
    NotModified,
    /// The part that would answer is not ready, or overloaded; the same request may succeed later.
    Unavailable,
    /// The engine does not do this, and says so instead of pretending.
    NotImplemented,
    /// Everything else: a failure of the engine or the kernel, not of the request.
    Internal,
}
