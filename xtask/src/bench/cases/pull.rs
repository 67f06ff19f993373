//! Cold pulls from a registry on this machine.
//!
//! Start reading at [`run`]. What is compared includes the network of the machine itself only; a registry far away hides most of
//! what an engine does.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::unistd::sync;

use crate::bench::fixtures::Image;
use crate::bench::program;
use crate::bench::registry::Registry;
use crate::bench::rounds::Bench;
use crate::bench::samples::Clock;

/// The image of large files and that of small ones.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let directory = bench.options().directory.clone();
    let registry = Registry::start(&directory)?;
    let images = [
        (Image::of_layers(&directory)?, ["pull.layers", "pull.layers.cpu", "floor.untar.layers"]),
        (Image::of_files(&directory)?, ["pull.files", "pull.files.cpu", "floor.untar.files"]),
    ];
    for (image, [time, cpu_time, floor]) in &images {
        registry.upload(image)?;
        let reference = registry.reference(image);
        bench.turns(bench.rounds(0, 3), |turn| {
            turn.api.remove_image(&reference)?;
            sync();
            let (_, took, cpu) = turn.measure(|turn| turn.api.pull(&reference))?;
            turn.api.get(&format!("/images/{reference}/json"))?;
            turn.record(time, took / 1e3)?;
            turn.record(cpu_time, cpu / 1e3)
        });
        bench.once(|turn| turn.api.remove_image(&reference));
        for round in 0..3 {
            let took = unpack(image, &directory.join("unpacked"))?;
            bench.record_floor(floor, round, took)?;
        }
    }
    Ok(())
}

/// Seconds that tar takes for all layers, with a process for each processor.
fn unpack(image: &Image, into: &Path) -> Result<f64> {
    std::fs::create_dir_all(into)?;
    sync();
    let limit = std::thread::available_parallelism()?.get();
    let mut running = VecDeque::new();
    let mut clock = Clock::start();
    for layer in &image.layers {
        if running.len() >= limit {
            finish(running.pop_front())?;
        }
        let mut command = program::command("tar", ["-xz", "-C"]);
        running.push_back(command.arg(into).arg("-f").arg(&layer.file).spawn().context("start tar")?);
    }
    while !running.is_empty() {
        finish(running.pop_front())?;
    }
    let took = clock.lap() / 1e3;
    std::fs::remove_dir_all(into)?;
    Ok(took)
}

fn finish(child: Option<std::process::Child>) -> Result<()> {
    let status = child.context("no process")?.wait()?;
    anyhow::ensure!(status.success(), "tar failed: {status}");
    Ok(())
}
