//! Names: the files that a container's resolver reads, and the embedded server behind 127.0.0.11.
//!
//! Start reading at [`files`] (pure: what stands in resolv.conf and hosts).

pub mod files;
