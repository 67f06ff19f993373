//! Who stands for election, and when.
//!
//! Start reading at [`run`]. openraft's own timer is off. A voter that has not heard of a leader for one to two seconds first asks the others whether
//! they would vote for it ([`Canvass`]): they would not if they hear a leader, or know more than the candidate. Only with a
//! majority of such promises does it stand, so a member that comes and goes cannot disturb a leader whom a majority hears.
//! A leader whose disk hangs falls silent, so that others elect one that can write. Handing leadership over skips the asking: the leader falls silent and tells its successor to stand.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use openraft::ServerState;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use shoal_types::cluster::settings::RaftSettings;

use super::types::{LogId, Member, MemberId};
use super::{Group, HEARTBEAT, LEASE, Leadership, stopped};
use crate::error::ClusterError;
use crate::rpc::paths;
use crate::store::Store as _;

/// Shortest silence after which a member asks around.
const SILENCE: Duration = Duration::from_millis(1000);
/// Longest.
const LONG_SILENCE: Duration = Duration::from_millis(2000);
/// Ticks beyond which patience grows no more: two minutes without a leader are enough.
const MOST_TICKS: u32 = 600;
/// A member that has heard of a leader within this promises no vote.
const LOYALTY: Duration = Duration::from_millis(800);
/// How often it is looked at.
const STEP: Duration = Duration::from_millis(50);
/// How long others may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// How long handing over may take.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(4);

/// Asks whether a vote would be granted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Canvass {
    /// Who asks.
    candidate: MemberId,
    /// The last entry of its log.
    last: Option<LogId>,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CanvassAnswer {
    /// It would.
    Promised,
    /// It would not.
    Refused,
    /// The candidate does not belong to the group any more.
    Removed,
}

/// What was promised to a candidate.
#[derive(Debug, PartialEq, Eq)]
enum Support {
    Majority,
    Minority,
    Removed,
}

/// Stands for election whenever that is called for, until the group is stopped.
pub(super) async fn run(group: Arc<Group>) {
    let mut patience = draw_patience(&group);
    let mut was_stuck = false;
    loop {
        // Both may be dropped: nothing has happened yet.
        tokio::select! {
            // Silence is the absence of anything that could be waited for.
            () = tokio::time::sleep(STEP) => {}
            () = group.stop.cancelled() => return,
        }
        let is_stuck = group.is_stuck();
        if is_stuck != was_stuck {
            was_stuck = is_stuck;
            // A leader that falls silent is replaced by one whose disk answers. It follows that one when its own does again.
            group.raft.runtime_config().heartbeat(!is_stuck);
            match is_stuck {
                true => tracing::warn!("the disk of this manager does not answer; it leads no more"),
                false => tracing::info!("the disk of this manager answers again"),
            }
        }
        let metrics = group.metrics();
        let membership = metrics.membership_config.membership();
        let is_voter = membership.voter_ids().any(|id| id == group.id);
        if metrics.state == ServerState::Leader || !is_voter {
            group.note_leader();
            continue;
        }
        let is_alone = membership.voter_ids().count() == 1;
        if is_stuck || (!is_alone && group.silence() < patience) {
            continue;
        }
        patience = draw_patience(&group);
        match group.canvass().await {
            Support::Majority => {
                tracing::info!(member = group.id, "no leader is heard of, standing for election");
                if let Err(error) = group.raft.trigger().elect().await {
                    tracing::warn!(%error, "could not stand for election");
                }
                // Whoever is elected gets time to say so.
                group.note_leader();
            }
            Support::Minority => {}
            Support::Removed => {
                group.removed.send_replace(true);
            }
        }
    }
}

/// How long a silence this member bears before it asks around: the administrator may make it more patient than it is by itself.
fn draw_patience(group: &Group) -> Duration {
    let usual = RaftSettings::default().election_tick;
    let ticks = group.snapshot().cluster().map_or(usual, |cluster| cluster.spec.raft.election_tick);
    let factor = f64::from(ticks.clamp(usual, MOST_TICKS)) / f64::from(usual);
    rand::rng().random_range(SILENCE..=LONG_SILENCE).mul_f64(factor)
}

impl Group {
    /// Asks all voters whether they would vote for this member.
    async fn canvass(&self) -> Support {
        let Ok(last) = self.log.last().await else { return Support::Minority };
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let question = Canvass { candidate: self.id, last };
        let others: Vec<(MemberId, Member)> = membership
            .voter_ids()
            .filter(|id| *id != self.id)
            .filter_map(|id| membership.get_node(&id).map(|member| (id, member.clone())))
            .collect();
        let mut asked: FuturesUnordered<_> = others
            .into_iter()
            .map(|(id, member)| {
                let question = &question;
                async move {
                    let asked = self.client.call(member.address, paths::RAFT_CANVASS, question, ANSWER_LIMIT);
                    (id, asked.await.ok())
                }
            })
            .collect();
        let mut promised = vec![self.id];
        let mut support = Support::Minority;
        loop {
            let is_majority = membership
                .get_joint_config()
                .iter()
                .all(|voters| voters.iter().filter(|id| promised.contains(id)).count() * 2 > voters.len());
            if is_majority {
                return Support::Majority;
            }
            match asked.next().await {
                Some((id, Some(CanvassAnswer::Promised))) => promised.push(id),
                Some((_, Some(CanvassAnswer::Removed))) => support = Support::Removed,
                Some((_, Some(CanvassAnswer::Refused) | None)) => {}
                None => return support,
            }
        }
    }

    /// Answers another member's question.
    pub(super) async fn answer_canvass(&self, question: &Canvass) -> Result<CanvassAnswer, ClusterError> {
        let last = self.log.last().await?;
        let committed = self.raft.with_raft_state(|state| state.committed).await.map_err(stopped)?;
        let metrics = self.metrics();
        let membership = &metrics.membership_config;
        if !membership.membership().voter_ids().any(|id| id == question.candidate) {
            // A candidate that knows more than this member may have been taken in since.
            let is_settled = *membership.log_id() <= committed && question.last <= last;
            return Ok(if is_settled { CanvassAnswer::Removed } else { CanvassAnswer::Refused });
        }
        let is_leading = matches!(*self.leadership.borrow(), Leadership::Here(_));
        let is_loyal = is_leading || self.silence() < LOYALTY;
        Ok(if is_loyal || question.last < last { CanvassAnswer::Refused } else { CanvassAnswer::Promised })
    }

    /// Makes the member that has most of the log the leader. This one proposes nothing any more from here on until another
    /// leads; [`ClusterError::NoLeader`] if nobody took over in time, and then this one goes on.
    pub(crate) async fn hand_over(&self) -> Result<(), ClusterError> {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let progress = metrics.replication.clone().unwrap_or_default();
        let successor = membership
            .voter_ids()
            .filter(|id| *id != self.id)
            .filter(|id| self.peers.silence(*id).is_some_and(|silence| silence < 2 * HEARTBEAT + LEASE))
            .max_by_key(|id| progress.get(id).copied().flatten());
        let Some(successor) = successor.and_then(|id| membership.get_node(&id)) else { return Ok(()) };
        self.is_handing_over.store(true, Ordering::Release);
        self.raft.runtime_config().heartbeat(false);
        let handed = tokio::time::timeout(HAND_OVER_LIMIT, async {
            // The others grant no vote while this leader's lease lasts.
            tokio::time::sleep(LEASE).await;
            let limit = HAND_OVER_LIMIT;
            self.client.call::<_, ()>(successor.address, paths::RAFT_SUCCEED, &(), limit).await?;
            self.wait_for(limit, |leadership| !matches!(leadership, Leadership::Here(_))).await
        });
        let handed = handed.await.map_err(|_| ClusterError::NoLeader).and_then(|handed| handed);
        self.raft.runtime_config().heartbeat(true);
        self.is_handing_over.store(false, Ordering::Release);
        handed.map(|_| ())
    }

    /// Stands for election because the leader asks for it; returns when this member leads.
    pub(super) async fn succeed(&self) -> Result<(), ClusterError> {
        let mut leadership = self.leadership();
        for _ in 0..8 {
            self.raft.trigger().elect().await.map_err(stopped)?;
            let elected = leadership.wait_for(|now| matches!(now, Leadership::Here(_)));
            if tokio::time::timeout(LEASE, elected).await.is_ok_and(|found| found.is_ok()) {
                return Ok(());
            }
        }
        Err(ClusterError::NoLeader)
    }
}
