//! Image builds over the node's ports.
//!
//! Start reading at [`Builder`], what the front end may ask, then at [`BuildRequest`], what a build is asked to be, and at
//! [`check()`], which makes it of what a client sent. [`Unsupported`] is the only implementation so far: it refuses every
//! build and says why. Nothing here knows HTTP or Docker's names of parameters; those are api-compat's.

mod api;
mod check;
mod context;
mod error;
mod request;
mod unsupported;

pub use api::{BuildProgress, BuildStream, Builder};
pub use check::{BuildParameters, Experimental, check};
pub use context::{ContextPath, ContextSource};
pub use error::BuildError;
pub use request::{
    BaseImages, BuildRequest, Cache, Frontend, LayerForm, Output, StepContainers, StepLimits, Verbosity,
};
pub use unsupported::Unsupported;
