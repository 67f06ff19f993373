//! What other members ask of this one.
//!
//! Start reading at [`Group::serve`]. Callers were checked to be managers before.

use openraft::storage::Snapshot as RaftSnapshot;
use serde::{Deserialize, Serialize};

use super::elections::Canvass;
use super::network::receive_snapshot;
use super::types::{Member, MemberId};
use super::{Group, stopped};
use crate::error::ClusterError;
use crate::rpc::lines::JsonLines;
use crate::rpc::paths;
use crate::rpc::server::{Call, Reply};

/// A wish to belong to the group. The node follows from the caller's certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JoinGroup {
    /// The id that the new member has drawn.
    pub(crate) id: MemberId,
    /// Where it listens. An unspecified address is replaced by the one from which it calls.
    pub(crate) address: std::net::SocketAddr,
}

impl Group {
    /// Answers a call of another member about raft; `None` if the path is none of raft's.
    pub(crate) async fn serve(&self, call: Call) -> Option<Result<Reply, ClusterError>> {
        Some(match call.path.as_str() {
            paths::RAFT_APPEND => self.serve_append(call).await,
            paths::RAFT_VOTE => self.serve_vote(call).await,
            paths::RAFT_CANVASS => self.serve_canvass(call).await,
            paths::RAFT_SNAPSHOT => self.serve_snapshot(call).await,
            paths::RAFT_SUCCEED => match self.succeed().await {
                Ok(()) => Reply::json(&()),
                Err(error) => Err(error),
            },
            _ => return None,
        })
    }

    async fn serve_append(&self, call: Call) -> Result<Reply, ClusterError> {
        let request = call.json::<openraft::raft::AppendEntriesRequest<_>>().await?;
        let vote = request.vote;
        let response = self.raft.append_entries(request).await.map_err(stopped)?;
        // A leader of an older term is refused with a higher vote and is none.
        if !matches!(response, openraft::raft::AppendEntriesResponse::HigherVote(higher) if higher > vote) {
            self.note_leader();
        }
        Reply::json(&response)
    }

    async fn serve_vote(&self, call: Call) -> Result<Reply, ClusterError> {
        let response = self.raft.vote(call.json().await?).await.map_err(stopped)?;
        if response.vote_granted {
            self.note_leader();
        }
        Reply::json(&response)
    }

    async fn serve_canvass(&self, call: Call) -> Result<Reply, ClusterError> {
        Reply::json(&self.answer_canvass(&call.json::<Canvass>().await?).await?)
    }

    async fn serve_snapshot(&self, call: Call) -> Result<Reply, ClusterError> {
        let (head, view) = receive_snapshot(JsonLines::new(call.body)).await?;
        let snapshot = RaftSnapshot { meta: head.meta, snapshot: Box::new(view) };
        let response = self.raft.install_full_snapshot(head.vote, snapshot).await.map_err(stopped)?;
        self.note_leader();
        Reply::json(&response)
    }

    /// Answers a wish to belong to the group. Leader only.
    pub(crate) async fn serve_join(&self, member: Member, id: MemberId) -> Result<Reply, ClusterError> {
        self.add_member(id, member).await?;
        Reply::json(&())
    }
}
