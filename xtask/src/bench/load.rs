//! The same GET again and again over connections that stay open: how many answers a second, and how long one takes.
//!
//! Start reading at [`load`]. A thread for each connection; an answer is only searched for its end, never parsed.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::http::{Address, Stream};

/// A slow server gets more time, until this many answers have come.
const LEAST: usize = 5;
const LONGEST: Duration = Duration::from_secs(15);
/// What is sent before the count begins.
const WARM_UP: usize = 3;

/// Asks on `connections` connections for `duration` and returns answers per second.
pub(super) fn load(address: &Address, path: &str, connections: usize, duration: Duration) -> Result<f64> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: */*\r\n\r\n");
    let ask = || ask_again_and_again(address, request.as_bytes(), duration);
    let rates: Vec<Result<f64>> = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..connections).map(|_| scope.spawn(ask)).collect();
        askers.into_iter().map(|asker| asker.join().unwrap_or_else(|_| bail!("a client panicked"))).collect()
    });
    rates.into_iter().sum()
}

fn ask_again_and_again(address: &Address, request: &[u8], duration: Duration) -> Result<f64> {
    let mut stream = address.connect()?;
    let mut buffer = vec![0; 256 * 1024];
    for _ in 0..WARM_UP {
        ask(&mut stream, request, &mut buffer)?;
    }
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < duration || (count < LEAST && started.elapsed() < LONGEST) {
        ask(&mut stream, request, &mut buffer)?;
        count += 1;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

fn ask(stream: &mut Stream, request: &[u8], buffer: &mut Vec<u8>) -> Result<()> {
    stream.write_all(request)?;
    let mut filled = 0;
    let mut end = None;
    loop {
        if filled == buffer.len() {
            buffer.resize(filled * 2, 0);
        }
        let free = buffer.get_mut(filled..).context("no room")?;
        let count = stream.read(free)?;
        ensure!(count > 0, "the server closed the connection");
        filled += count;
        let seen = buffer.get(..filled).context("no answer")?;
        if end.is_none() {
            end = End::find(seen)?;
        }
        if end.is_some_and(|end| end.is_reached(seen)) {
            return Ok(());
        }
    }
}

/// How the end of an answer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    At(usize),
    LastChunk,
}

impl End {
    /// `None` while the head is incomplete.
    fn find(seen: &[u8]) -> Result<Option<Self>> {
        let Some(body) = seen.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else {
            return Ok(None);
        };
        let head = String::from_utf8_lossy(&seen[..body]).to_ascii_lowercase();
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.contains(" 200"), "answered by {status}");
        if head.contains("transfer-encoding: chunked") {
            return Ok(Some(Self::LastChunk));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("an answer without a length")?.trim().parse()?;
        Ok(Some(Self::At(body + length)))
    }

    fn is_reached(self, seen: &[u8]) -> bool {
        match self {
            Self::At(end) => seen.len() >= end,
            Self::LastChunk => seen.ends_with(b"\r\n0\r\n\r\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_answer_is_found_in_both_framings() {
        let fixed = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
        let end = End::find(fixed).unwrap().unwrap();
        assert!(end.is_reached(fixed) && !end.is_reached(&fixed[..fixed.len() - 1]));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        let end = End::find(chunked).unwrap().unwrap();
        assert!(end.is_reached(chunked) && !end.is_reached(&chunked[..chunked.len() - 5]));
        assert_eq!(End::find(b"HTTP/1.1 200 OK\r\nCont").unwrap(), None);
        assert!(End::find(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err());
    }
}
