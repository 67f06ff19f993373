//! Watching 100 containers with `stats`, as dashboards do.
//!
//! Start reading at [`run`].

use std::io::{BufReader, ErrorKind, Read as _};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::bench::http::Stream;
use crate::bench::rounds::Bench;

const CONTAINERS: usize = 100;
/// How long one read waits before the time is looked at again.
const TICK: Duration = Duration::from_millis(200);

/// A stream for each container at the same time; engines send a report a second.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let numbers: Vec<usize> = (0..bench.scaled(CONTAINERS, 10)).collect();
    let duration = bench.lasting(10.0).max(Duration::from_secs(4));
    bench.once(|turn| {
        let ids = turn.engine.in_parallel(&numbers, |api, _| api.sleeper())?;
        let watched =
            ids.iter().map(|id| turn.api.stream("GET", &format!("/containers/{id}/stats?stream=1")));
        let mut streams = watched.collect::<Result<Vec<_>>>()?;
        // The first report comes at once and the next after a second; both are part of opening.
        read_for(&mut streams, Duration::from_secs(2))?;
        let (reports, took, cpu) = turn.measure(|_| read_for(&mut streams, duration))?;
        ensure!(reports >= ids.len(), "{reports} reports of {} containers", ids.len());
        turn.note(&format!("{reports} reports of {} containers in {:.0} s", ids.len(), took / 1e3));
        turn.record("stats.cpu", cpu / took * 100.0)?;
        drop(streams);
        turn.engine.clean()
    });
    Ok(())
}

/// Reads everything that comes and counts the reports.
fn read_for(streams: &mut [BufReader<Stream>], duration: Duration) -> Result<usize> {
    let deadline = Instant::now() + duration;
    let results: Vec<Result<usize>> = std::thread::scope(|scope| {
        let readers: Vec<_> =
            streams.iter_mut().map(|stream| scope.spawn(|| read_until(stream, deadline))).collect();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap_or_else(|_| anyhow::bail!("a reader panicked")))
            .collect()
    });
    results.into_iter().sum()
}

fn read_until(stream: &mut BufReader<Stream>, deadline: Instant) -> Result<usize> {
    stream.get_ref().limit_reads(TICK)?;
    let (mut buffer, mut reports, mut before) = (vec![0; 16 * 1024], 0, b'\n');
    while Instant::now() < deadline {
        match stream.read(&mut buffer) {
            Ok(0) => anyhow::bail!("the stream ended"),
            // The framing of HTTP has lines as well, but none that begins with a brace.
            Ok(count) => {
                for byte in buffer.iter().take(count) {
                    reports += usize::from(before == b'\n' && *byte == b'{');
                    before = *byte;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(reports)
}
