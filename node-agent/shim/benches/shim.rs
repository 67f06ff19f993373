//! What a shim costs: logging, attaching, starting, memory. Figures are printed and not asserted, because they are the
//! machine's as much as the program's.
//!
//! Run `cargo bench -p node-shim` as root. `SHIM_PROGRAM` names another build of the shim to measure, such as the static
//! one that is shipped; `SHIM_RUNTIME` another runtime than the first of the tests' list. Start reading at [`main`].

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "not of the product"
)]

#[expect(dead_code, unused_imports, reason = "the tests use more of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use node_shim::logread::{LogQuery, LogReader, Progress};
use node_shim::protocol::{AttachRequest, Call, Framing, KillScope, LogConfig};

use support::{ALL_STREAMS, Container, Machine, Runtime, exec_request, is_privileged};

/// How much output is pushed through: the size of the project's log benchmark.
const OUTPUT_LEN: usize = 200_000_000;

fn main() {
    if !is_privileged() {
        return;
    }
    let machine = Machine::new();
    let runtime = match std::env::var("SHIM_RUNTIME").as_deref() {
        Ok("runc") => Runtime::Runc,
        Ok("crun") => Runtime::Crun,
        Ok("embedded") => Runtime::Embedded,
        _ => Runtime::available()[0],
    };
    println!("runtime: {runtime:?}");
    measure_log(&machine, runtime, LineKind::Short);
    measure_log(&machine, runtime, LineKind::Json);
    measure_attach(&machine, runtime);
    measure_starts(&machine, runtime);
    measure_execs(&machine, runtime);
    measure_memory(&machine, runtime);
}

#[derive(Debug, Clone, Copy)]
enum LineKind {
    /// A hundred plain bytes.
    Short,
    /// What services write: JSON, every few bytes of which has to be escaped.
    Json,
}

/// A container that writes the whole output and nothing else.
fn writer(machine: &Machine, runtime: Runtime, kind: LineKind) -> Container {
    let container = machine.container_of(runtime, &["cat", "/tmp/output"]);
    let line = match kind {
        LineKind::Short => format!("{}\n", "0123456789".repeat(10)),
        LineKind::Json => {
            "{\"level\":\"info\",\"msg\":\"request served\",\"path\":\"/a/b?c=d&e=f\",\"status\":200,\"ms\":12}\n".to_owned()
        }
    };
    let dir = container.dir.join("upper/tmp");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("output"), line.repeat(OUTPUT_LEN / line.len())).unwrap();
    container
}

fn measure_log(machine: &Machine, runtime: Runtime, kind: LineKind) {
    let mut container = writer(machine, runtime, kind);
    let mut daemon = container.spawn();
    daemon.create();
    let begin = Instant::now();
    daemon.start();
    daemon.exit();
    report("log", begin.elapsed(), &container, &format!("{kind:?} lines"));
    measure_reading(&container, kind);
}

/// Reads a log back as `docker logs` does: every entry into a frame.
fn measure_reading(container: &Container, kind: LineKind) {
    let begin = Instant::now();
    let cpu_before = cpu_time(std::process::id());
    let mut reader = LogReader::open(&container.launch.log, LogQuery::default()).unwrap().unwrap();
    let mut frames = Vec::with_capacity(64 * 1024);
    let mut n_bytes = 0;
    loop {
        let progress = reader.read(|entry| {
            frames.extend_from_slice(&[entry.stream as u8, 0, 0, 0]);
            frames.extend_from_slice(&u32::try_from(entry.text.len()).unwrap().to_be_bytes());
            frames.extend_from_slice(entry.text);
            if frames.len() < 60 * 1024 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        n_bytes += frames.len();
        frames.clear();
        if progress.unwrap() == Progress::CaughtUp {
            break;
        }
    }
    let rate = OUTPUT_LEN as f64 / 1e6 / begin.elapsed().as_secs_f64();
    let cpu = (cpu_time(std::process::id()) - cpu_before).as_millis();
    println!(
        "reading back, {kind:?} lines: {rate:.0} MB/s of output, {cpu} ms of processor time, {n_bytes} bytes of frames"
    );
}

fn measure_attach(machine: &Machine, runtime: Runtime) {
    for framing in [Framing::Raw, Framing::Multiplexed] {
        let mut container = writer(machine, runtime, LineKind::Short);
        container.launch.log = LogConfig::None;
        let mut daemon = container.spawn();
        let mut client = daemon.attach(AttachRequest { framing, ..ALL_STREAMS });
        daemon.create();
        let begin = Instant::now();
        daemon.start();
        std::io::copy(&mut client.socket, &mut std::io::sink()).unwrap();
        report("attach", begin.elapsed(), &container, &format!("{framing:?}"));
    }
}

fn report(what: &str, elapsed: Duration, container: &Container, detail: &str) {
    let rate = OUTPUT_LEN as f64 / 1e6 / elapsed.as_secs_f64();
    let cpu = cpu_time(container.shim_pid()).as_millis();
    println!("{what}, {detail}: {rate:.0} MB/s, {cpu} ms of the shim's processor time");
}

/// User and system time of a process: fields 14 and 15 of its stat line, in hundredths of a second.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn measure_starts(machine: &Machine, runtime: Runtime) {
    let mut times = Vec::new();
    for _ in 0..50 {
        let mut container = machine.container_of(runtime, &["true"]);
        let begin = Instant::now();
        let mut daemon = container.spawn();
        let spawned = begin.elapsed();
        daemon.create();
        let created = begin.elapsed();
        daemon.start();
        let started = begin.elapsed();
        daemon.exit();
        let exited = begin.elapsed();
        daemon.done(Call::Shutdown);
        times.push([spawned, created, started, exited, begin.elapsed()]);
        container.expect_shim_to_end();
    }
    let medians = [0, 1, 2, 3, 4].map(|n| {
        times.sort_by_key(|run| run[n]);
        times[times.len() / 2][n].as_micros()
    });
    println!("medians in µs since the spawn: hello, created, started, exited, forgotten: {medians:?}");
}

fn measure_execs(machine: &Machine, runtime: Runtime) {
    let mut container = machine.container_of(runtime, &["sleep", "1000"]);
    let mut daemon = container.spawn();
    daemon.run();
    let mut times = Vec::new();
    for _ in 0..50 {
        let request = exec_request("exit 0");
        let exec_id = request.exec_id;
        let begin = Instant::now();
        let (_, mut stream) = daemon.exec(request).unwrap();
        stream.read_to_end();
        daemon.exec_exit(exec_id);
        times.push(begin.elapsed());
        daemon.done(Call::AcknowledgeExec { exec_id });
    }
    times.sort();
    println!("exec of a shell, median: {} µs", times[times.len() / 2].as_micros());
    daemon.done(Call::Kill { signal: 9, scope: KillScope::Init });
    daemon.exit();
}

fn measure_memory(machine: &Machine, runtime: Runtime) {
    let mut shims: Vec<(Container, support::Daemon)> = (0..50)
        .map(|_| {
            let mut container = machine.container_of(runtime, &["sleep", "1000"]);
            let mut daemon = container.spawn();
            daemon.run();
            (container, daemon)
        })
        .collect();
    // Until the last one has given back what its start took.
    std::thread::sleep(Duration::from_secs(1));
    for key in ["Pss", "Rss", "Private_Dirty"] {
        let sum: u64 = shims.iter().map(|(container, _)| memory(container.shim_pid(), key)).sum();
        println!("{key} per shim: {} KiB", sum / shims.len() as u64);
    }
    let switches: u64 = shims.iter().map(|(container, _)| n_switches(container.shim_pid())).sum();
    // The time over which idleness is measured.
    std::thread::sleep(Duration::from_secs(3));
    let later: u64 = shims.iter().map(|(container, _)| n_switches(container.shim_pid())).sum();
    println!("wake-ups of {} idle shims in 3 s: {}", shims.len(), later - switches);
    for (_, daemon) in &mut shims {
        daemon.done(Call::Kill { signal: 9, scope: KillScope::Init });
    }
    for (container, daemon) in &mut shims {
        daemon.exit();
        daemon.done(Call::Shutdown);
        container.expect_shim_to_end();
    }
    std::io::stdout().flush().unwrap();
}

fn memory(pid: u32, key: &str) -> u64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = smaps.lines().find(|line| line.starts_with(&format!("{key}:"))).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn n_switches(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines = status.lines().filter(|line| line.contains("voluntary_ctxt_switches"));
    lines.map(|line| line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
}
