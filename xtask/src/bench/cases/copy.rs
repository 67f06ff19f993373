//! `docker cp` into a container and out of it, and what it is made of: the API alone, and the client alone.
//!
//! Start reading at [`run`].

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::run::docker;
use crate::bench::api::status_of;
use crate::bench::fixtures::{FILE_SIZE, TREE_FILES, copy_source};
use crate::bench::nobody;
use crate::bench::rounds::{Bench, Turn};
use crate::bench::samples::Clock;

/// One large file and a tree of small ones, both ways.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let source = copy_source(&bench.options().directory)?;
    let destinations = bench.options().directory.join("copied");
    let mut number = 0;
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
    let socket = nobody::socket(&bench.options().directory);
    nobody::listen(&socket, &source)?;
    let rounds = bench.rounds(0, 3);
    bench.turns(rounds, |turn| {
        let id = containers.get(turn.engine.name()).context("no container")?.clone();
        number += 1;
        let place = Place::make(turn, id, destinations.join(number.to_string()), number)?;
        copy(turn, &place, &source)?;
        copy_over_the_api(turn, &place, &source)?;
        place.drop_large(turn)
    });
    for round in 0..rounds.recorded {
        let destination = destinations.join(format!("nobody{round}"));
        fs::create_dir_all(&destination)?;
        copy_with_nobody(bench, round, &socket, &source, &destination)?;
        fs::remove_file(destination.join("file"))?;
    }
    fs::remove_dir_all(destinations)?;
    Ok(fs::remove_file(socket)?)
}

/// Where one turn copies from and to. Trees stay until the end: ext4 passes over inodes that were freed in the last minutes, one
/// by one, so that files made after others were removed cost it many times as much, whoever makes them.
struct Place {
    id: String,
    inside: String,
    over_the_api: String,
    outside: PathBuf,
}

impl Place {
    fn make(turn: &mut Turn<'_>, id: String, outside: PathBuf, number: usize) -> Result<Self> {
        fs::create_dir_all(&outside)?;
        let (inside, over_the_api) = (format!("/root/{number}"), format!("/root/{number}api"));
        turn.api.exec(&id, &["mkdir", &inside, &over_the_api])?;
        Ok(Self { id, inside, over_the_api, outside })
    }

    fn drop_large(&self, turn: &mut Turn<'_>) -> Result<()> {
        fs::remove_file(self.outside.join("file"))?;
        let files = [&self.inside, &self.over_the_api].map(|directory| format!("{directory}/file"));
        turn.api.exec(&self.id, &["rm", "-f", &files[0], &files[1]]).map(drop)
    }
}

/// What is copied in one step: the metric's last part, from where, to where.
type Step = (&'static str, String, String);

/// The steps of `docker cp`; `inside` says how the container's side of a path is written.
fn steps(source: &Path, destination: &Path, inside: impl Fn(Way, &str) -> String) -> [Step; 4] {
    let outside = |directory: &Path, name: &str| directory.join(name).display().to_string();
    [
        ("file.in", outside(source, "file"), inside(Way::In, "file")),
        ("tree.in", outside(source, "tree"), inside(Way::In, "")),
        ("file.out", inside(Way::Out, "file"), outside(destination, "file")),
        ("tree.out", inside(Way::Out, "tree"), outside(destination, "")),
    ]
}

/// Into a container or out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// Megabytes of the file or files of the tree, by milliseconds.
fn rate(what: &str, took: f64) -> f64 {
    let amount = if what.contains("file") { FILE_SIZE as f64 / 1e6 } else { TREE_FILES as f64 };
    amount / took * 1e3
}

fn copy(turn: &mut Turn<'_>, place: &Place, source: &Path) -> Result<()> {
    let inside = |_, name: &str| format!("{}:{}/{name}", place.id, place.inside);
    for (what, from, to) in steps(source, &place.outside, inside) {
        let (_, took, cpu) = turn.measure(|turn| docker(turn, &["cp", &from, &to]))?;
        turn.record(&format!("cp.{what}"), rate(what, took))?;
        turn.record(&format!("cp.{what}.cpu"), cpu)?;
    }
    check(&place.outside)
}

fn check(destination: &Path) -> Result<()> {
    let copied = fs::metadata(destination.join("file"))?.len();
    ensure!(copied == FILE_SIZE as u64, "the file came back with {copied} bytes");
    let files = count_files(&destination.join("tree"))?;
    ensure!(files == TREE_FILES, "{files} of {TREE_FILES} files came back");
    Ok(())
}

/// The same archives, sent as they lie there and counted as they come.
fn copy_over_the_api(turn: &mut Turn<'_>, place: &Place, source: &Path) -> Result<()> {
    let (id, directory) = (&place.id, &place.over_the_api);
    for name in ["file", "tree"] {
        let archive = source.join(format!("{name}.tar"));
        let (_, took, _) = turn.measure(|turn| turn.api.put_archive(id, directory, &archive))?;
        turn.record(&format!("cp.api.{name}.in"), rate(name, took))?;
    }
    for name in ["file", "tree"] {
        let (bytes, took, _) =
            turn.measure(|turn| turn.api.count_archive(id, &format!("{directory}/{name}")))?;
        let sent = fs::metadata(source.join(format!("{name}.tar")))?.len();
        // Archives differ in their extended headers and in what fills the last record.
        ensure!(bytes > sent / 10 * 9, "the archive of {name} came back with {bytes} of {sent} bytes");
        turn.record(&format!("cp.api.{name}.out"), rate(name, took))?;
    }
    Ok(())
}

/// What the client takes when nobody packs, unpacks or keeps anything.
fn copy_with_nobody(
    bench: &mut Bench<'_>,
    round: usize,
    socket: &Path,
    source: &Path,
    destination: &Path,
) -> Result<()> {
    let named = |way| if way == Way::In { "in" } else { "out" };
    for (what, from, to) in steps(source, destination, |way, name| format!("{}:/root/{name}", named(way))) {
        let mut command = bench.client(&["cp", &from, &to])?;
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        let mut clock = Clock::start();
        let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().context("start docker")?;
        let took = clock.lap();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "docker cp {from} {to}: {}", error.trim());
        bench.record_floor(&format!("floor.cp.{what}"), round, rate(what, took))?;
    }
    check(destination)
}

fn count_files(directory: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}
