//! The vocabulary that the crates of Shoal share: identifiers, specs, observed states, error kinds.
//!
//! Start reading at [`container::spec::ContainerSpec`] for what a container is asked to be, and at
//! [`container::state::ContainerState`] for what it is; [`cluster`] is the same for services and nodes. No IO, no async, no behaviour beyond constructors, parsing,
//! display and ordering; a type lives here only because two crates need it. Docker's JSON names are not here but in
//! `api-compat/src/model`.

pub mod base64_bytes;
pub mod cluster;
pub mod container;
pub mod digest;
pub mod error_kind;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod ids;
pub mod image_ref;
pub mod network;
pub mod platform;
pub mod protocol;
pub mod volume;

pub use digest::{ChainId, DiffId, Digest, ImageId};
pub use error_kind::ErrorKind;
pub use ids::{
    ClusterId, ConfigId, ContainerId, EndpointId, ExecId, NetworkId, NodeId, SandboxId, SecretId, ServiceId,
    TaskId,
};
pub use image_ref::ImageRef;
pub use platform::Platform;
