//! Root tests: real containers from a busybox root, made by this runtime and, for comparison, by runc and crun.
//!
//! Start reading at `support.rs`. Every test works in its own temporary directory and under its own cgroup, and checks at
//! its end that neither cgroups nor mounts are left. Without root, or without busybox, all of them are skipped, loudly.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "tests start the runtimes as an engine would")]

mod cgroups;
mod hardening;
mod lifecycle;
mod parity;
mod sight;
mod support;
mod trees;
