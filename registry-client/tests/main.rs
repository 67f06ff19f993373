//! The registry client against a registry that misbehaves, and against Debian's docker-registry.
//!
//! Start reading at `support.rs` for the sinks and configurations that all tests use. No test needs a network beyond
//! loopback.

#![cfg(test)]

mod auth;
mod certificates;
mod docker_registry;
mod download;
mod hostile;
mod hosts;
mod listing;
mod login;
mod resolve;
mod support;
mod tls;
mod upload;
