//! The cluster's authority: who is a node, and in which role.
//!
//! Start reading at [`Credentials`], what every node has.

mod credentials;

pub use credentials::Credentials;
