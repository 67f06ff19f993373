//! `dist`: the binary as it is shipped.
//!
//! Start reading at [`command`]. Static, so that it runs on any Linux of its architecture; and not position independent, so that
//! the hundreds of shims that share its pages need no relocated copies of their own (docs/decisions/2026-11-21-shim.md).

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{read, root};

/// Builds and prints the path of the binary.
pub(crate) fn command(_: &[String]) -> Result<()> {
    println!("{}", build()?.display());
    Ok(())
}

/// Builds the binary, puts it where cargo puts release binaries, and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    let target = host_target()?;
    // With an explicit target the flags reach neither build scripts nor procedural macros, which cannot be static.
    let flags = "-C target-feature=+crt-static -C relocation-model=static";
    let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
    build_with(&target, &variable, flags)?;
    let directory = target_directory()?;
    let built = directory.join(&target).join("release/shoald");
    let wanted = directory.join("release/shoald");
    std::fs::create_dir_all(directory.join("release"))?;
    let fresh = directory.join("release/shoald.new");
    std::fs::copy(&built, &fresh).with_context(|| format!("copy {}", built.display()))?;
    // A daemon may be running from the old file; a rename does not disturb it.
    std::fs::rename(&fresh, &wanted).with_context(|| format!("replace {}", wanted.display()))?;
    Ok(wanted)
}

#[expect(clippy::disallowed_methods, reason = "helper programs of developers, not of the daemon")]
fn build_with(target: &str, variable: &str, flags: &str) -> Result<()> {
    let status = std::process::Command::new("cargo")
        .args(["build", "--release", "--locked", "--package", "shoald", "--target", target])
        .env(variable, flags)
        .envs(provenance())
        .current_dir(root()?)
        .status()
        .context("start cargo")?;
    anyhow::ensure!(status.success(), "the release build failed: {status}");
    Ok(())
}

/// What the binary says of its origin. A source tree without git says nothing of its commit.
fn provenance() -> Vec<(&'static str, String)> {
    let said = [
        ("SHOAL_COMMIT", read("git", &["rev-parse", "--short=7", "HEAD"])),
        // The commit's time and not the clock's: the same source makes the same binary.
        ("SHOAL_BUILD_TIME", read("git", &["log", "-1", "--format=%cI"])),
        ("SHOAL_COMPILER", read("rustc", &["--version"])),
    ];
    said.into_iter().filter_map(|(name, text)| Some((name, text.ok()?.trim().to_owned()))).collect()
}

fn host_target() -> Result<String> {
    let version = read("rustc", &["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what it builds for")
}

/// Where cargo builds, which the environment or a configuration may have moved.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let metadata: serde_json::Value =
        serde_json::from_str(&read("cargo", &["metadata", "--format-version=1", "--no-deps", "--locked"])?)?;
    let directory = metadata["target_directory"].as_str().context("cargo does not say where it builds")?;
    Ok(PathBuf::from(directory))
}
