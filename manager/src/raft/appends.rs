//! Entries on their way to another member, for as long as that takes.
//!
//! Start reading at [`PeerLink::append`]. openraft drops a call that has taken as long as a heartbeat may, and begins it anew: entries that
//! take longer, because they are large or the way, the disk or the processor is slow, would never arrive. Here a call goes on although it was
//! dropped, and whoever asks for the same entries again waits for its answer. Meanwhile the member is told that its leader is there,
//! and the leader learns that the member is.

use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::task::JoinHandle;

use super::network::{CallError, PeerLink, Way, call_error};
use super::types::{LogId, MemberId, TypeConfig, Vote};
use crate::error::ClusterError;
use crate::rpc::paths;

/// How long entries may be on their way. A peer that is gone is found out earlier, by probes of the connection.
const LIMIT: Duration = Duration::from_secs(60);

type Request = AppendEntriesRequest<TypeConfig>;
type Answer = AppendEntriesResponse<MemberId>;

/// Entries on their way. They are given up when this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    vote: Vote,
    /// The entry before the first.
    prev: Option<LogId>,
    last: LogId,
    answer: JoinHandle<Result<Answer, ClusterError>>,
}

impl UnderWay {
    fn begin(way: Way, request: Request, last: LogId) -> Self {
        let (vote, prev) = (request.vote, request.prev_log_id);
        // Owned by this, and aborted with it.
        let answer = tokio::spawn(async move { way.call(paths::RAFT_APPEND, &request, LIMIT).await });
        Self { vote, prev, last, answer }
    }

    /// Whether they begin where those of `request` do.
    fn begins_like(&self, request: &Request) -> bool {
        (self.vote, self.prev) == (request.vote, request.prev_log_id)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl PeerLink {
    /// Sends entries and waits for the answer; may be dropped and asked again.
    pub(super) async fn append(&mut self, request: Request, limit: Duration) -> Result<Answer, CallError> {
        let Some(last) = request.entries.last().map(|entry| entry.log_id) else {
            return beat(&self.way, &request, limit).await;
        };
        let known = self.under_way.take().filter(|known| known.begins_like(&request));
        let again = known.is_some().then_some(Request {
            vote: request.vote,
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        });
        let known = known.unwrap_or_else(|| UnderWay::begin(self.way.clone(), request, last));
        // It stays there when this is dropped.
        let UnderWay { answer, last: sent, .. } = self.under_way.insert(known);
        let sent = *sent;
        let answered = match again {
            None => answer.await,
            // Either may be dropped: the answer stays, and a beat that has left needs none.
            Some(again) => tokio::select! {
                answered = &mut *answer => answered,
                beaten = beat(&self.way, &again, limit) => match beaten {
                    Ok(newer @ AppendEntriesResponse::HigherVote(_)) => return Ok(newer),
                    _ => answer.await,
                },
            },
        };
        self.under_way = None;
        let answered = answered
            .map_err(|source| call_error(ClusterError::local("sending entries to a member", source)))?
            .map_err(call_error)?;
        self.way.note();
        Ok(match answered {
            // Entries have been added since these left.
            AppendEntriesResponse::Success if sent < last => {
                AppendEntriesResponse::PartialSuccess(Some(sent))
            }
            answered => answered,
        })
    }
}

/// Says that the leader is there.
async fn beat(way: &Way, request: &Request, limit: Duration) -> Result<Answer, CallError> {
    let answer = way.call(paths::RAFT_APPEND, request, limit).await.map_err(call_error)?;
    way.note();
    Ok(answer)
}
