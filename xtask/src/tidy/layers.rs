//! Which crate may import which, and what may stand at the top of the tree.
//!
//! Start reading at [`ARROWS`]; it is the picture of ARCHITECTURE.md as a table.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use super::Tree;
use crate::read;

/// Each crate of ours and those it may import. Development dependencies may additionally use what tests need.
const ARROWS: &[(&str, &[&str])] = &[
    ("shoal-types", &[]),
    ("registry-client", &["shoal-types"]),
    ("overlay-net", &["shoal-types"]),
    ("node-runtime", &["shoal-types"]),
    ("node-shim", &["shoal-types", "node-runtime"]),
    ("node-agent", &["shoal-types", "node-shim", "node-runtime", "overlay-net", "registry-client"]),
    ("manager", &["shoal-types"]),
    ("builder", &["shoal-types", "node-agent"]),
    ("api-compat", &["shoal-types", "node-agent", "node-runtime", "registry-client", "manager", "builder"]),
    (
        "shoald",
        &[
            "shoal-types",
            "api-compat",
            "node-agent",
            "node-shim",
            "node-runtime",
            "overlay-net",
            "registry-client",
            "manager",
            "builder",
        ],
    ),
    ("swagger", &["api-compat"]),
    ("xtask", &["swagger"]),
    ("integration-cli", &[]),
    ("fuzz-harness", &[]),
    ("compose-tests", &["integration-cli"]),
];

/// What may stand at the top: what the project was asked for, what tools demand, and what a decision has added.
const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "api-compat",
    "builder",
    "clippy.toml",
    "compose-tests",
    "deny.toml",
    "docs",
    "integration-cli",
    "manager",
    "node-agent",
    "overlay-net",
    "registry-client",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "shoal-types",
    "shoald",
    "swagger",
    "xtask",
];

/// Imports that the picture does not have.
pub(super) fn arrows(_: &Tree) -> Result<Vec<String>> {
    let metadata: serde_json::Value =
        serde_json::from_str(&read("cargo", &["metadata", "--format-version=1", "--no-deps", "--locked"])?)?;
    let packages = metadata["packages"].as_array().context("cargo lists no packages")?;
    let ours: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package without a name")?;
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            findings.push(format!("crate {name} is not in the picture"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().context("a package without dependencies")?;
        for dependency in dependencies {
            let to = dependency["name"].as_str().unwrap_or_default();
            let is_for_tests = dependency["kind"].as_str() == Some("dev");
            if ours.contains(to) && !allowed.contains(&to) && !is_for_tests {
                findings.push(format!("{name} must not import {to}"));
            }
        }
    }
    Ok(findings)
}

/// Files and directories at the top that nobody agreed to.
pub(super) fn top_level(tree: &Tree) -> Result<Vec<String>> {
    let found: BTreeSet<String> = tree
        .files
        .iter()
        .filter_map(|path| Some(path.components().next()?.as_os_str().to_string_lossy().into_owned()))
        .collect();
    let unknown = found.iter().filter(|name| !TOP_LEVEL.contains(&name.as_str()));
    Ok(unknown.map(|name| format!("{name} stands at the top without a decision")).collect())
}
