//! `docker cp` into a container and out of it.
//!
//! Start reading at [`run`].

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::run::docker;
use crate::bench::api::status_of;
use crate::bench::fixtures::{FILE_SIZE, TREE_FILES, copy_source};
use crate::bench::rounds::{Bench, Turn};

/// One large file and a tree of small ones, both ways.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let source = copy_source(&bench.options().directory)?;
    let destination = bench.options().directory.join("copied");
    let mut containers = HashMap::new();
    bench.once(|turn| {
        let id = turn.api.sleeper()?;
        // Refusals of the archive routes are told apart by their status, which the client does not pass on.
        let probe = turn.api.get(&format!("/containers/{id}/archive?path=/etc/passwd"));
        if let Err(error) = probe
            && status_of(&error) == Some(501)
        {
            return Err(error);
        }
        containers.insert(turn.engine.name(), id);
        Ok(())
    });
    bench.turns(bench.rounds(0, 3), |turn| {
        let id = containers.get(turn.engine.name()).context("no container")?.clone();
        fs::create_dir_all(&destination)?;
        let copied = copy(turn, &id, &source, &destination);
        fs::remove_dir_all(&destination)?;
        turn.api.exec(&id, &["rm", "-rf", "/root/file", "/root/tree"])?;
        copied
    });
    Ok(())
}

fn copy(turn: &mut Turn<'_>, id: &str, source: &Path, destination: &Path) -> Result<()> {
    let outside = |directory: &Path, name: &str| directory.join(name).display().to_string();
    let inside = |name: &str| format!("{id}:/root/{name}");
    let steps = [
        ("cp.file.in", outside(source, "file"), inside("file")),
        ("cp.tree.in", outside(source, "tree"), inside("")),
        ("cp.file.out", inside("file"), outside(destination, "file")),
        ("cp.tree.out", inside("tree"), outside(destination, "")),
    ];
    for (metric, from, to) in &steps {
        let (_, took, _) = turn.measure(|turn| docker(turn, &["cp", from, to]))?;
        let amount = if metric.contains("file") { FILE_SIZE as f64 / 1e6 } else { TREE_FILES as f64 };
        turn.record(metric, amount / took * 1e3)?;
    }
    let copied = fs::metadata(destination.join("file"))?.len();
    ensure!(copied == FILE_SIZE as u64, "the file came back with {copied} bytes");
    let files = count_files(&destination.join("tree"))?;
    ensure!(files == TREE_FILES, "{files} of {TREE_FILES} files came back");
    Ok(())
}

fn count_files(directory: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}
