//! `tidy`: rules of the house that a program can check. Each is also an ordinary test.
//!
//! Start reading at [`RULES`]. A rule looks at the tree as git knows it and returns what it finds, a line each; it changes
//! nothing.

mod docs;
mod layers;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::{read, root};

/// A rule: its name and what it finds wrong.
type Rule = (&'static str, fn(&Tree) -> Result<Vec<String>>);

const RULES: &[Rule] = &[
    ("crates import each other only along the arrows of ARCHITECTURE.md", layers::arrows),
    ("only agreed directories stand at the top", layers::top_level),
    ("every source file opens with a header", sources::headers),
    ("files stay readable", sources::lengths),
    ("unsafe code stands only where it is agreed", sources::unsafe_list),
    ("nothing is left undone or ignored", sources::holes),
    ("a sleep says why no condition can be waited for", sources::sleeps),
    ("lines have no trailing space", sources::trailing_space),
    ("decisions are dated, complete and indexed", docs::decisions),
    ("pages lead to files that exist", docs::links),
    ("every dependency has its reason", docs::dependencies),
    ("the architecture fits on the agreed number of lines", docs::architecture),
];

/// The files of the workspace.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    files: Vec<PathBuf>,
}

impl Tree {
    /// The files that git tracks or would track.
    fn of_workspace() -> Result<Self> {
        let listed = read("git", &["ls-files", "--cached", "--others", "--exclude-standard", "-z"])?;
        let root = root()?;
        let files = listed.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from);
        // A file that was just deleted is still listed.
        let files = files.filter(|path| root.join(path).is_file()).collect();
        Ok(Self { root, files })
    }

    /// Relative paths and contents of our Rust files.
    fn sources(&self) -> impl Iterator<Item = (&Path, String)> {
        let sources =
            self.files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
        sources.filter_map(|path| Some((path.as_path(), std::fs::read_to_string(self.root.join(path)).ok()?)))
    }
}

/// Applies every rule and fails if one finds something.
pub(crate) fn command(_: &[String]) -> Result<()> {
    let findings = findings()?;
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    if findings.is_empty() { Ok(()) } else { bail!("{} findings", findings.len()) }
}

fn findings() -> Result<Vec<String>> {
    let tree = Tree::of_workspace()?;
    let mut all = Vec::new();
    for (name, rule) in RULES {
        all.extend(rule(&tree)?.into_iter().map(|finding| format!("{finding} ({name})")));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_follows_the_rules_of_the_house() {
        let findings = super::findings().unwrap();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }
}
