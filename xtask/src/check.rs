//! `check` and `fix`: what must hold before a commit.
//!
//! Start reading at [`check`].

use anyhow::Result;

use crate::{call, call_with, tidy};

/// Formatting, lints, layering and documentation. Writes nothing into the tree.
pub(crate) fn check(_: &[String]) -> Result<()> {
    call("cargo", &["fmt", "--all", "--check"])?;
    tidy::command(&[])?;
    call(
        "cargo",
        &["clippy", "--workspace", "--all-targets", "--all-features", "--locked", "--", "-D", "warnings"],
    )?;
    let document = ["doc", "--workspace", "--no-deps", "--document-private-items", "--locked", "--quiet"];
    call_with("cargo", &document, &[("RUSTDOCFLAGS", "-D warnings")])
}

/// Formats and applies what clippy can apply by itself.
pub(crate) fn fix(_: &[String]) -> Result<()> {
    call("cargo", &["fmt", "--all"])?;
    call(
        "cargo",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--fix",
            "--allow-dirty",
            "--allow-staged",
        ],
    )
}
