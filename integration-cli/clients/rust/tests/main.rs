//! bollard and testcontainers for Rust against a daemon. Needs DOCKER_HOST and the image busybox; no reaper.

mod bollard;
mod containers;
mod databases;
