//! What differs between kinds of networks: how a network is validated, set up and torn down, how endpoints join.
//!
//! Start reading at [`bridge`]. Rules of the firewall and published ports are not a driver's business.

pub mod bridge;
