//! What every source file must have and must not have.
//!
//! Start reading at [`headers`] and its neighbours, one function for each rule.

use std::path::Path;

use anyhow::Result;

use super::Tree;

/// Longest file. The aim is 150 to 500 lines; this is where it stops.
const MAX_LINES: usize = 800;

/// Where unsafe code may stand, by the beginning of the path.
const UNSAFE: &[&str] = &[
    "overlay-net/src/sys.rs",
    "node-agent/src/layers/quota/sys.rs",
    "node-agent/shim/src/memory.rs",
    "node-agent/shim/src/sys.rs",
    "node-agent/runtime/src/sys.rs",
    "shoald/src/listen/sys.rs",
    // Raw system calls are what this program for the tests is for.
    "integration-cli/src/bin/prober.rs",
];

/// What stands for something that is not finished or not trusted. Split, so that this file does not find itself.
const HOLES: &[&str] = &[
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[", "ignore"),
    concat!("TODO", ":"),
    concat!("FIX", "ME"),
];

/// Sleeping, which hides a condition that could be waited for unless a comment above says why there is none.
const SLEEPS: &[&str] = &[concat!("thread::", "sleep("), concat!("time::", "sleep(")];

/// Files without a header in their first lines.
pub(super) fn headers(tree: &Tree) -> Result<Vec<String>> {
    let without =
        tree.sources().filter(|(_, text)| !text.lines().take(3).any(|line| line.starts_with("//!")));
    Ok(without.map(|(path, _)| format!("{} has no header", path.display())).collect())
}

/// Files that are too long.
pub(super) fn lengths(tree: &Tree) -> Result<Vec<String>> {
    let lengths = tree.sources().map(|(path, text)| (path.to_owned(), text.lines().count()));
    let long = lengths.filter(|(_, lines)| *lines > MAX_LINES);
    Ok(long
        .map(|(path, lines)| format!("{} has {lines} lines, more than {MAX_LINES}", path.display()))
        .collect())
}

/// Files that allow themselves unsafe code and are not on the list.
pub(super) fn unsafe_list(tree: &Tree) -> Result<Vec<String>> {
    let is_listed =
        |path: &Path| UNSAFE.iter().any(|listed| path.starts_with(listed) || path == Path::new(listed));
    let marker = concat!("(unsafe", "_code");
    // Wherever rustfmt has broken the line.
    let allows = |text: &str| text.split_whitespace().collect::<String>().contains(marker);
    let allowing = tree.sources().filter(|(path, text)| allows(text) && !is_listed(path));
    Ok(allowing.map(|(path, _)| format!("{} is not on the unsafe list", path.display())).collect())
}

/// Marks of unfinished work.
pub(super) fn holes(tree: &Tree) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (path, text) in tree.sources() {
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(hole) = HOLES.iter().find(|hole| line.contains(**hole)) {
                findings.push(format!("{}:{number} has {hole}", path.display()));
            }
        }
    }
    Ok(findings)
}

/// Sleeps that no comment explains.
pub(super) fn sleeps(tree: &Tree) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (path, text) in tree.sources() {
        let mut above = "";
        for (number, line) in (1..).zip(text.lines()) {
            let sleeps = SLEEPS.iter().any(|sleep| line.contains(sleep));
            if sleeps && !above.trim_start().starts_with("//") {
                findings.push(format!("{}:{number} sleeps and does not say why", path.display()));
            }
            above = line;
        }
    }
    Ok(findings)
}

/// Lines that end in a blank.
pub(super) fn trailing_space(tree: &Tree) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (path, text) in tree.sources() {
        let lines = (1..).zip(text.lines()).filter(|(_, line)| line.ends_with([' ', '\t']));
        findings.extend(lines.map(|(number, _)| format!("{}:{number} ends in a blank", path.display())));
    }
    Ok(findings)
}
