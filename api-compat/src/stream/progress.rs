//! The lines that pull, push, load and import write while they work.
//!
//! Start reading at [`lines`] and [`reply()`]. The words are Docker's: clients look for `Digest:`, `Status:` and `Loaded
//! image:`. Objects are separated by CRLF. A failure before the first line is the request's; a later one is told in the
//! stream, and the status stays 200.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use node_agent::NodeError;
use node_agent::api::images::{LayerPhase, LoadedImage, Progress, ProgressStream};
use serde::Serialize;

use crate::error::ApiError;
use crate::model::progress::{Aux, ErrorDetail, ProgressDetail, ProgressMessage, PushResult};
use crate::reply::{self, Body, BodyError, JSON, Outcome};
use crate::version::ApiVersion;

/// Whether the first failure may still decide the status of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EarlyFailure {
    /// It does: nothing has been written yet.
    IsStatus,
    /// It is told in the stream like any other.
    IsLine,
}

/// The answer of a transfer, or of one that failed before it had anything to tell.
pub(crate) async fn reply(
    progress: Result<ProgressStream, NodeError>,
    early: EarlyFailure,
    version: ApiVersion,
) -> Outcome {
    let mut progress = match progress {
        Ok(progress) => progress,
        Err(error) if early == EarlyFailure::IsStatus => return Err(error.into()),
        Err(error) => stream::iter([Err(error)]).boxed(),
    };
    let first = progress.next().await;
    let first = match first {
        Some(Err(error)) if early == EarlyFailure::IsStatus => return Err(error.into()),
        first => stream::iter(first),
    };
    let body = first.chain(progress).map(move |item| {
        let messages = match item {
            Ok(progress) => lines(&progress, version),
            Err(error) => vec![failure(&ApiError::from(error))],
        };
        encode(&messages)
    });
    Ok(reply::with_type(StatusCode::OK, JSON, Body::from_stream(body)))
}

/// Messages as they stand in a body.
pub(crate) fn encode(messages: &[ProgressMessage]) -> Result<Bytes, BodyError> {
    let mut text = Vec::new();
    for message in messages {
        message.serialize(&mut serde_json::Serializer::new(&mut text))?;
        text.extend_from_slice(b"\r\n");
    }
    Ok(text.into())
}

/// The message that tells of a failure.
pub(crate) fn failure(error: &ApiError) -> ProgressMessage {
    let message = error.message().to_owned();
    let detail = ErrorDetail { code: None, message: message.clone() };
    ProgressMessage { error_detail: Some(detail), error: message, ..ProgressMessage::default() }
}

/// The messages of one step.
fn lines(progress: &Progress, version: ApiVersion) -> Vec<ProgressMessage> {
    let one = |message: ProgressMessage| vec![message];
    match progress {
        Progress::PullingFrom { repository, tag } => {
            one(ProgressMessage { id: tag.clone(), ..status(format!("Pulling from {repository}")) })
        }
        Progress::PushingTo { repository } => {
            one(status(format!("The push refers to repository [{repository}]")))
        }
        Progress::Layer { id, phase } => one(layer(id, phase, version)),
        Progress::Digest(digest) => one(status(format!("Digest: {digest}"))),
        Progress::Pulled { reference, newer: true } => {
            one(status(format!("Status: Downloaded newer image for {reference}")))
        }
        Progress::Pulled { reference, newer: false } => {
            one(status(format!("Status: Image is up to date for {reference}")))
        }
        Progress::Pushed { tag, digest, size } => {
            let result = PushResult { tag: tag.clone(), digest: digest.to_string(), size: *size };
            let aux = ProgressMessage {
                progress_detail: Some(ProgressDetail::default()),
                aux: Some(Aux::Push(result)),
                ..ProgressMessage::default()
            };
            vec![status(format!("{tag}: digest: {digest} size: {size}")), aux]
        }
        Progress::Loaded(LoadedImage::Named(name)) => one(stream_line(format!("Loaded image: {name}\n"))),
        Progress::Loaded(LoadedImage::Unnamed(id)) => one(stream_line(format!("Loaded image ID: {id}\n"))),
        Progress::Importing(done, all) => one(counted(status("Importing".to_owned()), *done, *all, version)),
        Progress::Imported(id) => one(status(id.to_string())),
        Progress::Note(text) => one(status(text.clone())),
    }
}

fn status(status: String) -> ProgressMessage {
    ProgressMessage { status, ..ProgressMessage::default() }
}

fn stream_line(stream: String) -> ProgressMessage {
    ProgressMessage { stream, ..ProgressMessage::default() }
}

fn layer(id: &str, phase: &LayerPhase, version: ApiVersion) -> ProgressMessage {
    let (word, counts) = match phase {
        LayerPhase::PullingFsLayer => ("Pulling fs layer", None),
        LayerPhase::Waiting => ("Waiting", None),
        LayerPhase::Downloading(done, all) => ("Downloading", Some((*done, *all))),
        LayerPhase::VerifyingChecksum => ("Verifying Checksum", None),
        LayerPhase::DownloadComplete => ("Download complete", None),
        LayerPhase::Extracting(done, all) => ("Extracting", Some((*done, *all))),
        LayerPhase::PullComplete => ("Pull complete", None),
        LayerPhase::AlreadyExists => ("Already exists", None),
        LayerPhase::Preparing => ("Preparing", None),
        LayerPhase::Pushing(done, all) => ("Pushing", Some((*done, *all))),
        LayerPhase::Pushed => ("Pushed", None),
        LayerPhase::LayerAlreadyExists => ("Layer already exists", None),
        LayerPhase::MountedFrom(_) => ("Mounted from", None),
        LayerPhase::Loading(done, all) => ("Loading layer", Some((*done, *all))),
    };
    let word = match phase {
        LayerPhase::MountedFrom(repository) => format!("{word} {repository}"),
        _ => word.to_owned(),
    };
    let mut message = status(word);
    id.clone_into(&mut message.id);
    message.progress_detail = Some(ProgressDetail::default());
    match counts {
        Some((done, all)) => counted(message, done, all, version),
        None => message,
    }
}

/// The message with how many bytes of how many there are.
fn counted(mut message: ProgressMessage, done: u64, all: u64, version: ApiVersion) -> ProgressMessage {
    message.progress_detail = Some(ProgressDetail { current: done, total: all });
    if version.is_below(52) {
        message.progress = bar(done, all);
    }
    message
}

/// The bar that clients below 1.52 may print as it is.
fn bar(done: u64, all: u64) -> String {
    const WIDTH: u64 = 50;
    if done == 0 && all == 0 {
        return String::new();
    }
    if all == 0 {
        return format!("{:>8}", human_size(done));
    }
    // In wide integers, because sizes come from registries.
    let filled = (u128::from(done) * 100 / u128::from(all) / 2).min(u128::from(WIDTH));
    let filled = usize::try_from(filled).unwrap_or(0);
    let empty = usize::try_from(WIDTH).unwrap_or(0) - filled;
    let numbers = if done > all {
        format!("{:>8}", human_size(done))
    } else {
        format!("{:>8}/{}", human_size(done), human_size(all))
    };
    format!("[{}>{}] {numbers}", "=".repeat(filled), " ".repeat(empty))
}

/// A size with four significant digits and a decimal unit.
fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut divisor, mut unit) = (1_u64, 0);
    while bytes / divisor >= 1000 && unit + 1 < UNITS.len() {
        divisor *= 1000;
        unit += 1;
    }
    let whole = bytes / divisor;
    let decimals: u32 = match whole {
        0..10 => 3,
        10..100 => 2,
        100..1000 => 1,
        _ => 0,
    };
    let scale = 10_u64.pow(decimals);
    // Rounded to the last digit that is shown.
    let scaled = (u128::from(bytes) * u128::from(scale) + u128::from(divisor) / 2) / u128::from(divisor);
    let (whole, fraction) = (scaled / u128::from(scale), scaled % u128::from(scale));
    let digits = usize::try_from(decimals).unwrap_or(0);
    let text = format!("{whole}.{fraction:0digits$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{}", UNITS.get(unit).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(progress: &Progress, minor: u16) -> String {
        let bytes = encode(&lines(progress, ApiVersion::v1(minor))).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn lines_have_dockers_words() {
        let layer = |phase| Progress::Layer { id: "0123456789ab".into(), phase };
        let cases = [
            (
                Progress::PullingFrom { repository: "library/busybox".into(), tag: "latest".into() },
                r#"{"status":"Pulling from library/busybox","id":"latest"}"#,
            ),
            (
                layer(LayerPhase::PullingFsLayer),
                r#"{"status":"Pulling fs layer","progressDetail":{},"id":"0123456789ab"}"#,
            ),
            (
                layer(LayerPhase::Downloading(500, 1000)),
                r#"{"status":"Downloading","progressDetail":{"current":500,"total":1000},"progress":"[=========================>                         ]     500B/1kB","id":"0123456789ab"}"#,
            ),
            (
                layer(LayerPhase::MountedFrom("a/b".into())),
                r#"{"status":"Mounted from a/b","progressDetail":{},"id":"0123456789ab"}"#,
            ),
            (
                Progress::Pulled { reference: "busybox:latest".into(), newer: true },
                r#"{"status":"Status: Downloaded newer image for busybox:latest"}"#,
            ),
            (
                Progress::Loaded(LoadedImage::Named("busybox:latest".into())),
                r#"{"stream":"Loaded image: busybox:latest\n"}"#,
            ),
        ];
        for (progress, text) in cases {
            assert_eq!(written(&progress, 41), format!("{text}\r\n"));
        }
    }

    #[test]
    fn the_bar_is_gone_from_1_52_on() {
        let layer = Progress::Layer { id: "a".into(), phase: LayerPhase::Downloading(1, 2) };
        assert!(written(&layer, 51).contains("\"progress\":"));
        assert!(!written(&layer, 52).contains("\"progress\":"));
    }

    #[test]
    fn sizes_have_four_digits_and_a_unit() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.234kB"),
            (12_345, "12.35kB"),
            (123_456, "123.5kB"),
            (1_500_000, "1.5MB"),
            (u64::MAX, "18.45EB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn bars_never_overflow() {
        for (done, all) in [(0, 0), (5, 0), (u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
            let _ = bar(done, all);
        }
        assert_eq!(bar(0, 0), "");
    }
}
