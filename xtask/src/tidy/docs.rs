//! Rules for what is written about the code.
//!
//! Start reading at [`decisions`].

use anyhow::Result;

use super::Tree;

/// What a decision says, as headings.
const PARTS: &[&str] = &["## Context", "## Decision", "## Alternatives", "## Consequences"];
/// How the line begins that says whether a decision holds, and since when.
const STATUS: &str = "Status: ";
/// Where decisions are listed.
const INDEX: &str = "docs/decisions/README.md";
/// More than this nobody reads before the first change.
const MAX_ARCHITECTURE_LINES: usize = 300;

/// Pages without a date or a part, or that the index does not list.
pub(super) fn decisions(tree: &Tree) -> Result<Vec<String>> {
    let index = std::fs::read_to_string(tree.root.join(INDEX)).unwrap_or_default();
    let mut findings = Vec::new();
    for path in tree.files.iter().filter(|path| path.starts_with("docs/decisions")) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name == "README.md" {
            continue;
        }
        let is_dated =
            name.len() > 11 && name.bytes().take(10).all(|byte| byte.is_ascii_digit() || byte == b'-');
        if !is_dated {
            findings.push(format!("{} is not named by its date", path.display()));
        }
        if !index.contains(&name) {
            findings.push(format!("{} is not in {INDEX}", path.display()));
        }
        let text = std::fs::read_to_string(tree.root.join(path)).unwrap_or_default();
        if !text.lines().any(|line| line.starts_with(STATUS)) {
            findings.push(format!("{} has no line {STATUS:?}", path.display()));
        }
        let missing = PARTS.iter().filter(|part| !text.lines().any(|line| line.trim_end() == **part));
        findings.extend(missing.map(|part| format!("{} has no heading {part:?}", path.display())));
    }
    Ok(findings)
}

/// An ARCHITECTURE.md that is missing or too long.
pub(super) fn architecture(tree: &Tree) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(tree.root.join("ARCHITECTURE.md")).unwrap_or_default();
    let lines = text.lines().count();
    Ok(match lines {
        0 => vec!["ARCHITECTURE.md is missing".to_owned()],
        1..=MAX_ARCHITECTURE_LINES => Vec::new(),
        _ => vec![format!("ARCHITECTURE.md has {lines} lines, more than {MAX_ARCHITECTURE_LINES}")],
    })
}
