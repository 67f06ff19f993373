//! The API in front of a fake node: every reply is checked against the description of its version.
#![cfg(test)]

mod checkpoints;
mod client;
mod cluster;
mod containers;
mod fake;
mod hijack;
mod hostile;
mod nouns;
mod objects;
mod operations;
mod swarm;
mod transport;
