//! User namespaces of containers: whose ids root inside and everybody else has on the host (`--userns-remap`).
//!
//! Start reading at [`IdMapping`]. Files of images and containers carry the host's ids on disk: layers are translated when
//! they are unpacked (`layers/apply`) and when they are packed (`layers/diff.rs`, `files/`), and nowhere else
//! (docs/decisions/2026-11-21-userns-remap.md). `subordinate.rs` reads what the operator has granted; `namespaces.rs` makes
//! the namespaces of one container. Without remapping there is the identity, which costs nothing.

mod mapping;
pub mod namespaces;
pub mod subordinate;

pub use mapping::{IdMapping, IdRange, Unmapped};
