//! From the daemon's configuration to what each part is made with.
//!
//! Start reading at the functions of the submodules, one for each part. No part is built here: that is `daemon.rs`.

pub(crate) mod containers;
pub(crate) mod networks;
pub(crate) mod registries;
pub(crate) mod reload;
pub(crate) mod swarm;
pub(crate) mod system;
