//! Files of containers: archives in and out, exports, changes.
//!
//! Start reading at [`read`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method, StatusCode};
use node_agent::api::ByteStream;
use node_agent::api::files::{ChangeKind, PathStat, ReplaceKinds, UnpackOptions, UnpackOwnership};

use crate::error::ApiError;
use crate::extract::Call;
use crate::model::container_summary::{ContainerPathStat, FilesystemChange};
use crate::model::time::Time;
use crate::reply::{self, Body, Outcome, Reply};

/// The header that describes a path, as JSON in base64.
pub(super) const PATH_STAT: &str = "x-docker-container-path-stat";

/// Sends a path as an archive; to HEAD, only what it is.
pub(super) async fn read(call: Call) -> Outcome {
    let path = path(&call)?;
    let files = &call.shared.state.node.files;
    let (stat, mut reply) = if call.method == Method::HEAD {
        (files.stat(call.name(), path).await?, reply::empty(StatusCode::OK))
    } else {
        let (stat, archive) = files.read_archive(call.name(), path).await?;
        (stat, bytes_reply("application/x-tar", archive))
    };
    reply.headers_mut().insert(PATH_STAT, stat_header(&stat)?);
    Ok(reply)
}

pub(super) async fn write(mut call: Call) -> Outcome {
    let path = path(&call)?.to_owned();
    let flag = |name: &str| call.query.flag(name);
    let options = UnpackOptions {
        replace: if flag("noOverwriteDirNonDir") { ReplaceKinds::Refuse } else { ReplaceKinds::Allow },
        ownership: if flag("copyUIDGID") {
            UnpackOwnership::ContainerUser
        } else {
            UnpackOwnership::FromArchive
        },
    };
    let archive = call.stream();
    call.shared.state.node.files.write_archive(call.name(), &path, options, archive).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub(super) async fn export(call: Call) -> Outcome {
    let archive = call.shared.state.node.files.export(call.name()).await?;
    Ok(bytes_reply("application/octet-stream", archive))
}

pub(super) async fn changes(call: Call) -> Outcome {
    let changes = call.shared.state.node.files.changes(call.name()).await?;
    let shown = changes.into_iter().map(|change| FilesystemChange {
        path: change.path,
        kind: match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        },
    });
    let shown: Vec<FilesystemChange> = shown.collect();
    reply::json(&Some(shown).filter(|list| !list.is_empty()))
}

/// Bytes of the engine as the body of an answer.
pub(crate) fn bytes_reply(content_type: &'static str, bytes: ByteStream) -> Reply {
    let body = Body::from_stream(bytes);
    reply::with_type(StatusCode::OK, HeaderValue::from_static(content_type), body)
}

fn path(call: &Call) -> Result<&str, ApiError> {
    match call.query.text("path") {
        "" => Err(ApiError::invalid("bad parameter: path cannot be empty")),
        path => Ok(path),
    }
}

fn stat_header(stat: &PathStat) -> Result<HeaderValue, ApiError> {
    let described = ContainerPathStat {
        name: stat.name.clone(),
        size: stat.size,
        mode: go_file_mode(stat.mode),
        mtime: Time::from(stat.modified).to_string(),
        link_target: stat.link_target.clone(),
    };
    let text = serde_json::to_vec(&described)
        .map_err(|error| ApiError::internal(format!("describe the path: {error}")))?;
    HeaderValue::try_from(STANDARD.encode(text))
        .map_err(|error| ApiError::internal(format!("describe the path: {error}")))
}

/// A mode of stat(2) in the bits of Go's `fs.FileMode`.
fn go_file_mode(mode: u32) -> u32 {
    const KINDS: [(u32, u32); 6] = [
        (0o040_000, 1 << 31),
        (0o120_000, 1 << 27),
        (0o060_000, 1 << 26),
        (0o020_000, 1 << 26 | 1 << 21),
        (0o010_000, 1 << 25),
        (0o140_000, 1 << 24),
    ];
    const FLAGS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let kind = KINDS.iter().find(|(bits, _)| mode & 0o170_000 == *bits).map_or(0, |(_, go)| *go);
    let flags = FLAGS.iter().filter(|(bits, _)| mode & bits != 0).fold(0, |all, (_, go)| all | go);
    mode & 0o777 | kind | flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_told_in_gos_bits() {
        for (mode, go) in [
            (0o100_644, 0o644),
            (0o040_755, 0x8000_0000 | 0o755),
            (0o120_777, 0x0800_0000 | 0o777),
            (0o104_755, 0x0080_0000 | 0o755),
            (0o041_777, 0x8010_0000 | 0o777),
            (0o020_666, 0x0420_0000 | 0o666),
        ] {
            assert_eq!(go_file_mode(mode), go, "{mode:o}");
        }
    }
}
