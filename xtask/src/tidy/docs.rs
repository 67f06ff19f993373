//! Rules for what is written about the code.
//!
//! Start reading at [`decisions`].

use std::path::Path;

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

/// Dependencies of the workspace that no page gives a reason for.
pub(super) fn dependencies(tree: &Tree) -> Result<Vec<String>> {
    const PAGE: &str = "docs/dependencies.md";
    let manifest: String = std::fs::read_to_string(tree.root.join("Cargo.toml"))?;
    let page = std::fs::read_to_string(tree.root.join(PAGE)).unwrap_or_default();
    let foreign = names_of_dependencies(&manifest);
    let unnamed = foreign.filter(|name| !page.contains(&format!("`{name}`")));
    Ok(unnamed.map(|name| format!("{PAGE} does not say why {name} is there")).collect())
}

/// Names below `[workspace.dependencies]`, but those of our own crates.
fn names_of_dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let table = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let entries = table.take_while(|line| !line.starts_with('['));
    let foreign = entries.filter(|line| !line.contains("path = ") && !line.starts_with('#'));
    foreign.filter_map(|line| line.split_once(" = ").map(|(name, _)| name))
}

/// Links from one page to a file that is not there.
pub(super) fn links(tree: &Tree) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in tree.files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = std::fs::read_to_string(tree.root.join(path)).unwrap_or_default();
        let directory = path.parent().unwrap_or_else(|| Path::new(""));
        for target in targets(&text) {
            if !tree.root.join(directory).join(target).exists() {
                findings.push(format!("{} leads to {target}, which is not there", path.display()));
            }
        }
    }
    Ok(findings)
}

/// Where the links of a page lead, as far as that is inside the tree.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let after = text.match_indices("](").map(|(at, opening)| &text[at + opening.len()..]);
    let inside = after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let local = inside.filter(|target| !target.contains("://") && !target.starts_with('#'));
    local.map(|target| target.split_once('#').map_or(target, |(file, _)| file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dependencies_of_others_are_named() {
        let manifest = "[workspace]\nx = 1\n[workspace.dependencies]\n# ours\na = { path = \"a\" }\nb-c = \"1\"\n\n[profile]\nd = 1\n";
        assert_eq!(names_of_dependencies(manifest).collect::<Vec<_>>(), ["b-c"]);
    }

    #[test]
    fn only_links_into_the_tree_are_followed() {
        let text = "[a](x.md), [b](../y.md#part) [c](https://z.example/) [d](#here)";
        assert_eq!(targets(text).collect::<Vec<_>>(), ["x.md", "../y.md"]);
    }
}
