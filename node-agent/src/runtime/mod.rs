//! From a container's spec to what an OCI runtime is given: the runtime spec, the bundle, the files in it.
//!
//! Start reading at `spec/`, which makes `config.json`; `bundle.rs` puts it where the shim finds it.

pub(crate) mod capabilities;
