//! Containers: the owner of their names and of one actor for each of them.
//!
//! Start reading at [`ports::Seams`], what the engine stands on.

#[cfg(any(test, feature = "testing"))]
pub mod fakes;
mod lifecycle;
pub mod ports;
mod restart;
mod signal;
