//! Older versions: what a request of theirs means today, and what they expect to see.
//!
//! Start reading at the noun in question. Every function is pure, takes the version, and changes a model of the newest
//! shape in place; each rule names the version that changed. Inside, beyond these functions, only the newest shape exists.

pub(crate) mod cluster;
pub(crate) mod container_create;
pub(crate) mod containers;
pub(crate) mod images;
pub(crate) mod networks;
pub(crate) mod service;
pub(crate) mod system;
