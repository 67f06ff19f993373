//! Implementations of the engine's seams that live in memory: for tests of the engine, and behind the in-memory node.
//!
//! Start reading at [`FakeNetworks`], [`FakeVolumes`], [`FakeImages`] and [`FakeMounter`], [`FaultyShims`]; [`Faults`] makes any of them
//! fail or stop for ever at a chosen call, which is how a crash of the daemon looks from here. They obey the rules of
//! `ports.rs` and remember what they gave out, so that a test can ask what has leaked. They touch neither the kernel
//! nor any file.

mod faults;
mod images;
mod networks;
mod shims;
mod volumes;

pub use faults::{Fault, Faults};
pub use images::{FakeImages, FakeMounter};
pub use networks::FakeNetworks;
pub use shims::FaultyShims;
pub use volumes::FakeVolumes;
