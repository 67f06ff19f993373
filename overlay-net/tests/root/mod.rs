//! Kernel tests in fresh namespaces.
//!
//! Start reading at [`world::World`]: each test has a network namespace that plays the node, one that plays a neighbour
//! on its LAN, and real containers' sandboxes made through the crate's public interface. Nothing touches the machine's
//! own namespaces.

mod bridge;
mod churn;
mod cluster;
mod cost;
mod dns;
mod encrypted;
mod ingress;
mod lifecycle;
mod overlay;
mod packets;
mod publish;
mod rules;
mod services;
mod speed;
mod world;
