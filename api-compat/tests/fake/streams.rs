//! What flows between clients and containers: attachments, logs, figures, files.
#![cfg(test)]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use node_agent::NodeError;
use node_agent::api::files::*;
use node_agent::api::streams::*;
use node_agent::api::{ByteSource, ByteStream};
use shoal_types::ImageId;

use super::{Fake, bytes, drain};
use crate::objects;

#[async_trait]
impl ContainerStreams for Fake {
    async fn attach(&self, name: &str, request: AttachRequest) -> Result<Attachment, NodeError> {
        self.note(format!("attach {name} {request:?}"))?;
        let view = self.find(name)?;
        Ok(echo(view.spec.process.tty))
    }

    async fn resize(&self, name: &str, height: u16, width: u16) -> Result<(), NodeError> {
        self.change_of(name, format!("resize {name} {height} {width}"))
    }

    async fn logs(&self, name: &str, query: LogQuery) -> Result<Logs, NodeError> {
        self.note(format!("logs {name} {query:?}"))?;
        let view = self.find(name)?;
        let time: Timestamp = "2026-08-23T10:00:00.000000001Z".parse().unwrap();
        let attributes: Arc<[(String, String)]> = Arc::from([("a".to_owned(), "b".to_owned())]);
        let entry =
            |start, end, source| LogEntry { start, end, source, time, attributes: attributes.clone() };
        let batch = LogBatch {
            data: Bytes::from_static(b"out\nerr\n"),
            entries: vec![entry(0, 4, LogSource::Stdout), entry(4, 8, LogSource::Stderr)],
        };
        Ok(Logs { tty: view.spec.process.tty, batches: stream::iter([Ok(batch)]).boxed() })
    }

    async fn stats(
        &self,
        name: &str,
        mode: StatsMode,
    ) -> Result<BoxStream<'static, Result<StatsSample, NodeError>>, NodeError> {
        self.note(format!("stats {name} {mode:?}"))?;
        let view = self.find(name)?;
        let sample = objects::sample(view.id, &view.name);
        Ok(stream::iter([Ok(sample)]).boxed())
    }
}

/// An attachment that answers every byte, and ends when its input ends.
pub(super) fn echo(tty: bool) -> Attachment {
    let (near, far) = tokio::io::duplex(64);
    let (output, input) = tokio::io::split(near);
    tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(far);
        let copied = tokio::io::copy(&mut from, &mut to).await;
        // The answer comes after the input has ended, as of `wc -c`.
        if let Ok(count) = copied {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut to, format!("[{count}]").as_bytes()).await;
        }
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
    });
    Attachment { tty, output: Box::new(output), input: Some(Box::new(input)) }
}

fn path_stat() -> PathStat {
    PathStat {
        name: "etc".into(),
        size: 4096,
        mode: 0o040_755,
        modified: "2026-08-23T10:00:00Z".parse().unwrap(),
        link_target: String::new(),
    }
}

#[async_trait]
impl ContainerFiles for Fake {
    async fn stat(&self, name: &str, path: &str) -> Result<PathStat, NodeError> {
        self.note(format!("stat {name} {path}"))?;
        self.find(name).map(|_| path_stat())
    }

    async fn read_archive(&self, name: &str, path: &str) -> Result<(PathStat, ByteStream), NodeError> {
        self.note(format!("read {name} {path}"))?;
        self.find(name).map(|_| (path_stat(), bytes("archive")))
    }

    async fn write_archive(
        &self,
        name: &str,
        path: &str,
        options: UnpackOptions,
        archive: ByteSource,
    ) -> Result<(), NodeError> {
        let size = drain(archive).await?;
        self.change_of(name, format!("write {name} {path} {options:?} {size}"))
    }

    async fn export(&self, name: &str) -> Result<ByteStream, NodeError> {
        self.find(name).map(|_| bytes("export"))
    }

    async fn changes(&self, name: &str) -> Result<Vec<PathChange>, NodeError> {
        self.find(name).map(|_| Vec::new())
    }

    async fn commit(&self, name: &str, request: CommitRequest) -> Result<ImageId, NodeError> {
        self.change_of(name, format!("commit {name} {request:?}")).map(|_| objects::image_id())
    }
}
