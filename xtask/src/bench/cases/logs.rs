//! A container that writes a lot: how fast it may, how fast it is read back, how fast it is followed.
//!
//! Start reading at [`run`]. Lines of 100 bytes, 200 MiB, as fast as the engine lets them through.

use std::io::Read as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::run::docker;
use crate::bench::api::IMAGE;
use crate::bench::rounds::{Bench, Turn};
use crate::bench::samples::Clock;

/// A line without its end.
const LINE: &str =
    "2024-05-01T12:00:00.000Z level=info msg=request_served path=/api/v1/items/42 status=200 bytes=12 took=7";
const BLOCK: usize = 65536;
const BLOCKS: usize = 3200;
/// What the container writes.
pub(in crate::bench) const BYTES: usize = BLOCK * BLOCKS;
const MEGABYTES: f64 = BYTES as f64 / 1e6;

/// The program of the container.
pub(in crate::bench) fn script() -> String {
    format!("yes '{LINE}' | dd bs={BLOCK} count={BLOCKS} iflag=fullblock 2>/dev/null")
}

/// Write and read back, then attach by the stock client and by one that does nothing with what it reads.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    bench.turns(bench.rounds(0, 3), write_and_read);
    bench.turns(bench.rounds(0, 3), attach_by_client);
    bench.turns(bench.rounds(0, 3), attach_by_api);
    Ok(())
}

/// json-file in one file, larger than all of the output: an engine may keep less by default, and rotation would lose lines.
fn write_and_read(turn: &mut Turn<'_>) -> Result<()> {
    let roomy = json!({"LogConfig": {"Type": "json-file", "Config": {"max-size": "1g", "max-file": "1"}}});
    let id = turn.api.create(&["sh", "-c", &script()], &roomy)?;
    let (_, took, cpu) = turn.measure(|turn| {
        turn.api.start(&id)?;
        turn.api.wait(&id)
    })?;
    turn.record("logs.write", MEGABYTES / took * 1e3)?;
    turn.record("logs.write.cpu", cpu / 1e3)?;
    let rate = read_from_client(turn, &["logs", &id])?;
    turn.record("logs.read", rate)?;
    let (body, took, cpu) = turn.measure(|turn| turn.api.logs(&id))?;
    let total = count_payload(&mut body.as_slice())?;
    ensure!(total == BYTES, "{total} of {BYTES} bytes came back over the API");
    turn.record("logs.read.api", MEGABYTES / took * 1e3)?;
    turn.record("logs.read.cpu", cpu / 1e3)?;
    let (_, took, _) = turn.measure(|turn| docker(turn, &["logs", "--tail", "100", &id]))?;
    turn.record("logs.tail", took)?;
    turn.api.remove(&id)
}

fn attach_by_client(turn: &mut Turn<'_>) -> Result<()> {
    let parent = format!("--cgroup-parent={}", turn.engine.account().container_parent());
    let arguments = ["run", "--rm", "--log-driver=none", &parent, IMAGE, "sh", "-c", &script()];
    let rate = read_from_client(turn, &arguments)?;
    turn.record("logs.attach.cli", rate)
}

/// Megabytes a second out of the stock client, all of them.
fn read_from_client(turn: &Turn<'_>, arguments: &[&str]) -> Result<f64> {
    let mut command = turn.engine.docker(arguments);
    let mut clock = Clock::start();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start docker")?;
    let mut output = child.stdout.take().context("docker without output")?;
    let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
    loop {
        match output.read(&mut buffer)? {
            0 => break,
            count => total += count,
        }
    }
    let status = child.wait()?;
    let took = clock.lap();
    ensure!(status.success(), "docker {}: {status}", arguments.first().unwrap_or(&""));
    ensure!(total == BYTES, "{total} of {BYTES} bytes came back");
    Ok(MEGABYTES / took * 1e3)
}

fn attach_by_api(turn: &mut Turn<'_>) -> Result<()> {
    let no_log: Value = json!({"LogConfig": {"Type": "none"}});
    let more = json!({"AttachStdout": true});
    let id = turn.api.create_with(&["sh", "-c", &script()], &no_log, &more, "")?;
    let mut attached = turn.api.stream("POST", &format!("/containers/{id}/attach?stream=1&stdout=1"))?;
    let mut clock = Clock::start();
    turn.api.start(&id)?;
    let total = count_payload(&mut attached)?;
    let took = clock.lap();
    ensure!(total == BYTES, "{total} of {BYTES} bytes came through attach");
    turn.record("logs.attach.api", MEGABYTES / took * 1e3)?;
    turn.api.remove(&id)
}

/// Adds up the frames of a multiplexed stream: stream, three zeros, length of four bytes, content.
fn count_payload(stream: &mut impl std::io::BufRead) -> Result<usize> {
    let mut total = 0;
    while !stream.fill_buf()?.is_empty() {
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        let [_, _, _, _, length @ ..] = head;
        let mut left = usize::try_from(u32::from_be_bytes(length))?;
        total += left;
        while left > 0 {
            let available = stream.fill_buf()?.len();
            ensure!(available > 0, "a frame is cut short");
            let taken = available.min(left);
            stream.consume(taken);
            left -= taken;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_is_counted_without_frames() {
        let stream = [&[1, 0, 0, 0, 0, 0, 0, 2], b"ab".as_slice(), &[2, 0, 0, 0, 0, 0, 0, 1], b"c"].concat();
        assert_eq!(count_payload(&mut stream.as_slice()).unwrap(), 3);
        assert!(count_payload(&mut &stream[..9]).is_err());
    }
}
