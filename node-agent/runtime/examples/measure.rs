//! Measures the runtime as the shim uses it: create, start, wait, delete, and exec, in one process, phase by phase.
//!
//! `measure BUNDLE COUNT` prints the median of each phase in microseconds. The bundle's program should end at once
//! (busybox `true`). For comparisons run it interleaved with the other runtimes; see the crate's documentation.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use node_runtime::{CreateRequest, ExecRequest, SeccompSource, Stdio};
use oci_spec::runtime::Spec;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let bundle = PathBuf::from(arguments.next().ok_or("which bundle?")?).canonicalize()?;
    let count: usize = arguments.next().as_deref().unwrap_or("100").parse()?;
    let mode = arguments.next().unwrap_or_default();
    let text = std::fs::read(bundle.join("config.json"))?;
    let mut phases: Vec<(&str, Vec<u128>)> = ["parse", "compile", "create", "start", "wait", "delete", "all"]
        .map(|name| (name, Vec::new()))
        .into();
    if mode == "exec" {
        return measure_exec(&bundle, &text, count);
    }
    for round in 0..count {
        let times = run_once(&bundle, &text, &format!("measure-{}-{round}", std::process::id()))?;
        for ((_, samples), time) in phases.iter_mut().zip(times) {
            samples.push(time);
        }
    }
    for (name, samples) in &mut phases {
        println!("{name:8} {:8} us", median(samples));
    }
    Ok(())
}

fn median(samples: &mut [u128]) -> u128 {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or(0)
}

/// Runs one container; returns the time of each phase in microseconds.
fn run_once(bundle: &Path, text: &[u8], id: &str) -> Result<Vec<u128>, Failure> {
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut last = begin;
    let mut lap = |times: &mut Vec<u128>| {
        let now = Instant::now();
        times.push((now - last).as_micros());
        last = now;
    };
    let mut spec: Spec = serde_json::from_slice(text)?;
    if let Some(linux) = spec.linux_mut() {
        linux.set_cgroups_path(Some(Path::new("/shoal-measure").join(id)));
    }
    lap(&mut times);
    if let Some(seccomp) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
        std::hint::black_box(node_runtime::seccomp::compile(seccomp)?);
    }
    lap(&mut times);
    let mut created = node_runtime::create(CreateRequest::new(id, bundle, &spec))?;
    lap(&mut times);
    created.container.start(&spec)?;
    lap(&mut times);
    rustix::process::waitid(
        rustix::process::WaitId::PidFd(created.container.pidfd()),
        rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
    )?;
    lap(&mut times);
    created.container.delete(&spec)?;
    lap(&mut times);
    times.push(begin.elapsed().as_micros());
    Ok(times)
}

/// Measures exec of the bundle's program in a container that sleeps.
fn measure_exec(bundle: &Path, text: &[u8], count: usize) -> Result<(), Failure> {
    let mut spec: Spec = serde_json::from_slice(text)?;
    let process = spec.process().clone().ok_or("no process")?;
    if let Some(init) = spec.process_mut() {
        init.set_args(Some(vec!["sleep".to_owned(), "1000".to_owned()]));
    }
    let id = format!("measure-{}", std::process::id());
    if let Some(linux) = spec.linux_mut() {
        linux.set_cgroups_path(Some(Path::new("/shoal-measure").join(&id)));
    }
    let mut created = node_runtime::create(CreateRequest::new(&id, bundle, &spec))?;
    created.container.start(&spec)?;
    let mut samples = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        let executed = node_runtime::exec(&ExecRequest {
            container: &created.container,
            spec: &spec,
            process: &process,
            stdio: Stdio::Inherit,
            seccomp: SeccompSource::FromSpec,
            preserved_fds: 0,
        })?;
        let pidfd = std::os::fd::AsFd::as_fd(&executed.pidfd);
        rustix::process::waitid(
            rustix::process::WaitId::PidFd(pidfd),
            rustix::process::WaitIdOptions::EXITED,
        )?;
        samples.push(begin.elapsed().as_micros());
    }
    println!("exec     {:8} us", median(&mut samples));
    created.container.delete(&spec)?;
    Ok(())
}
