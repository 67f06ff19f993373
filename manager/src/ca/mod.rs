//! The cluster's authority: who is a node, and in which role.
//!
//! Start reading at [`Credentials`], what every node has on disk and in memory. [`authority`] issues, [`founding`] begins, [`tokens`] let machines in,
//! [`certificate`] reads. How a certificate is asked for over the network is in [`registrar`]. The authority is exchanged in two steps:
//! [`succession`] decides what a change of settings asks for, [`exchange`] brings it to its end on the leader. [`external`] asks
//! an authority outside the cluster.

pub(crate) mod authority;
pub(crate) mod certificate;
mod credentials;
pub(crate) mod exchange;
pub(crate) mod external;
pub(crate) mod founding;
pub(crate) mod private_key;
pub(crate) mod registrar;
pub(crate) mod succession;
pub(crate) mod tokens;

pub use credentials::Credentials;
pub(crate) use credentials::{Issued, Lock};
pub use tokens::TokenSecret;
