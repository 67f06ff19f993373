//! What the tasks of a service have written, wherever they run.
//!
//! Start reading at [`routes`]. The bytes are those of a container's log; with `details` each line says which task, service
//! and node it comes from, which is how the command line tells them apart.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode};
use manager::api::logs::LogsOf;
use node_agent::api::streams::{LogBatch, LogEntry, LogSource};
use shoal_types::protocol::{LogLine, LogOptions, LogStream};

use super::managers;
use crate::error::ApiError;
use crate::extract::{Call, parse_unix_time};
use crate::reply::{self, Body, BodyError, Outcome};
use crate::route::{BodyKind, Route, get};
use crate::routes::containers::stream_type;
use crate::stream::logs::{Frames, LineHead, LogWriter};

/// Most lines that are written to a client at once.
const LINES_AT_ONCE: usize = 256;

/// The attributes that say where a line comes from.
const NODE: &str = "com.docker.swarm.node.id";
const SERVICE: &str = "com.docker.swarm.service.id";
const TASK: &str = "com.docker.swarm.task.id";

/// The operations on logs: of services, and of tasks.
pub(super) fn routes() -> [Route; 2] {
    let common = |route: Route| {
        route
            .flag("follow", "New lines follow.")
            .flag("stdout", "Lines of standard output.")
            .flag("stderr", "Lines of standard error.")
            .text("since", "Only lines of this time or later, in seconds since 1970.")
            .flag("timestamps", "Each line begins with its time.")
            .text("tail", "Only so many of the last lines of each task, or `all`.")
            .flag("details", "Each line says where it comes from.")
            .gives_body(200, BodyKind::Bytes(crate::hijack::MULTIPLEXED_STREAM))
            .fails(&[400, 404, 503])
    };
    [
        common(get("/services/{id}/logs", of_service).about("ServiceLogs", "Reads the logs of a service.")),
        common(get("/tasks/{id}/logs", of_task).about("TaskLogs", "Reads the logs of a task.").since(29)),
    ]
}

async fn of_service(call: Call) -> Outcome {
    let options = options(&call)?;
    let service = managers(&call)?.services.inspect(call.name()).await?;
    let tty = service.spec.template.container.tty;
    logs(call, LogsOf::Service(service.id.to_string()), options, tty).await
}

async fn of_task(call: Call) -> Outcome {
    let options = options(&call)?;
    let task = managers(&call)?.tasks.inspect(call.name()).await?;
    logs(call, LogsOf::Task(task.id.to_string()), options, task.template.container.tty).await
}

async fn logs(call: Call, of: LogsOf, options: LogOptions, tty: bool) -> Outcome {
    let head = LineHead { timestamps: call.query.flag("timestamps"), details: call.query.flag("details") };
    // Docker looks at this one only when it has found what is to be read.
    let options = LogOptions { tail: tail(call.query.text("tail"))?, ..options };
    let lines = call.shared.state.cluster.logs.read(of, options).await?;
    let mut writer = LogWriter::new(tty, Frames::PerEntry, head);
    let mut origins = Origins::default();
    let body = lines.ready_chunks(LINES_AT_ONCE).map(move |chunk| {
        let mut out = Vec::new();
        for line in chunk {
            match line {
                Ok(line) => out.extend_from_slice(&writer.write(&origins.batch(line))),
                Err(error) => out.extend_from_slice(&writer.failure(&error.to_string())),
            }
        }
        Ok::<_, BodyError>(Bytes::from(out))
    });
    let content_type = HeaderValue::from_static(stream_type(tty, call.version));
    Ok(reply::with_type(StatusCode::OK, content_type, Body::from_stream(body)))
}

/// What is asked for; all lines, whatever is said of their number.
fn options(call: &Call) -> Result<LogOptions, ApiError> {
    let streams: Vec<LogStream> = [("stdout", LogStream::Stdout), ("stderr", LogStream::Stderr)]
        .into_iter()
        .filter(|(name, _)| call.query.flag(name))
        .map(|(_, stream)| stream)
        .collect();
    if streams.is_empty() {
        return Err(ApiError::invalid("must specify at least one of 'stdout' or 'stderr'"));
    }
    let since = call.query.some_text("since").map(|text| parse_unix_time(&text)).transpose()?;
    Ok(LogOptions {
        streams,
        follow: call.query.flag("follow"),
        tail: None,
        since: since.filter(|time| time.as_nanosecond() != 0),
    })
}

/// How many lines of each task are wanted; `None` is all. Swarm does not class what it refuses here, which makes it a failure for
/// clients.
fn tail(written: &str) -> Result<Option<u64>, ApiError> {
    match (written, written.parse::<i64>()) {
        ("" | "all", _) => Ok(None),
        (_, Ok(n)) => match u64::try_from(n) {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(ApiError::internal_rule("negative tail values not supported")),
        },
        (_, Err(_)) => Err(ApiError::internal_rule("tail value must be a positive integer or \"all\"")),
    }
}

/// Attributes of lines. Lines of one task that follow each other share a list, which is then written out once.
#[derive(Debug, Default)]
struct Origins {
    last: Option<(LogLine, Attributes)>,
}

/// Attributes of a line, shared by those that follow it.
type Attributes = Arc<[(String, String)]>;

impl Origins {
    /// A line as an entry of a log.
    fn batch(&mut self, mut line: LogLine) -> LogBatch {
        let data = Bytes::from(std::mem::take(&mut line.data));
        let attributes = match &self.last {
            Some((last, attributes)) if last.task == line.task && last.attributes == line.attributes => {
                Arc::clone(attributes)
            }
            _ => attributes(&line),
        };
        let source = match line.stream {
            LogStream::Stdout => LogSource::Stdout,
            LogStream::Stderr => LogSource::Stderr,
        };
        let entry = LogEntry {
            start: 0,
            end: data.len(),
            source,
            time: line.at,
            attributes: Arc::clone(&attributes),
        };
        self.last = Some((line, attributes));
        LogBatch { data, entries: vec![entry] }
    }
}

/// The attributes of a line in order; where it comes from is not the log driver's to say.
fn attributes(line: &LogLine) -> Attributes {
    let mut all: std::collections::BTreeMap<String, String> = line.attributes.iter().cloned().collect();
    all.insert(NODE.to_owned(), line.node.to_string());
    all.insert(SERVICE.to_owned(), line.service.to_string());
    all.insert(TASK.to_owned(), line.task.to_string());
    all.into_iter().collect()
}
