//! Containers: the owner of their names and of one actor for each of them.
//!
//! Start reading at [`ports::Seams`], what the engine stands on.

pub mod config;
mod defaults;
#[cfg(any(test, feature = "testing"))]
pub mod fakes;
pub mod host;
mod index;
mod lifecycle;
mod merge;
mod mounts;
mod names;
mod paths;
pub mod ports;
mod restart;
mod signal;
mod validate;
