//! Running one probe of a health check: a command like any other, with a time limit and little output.
//!
//! Start reading at [`run`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use node_shim::protocol::{ExecMode, ExitRecord};
use shoal_types::ExecId;
use shoal_types::container::health::ProbeResult;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::Check;
use crate::api::execs::ExecSpec;
use crate::api::streams::Framing;
use crate::containers::Shared;
use crate::containers::exec::start::StartWish;
use crate::containers::signal::SIGKILL;
use crate::containers::slot::Slot;
use crate::error::NodeError;
use crate::figures::Action;
use crate::shim_client::{RunningExec, ShimError};

/// How much output of a probe is kept.
const OUTPUT_LEN: usize = 4096;
/// How long starting a probe may take. It does not count as the probe's own time.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs one probe to its end, or kills it when it takes too long.
pub(crate) async fn run(shared: Arc<Shared>, slot: Arc<Slot>, check: Check) -> ProbeResult {
    let start = Timestamp::now();
    let figures = shared.seams.figures.clone();
    let (exit_code, output) = match probe(&shared, &slot, &check).await {
        Ok(outcome) => outcome,
        Err(error) => (-1, error.message()),
    };
    figures.note_health_check(exit_code);
    ProbeResult { start, end: Timestamp::now(), exit_code, output }
}

async fn probe(shared: &Arc<Shared>, slot: &Arc<Slot>, check: &Check) -> Result<(i32, String), NodeError> {
    let begun = std::time::Instant::now();
    let spec = ExecSpec {
        command: check.command.clone(),
        attach_stdout: true,
        attach_stderr: true,
        ..ExecSpec::default()
    };
    let entry = shared.create_exec(slot, spec);
    let id = entry.id;
    let wish = StartWish { framing: Framing::Raw, mode: ExecMode::Attached, console_size: None };
    let running =
        tokio::time::timeout(START_TIMEOUT, shared.start_exec(entry, wish)).await.map_err(|_| {
            NodeError::unavailable(format!("timed out starting health check for container {}", slot.id()))
        })??;
    shared.seams.figures.note(Action::HealthCheckStart, begun);
    capture(slot, id, running, check.timeout).await
}

/// Reads the first bytes of the output and waits for the exit; kills the probe when its time is over.
async fn capture(
    slot: &Slot,
    id: ExecId,
    running: RunningExec,
    limit: Duration,
) -> Result<(i32, String), NodeError> {
    let deadline = Instant::now() + limit;
    let mut captured = Captured::default();
    let ended = tokio::time::timeout_at(deadline, captured.read(running)).await;
    let output = captured.text();
    match ended {
        Ok(exit) => {
            let exit = exit.map_err(|source| NodeError::failed("wait for a health check", source))?;
            Ok((exit.code, output))
        }
        Err(_elapsed) => {
            kill(slot, id).await;
            let mut text = format!("Health check exceeded timeout ({})", go_duration(limit));
            if !output.is_empty() {
                text.push_str(": ");
                text.push_str(&output);
            }
            Ok((-1, text))
        }
    }
}

/// The first bytes of a probe's output.
#[derive(Debug, Default)]
struct Captured {
    bytes: Vec<u8>,
    has_more: bool,
}

impl Captured {
    async fn read(&mut self, running: RunningExec) -> Result<ExitRecord, ShimError> {
        if let Some(mut stream) = running.stream {
            let mut chunk = [0u8; 1024];
            loop {
                let n_read = stream.read(&mut chunk).await.map_err(ShimError::Stream)?;
                if n_read == 0 {
                    break;
                }
                let room = OUTPUT_LEN.saturating_sub(self.bytes.len());
                self.has_more |= n_read > room;
                self.bytes.extend_from_slice(&chunk[..n_read.min(room)]);
            }
        }
        running.exit.wait().await
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.has_more {
            text.push_str("...");
        }
        text
    }
}

async fn kill(slot: &Slot, id: ExecId) {
    if let Some(shim) = slot.published().shim
        && let Err(error) = shim.signal_exec(id, SIGKILL).await
    {
        tracing::debug!(container.id = %slot.id(), %error, "a probe that took too long had ended by itself");
    }
}

/// A duration as Go prints it, for the text that tools show: `30s`, `1m30s`, `500ms`.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let seconds = if rest % 1000 == 0 {
        format!("{}s", rest / 1000)
    } else {
        let fraction = format!("{:03}", rest % 1000);
        format!("{}.{}s", rest / 1000, fraction.trim_end_matches('0'))
    };
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_gos() {
        let cases = [
            (Duration::from_millis(500), "500ms"),
            (Duration::from_secs(30), "30s"),
            (Duration::from_secs(90), "1m30s"),
            (Duration::from_secs(60), "1m0s"),
            (Duration::from_millis(1500), "1.5s"),
            (Duration::from_secs(3600), "1h0m0s"),
        ];
        for (duration, text) in cases {
            assert_eq!(go_duration(duration), text);
        }
    }
}
