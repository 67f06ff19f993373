//! The worker of a cluster: brings the tasks that managers assign to this machine to the state that is wanted of them.
//!
//! Start reading at [`dispatcher`], the port to the managers. Which role the machine has and how it joins or leaves is not
//! decided here but where worker and manager meet (`shoald/src/membership.rs`).

pub mod dispatcher;

pub use dispatcher::{DispatchError, Dispatcher, Reports, Session};
