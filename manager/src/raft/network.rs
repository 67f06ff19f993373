//! Raft's messages over the calls between nodes, both ways.
//!
//! Start reading at [`Peers`], which sends (entries: [`super::appends`]); [`receive_snapshot`] takes what [`send_snapshot`] has sent: a line with vote and metadata, a line for each
//! object, and a last line with their number and digest.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use openraft::OptionalSend;
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot as RaftSnapshot;
use ring::digest::{Context, SHA256};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shoal_types::ErrorKind;

use super::appends::UnderWay;
use super::types::{Member, MemberId, SnapshotMeta, StateView, TypeConfig, Vote};
use crate::error::ClusterError;
use crate::rpc::client::RpcClient;
use crate::rpc::lines::JsonLines;
use crate::rpc::paths;
use crate::store::{Object, Snapshot};

/// How long a member that cannot be reached is left alone.
const BACKOFF: Duration = Duration::from_millis(200);
/// About how many bytes of a snapshot are sent at once.
const PIECE_BYTES: usize = 64 << 10;

/// The other members, and when each has last answered.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    client: Arc<RpcClient>,
    answered: Arc<Mutex<HashMap<MemberId, Instant>>>,
}

impl Peers {
    /// Nobody has answered yet.
    pub(crate) fn new(client: Arc<RpcClient>) -> Self {
        Self { client, answered: Arc::default() }
    }

    /// How long ago a member has answered this leader.
    pub(crate) fn silence(&self, member: MemberId) -> Option<Duration> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.get(&member).map(Instant::elapsed)
    }

    fn note(&self, member: MemberId) {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(member, Instant::now());
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = PeerLink;

    async fn new_client(&mut self, target: MemberId, node: &Member) -> PeerLink {
        PeerLink { way: Way { peers: self.clone(), target, address: node.address }, under_way: None }
    }
}

/// The way to one other member.
#[derive(Debug)]
pub(crate) struct PeerLink {
    pub(super) way: Way,
    /// Entries that were sent and not answered yet.
    pub(super) under_way: Option<UnderWay>,
}

/// To whom, by whom.
#[derive(Debug, Clone)]
pub(super) struct Way {
    peers: Peers,
    target: MemberId,
    address: std::net::SocketAddr,
}

pub(super) type CallError = RPCError<MemberId, Member, RaftError<MemberId>>;

impl RaftNetwork<TypeConfig> for PeerLink {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<MemberId>, CallError> {
        self.append(rpc, option.hard_ttl()).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<MemberId>,
        option: RPCOption,
    ) -> Result<VoteResponse<MemberId>, CallError> {
        self.way.call(paths::RAFT_VOTE, &rpc, option.hard_ttl()).await.map_err(call_error)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<MemberId>, StreamingError<TypeConfig, Fatal<MemberId>>> {
        let head = SnapshotHead { vote, meta: snapshot.meta };
        let send = send_snapshot(&self.way.peers.client, self.way.address, head, *snapshot.snapshot);
        // Either may be dropped: a snapshot that was sent in part is thrown away by its receiver.
        let answer = tokio::select! {
            answer = send => answer,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        let answer = answer.map_err(|source| StreamingError::Unreachable(Unreachable::new(&source)))?;
        self.way.note();
        Ok(answer)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}

impl Way {
    /// Asks the member and waits for the answer.
    pub(super) async fn call<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        path: &str,
        question: &Q,
        limit: Duration,
    ) -> Result<A, ClusterError> {
        self.peers.client.call(self.address, path, question, limit).await
    }

    /// Notes that the member has answered.
    pub(super) fn note(&self) {
        self.peers.note(self.target);
    }
}

pub(super) fn call_error(error: ClusterError) -> CallError {
    match error {
        ClusterError::Unreachable(_) => RPCError::Unreachable(Unreachable::new(&error)),
        other => RPCError::Network(NetworkError::new(&other)),
    }
}

/// What comes before the objects.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SnapshotHead {
    /// The leader's vote.
    pub(crate) vote: Vote,
    /// As of when the objects are, and the members.
    pub(crate) meta: SnapshotMeta,
}

/// The lines after the head.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SnapshotLine {
    /// An object.
    Object(Object),
    /// How many objects there were, and the SHA-256 of their JSON, in hex.
    End { objects: u64, digest: String },
}

/// Streams a snapshot to a member.
async fn send_snapshot(
    client: &RpcClient,
    to: std::net::SocketAddr,
    head: SnapshotHead,
    view: StateView,
) -> Result<SnapshotResponse<MemberId>, ClusterError> {
    let (pieces, queue) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(4);
    // Encoding takes long for a large cluster, so it has a thread; it ends when the receiver is gone.
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces { pieces, buffer: BytesMut::new() };
        let written = write_snapshot(&mut out, &head, &view);
        if let Err(source) = written {
            // The body breaks off, and the receiver throws away what it has.
            let _ = out.pieces.blocking_send(Err(source));
        }
    });
    let pieces = futures_util::stream::unfold(queue, |mut queue| async move {
        let piece = queue.recv().await?;
        Some((piece, queue))
    });
    client.upload(to, paths::RAFT_SNAPSHOT, pieces).await
}

struct Pieces {
    pieces: tokio::sync::mpsc::Sender<std::io::Result<Bytes>>,
    buffer: BytesMut,
}

impl Pieces {
    fn line(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.buffer.extend_from_slice(line);
        self.buffer.extend_from_slice(b"\n");
        if self.buffer.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let piece = self.buffer.split().freeze();
        self.pieces.blocking_send(Ok(piece)).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

fn write_snapshot(out: &mut Pieces, head: &SnapshotHead, view: &StateView) -> std::io::Result<()> {
    let (mut digest, mut objects) = (Context::new(&SHA256), 0);
    out.line(&serde_json::to_vec(head)?)?;
    for object in view.0.objects() {
        let line = serde_json::to_vec(&SnapshotLine::Object(object))?;
        digest.update(&line);
        objects += 1;
        out.line(&line)?;
    }
    let digest = hex(digest.finish().as_ref());
    out.line(&serde_json::to_vec(&SnapshotLine::End { objects, digest })?)?;
    out.flush()
}

/// Takes a snapshot from a body; nothing is believed before the digest has been compared.
pub(crate) async fn receive_snapshot(
    mut lines: JsonLines,
) -> Result<(SnapshotHead, StateView), ClusterError> {
    let broken = |reason: &str| {
        ClusterError::refused(ErrorKind::InvalidArgument, format!("the snapshot is broken: {reason}"))
    };
    let head: SnapshotHead = lines.next().await.ok_or_else(|| broken("it is empty"))??;
    let (mut digest, mut received) = (Context::new(&SHA256), Vec::new());
    loop {
        let line = lines.next_line().await.ok_or_else(|| broken("it ends early"))??;
        match serde_json::from_slice(&line).map_err(|source| broken(&source.to_string()))? {
            SnapshotLine::Object(object) => {
                digest.update(&line);
                received.push(object);
            }
            SnapshotLine::End { objects, digest: expected } => {
                let complete = u64::try_from(received.len()).is_ok_and(|n_received| n_received == objects);
                if !complete || hex(digest.finish().as_ref()) != expected {
                    return Err(broken("its digest is another"));
                }
                let index = head.meta.last_log_id.map_or(0, |log_id| log_id.index);
                let view = tokio::task::spawn_blocking(move || Snapshot::from_objects(index, received))
                    .await
                    .map_err(|source| ClusterError::local("taking over a snapshot", source))?;
                return Ok((head, StateView(Arc::new(view))));
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
