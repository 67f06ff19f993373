//! Who belongs to the managers' group: joining, leaving, moving, one at a time.
//!
//! Start reading at [`Group::add_member`]. A new member first only listens, until it has the log; then it votes. Every change goes
//! through the log of the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, RaftMetrics};
use shoal_types::cluster::node::ManagerStatus;
use shoal_types::{ErrorKind, NodeId};

use super::types::{Member, MemberId};
use super::{Group, Leadership, QUORUM_LIMIT, stopped};
use crate::error::ClusterError;
use crate::rpc::paths;

/// How long a joining member may take to answer.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);
/// How long a joining member may take to receive the log.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(120);
/// How long a change of membership may take.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// A member, as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberStatus {
    /// Its id in the group.
    pub(crate) id: MemberId,
    /// Who it is.
    pub(crate) member: Member,
    /// Whether it votes.
    pub(crate) is_voter: bool,
    /// What is shown of it. Whether others are reachable only the leader knows.
    pub(crate) status: ManagerStatus,
}

impl Group {
    /// This member's id in the group.
    pub(crate) fn id(&self) -> MemberId {
        self.id
    }

    /// All members, in the order of their ids.
    pub(crate) fn members(&self) -> Vec<MemberStatus> {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<MemberId> = membership.voter_ids().collect();
        let is_leading = matches!(*self.leadership.borrow(), Leadership::Here(_));
        let leader = if is_leading { Some(self.id) } else { metrics.current_leader };
        let status = |(id, member): (&MemberId, &Member)| {
            let is_answering = self.peers.silence(*id).is_some_and(|silence| silence < QUORUM_LIMIT);
            let reachable = *id == self.id || if is_leading { is_answering } else { true };
            MemberStatus {
                id: *id,
                member: member.clone(),
                is_voter: voters.contains(id),
                status: ManagerStatus { leader: leader == Some(*id), reachable, address: member.address },
            }
        };
        membership.nodes().map(status).collect()
    }

    /// Waits until this member votes, as far as it has heard.
    pub(crate) async fn until_voting(&self) -> Result<(), ClusterError> {
        let mut metrics = self.raft.metrics();
        let votes = |metrics: &RaftMetrics<MemberId, Member>| {
            metrics.membership_config.membership().voter_ids().any(|id| id == self.id)
        };
        match metrics.wait_for(votes).await {
            Ok(_) => Ok(()),
            // Raft has ended, and with it the group here.
            Err(_) => Err(ClusterError::NoLeader),
        }
    }

    /// Whether a member of the group is at home on that node.
    pub(crate) fn is_member(&self, node: NodeId) -> bool {
        self.members().iter().any(|status| status.member.node == node)
    }

    /// Takes a member in, or notes its new address if it is one already. Returns when it votes. Leader only.
    ///
    /// Members that the node has left behind under other ids, which can never come back, are removed first.
    pub(crate) async fn add_member(&self, id: MemberId, member: Member) -> Result<(), ClusterError> {
        let _changing = self.changing_members.lock().await;
        self.check_leading()?;
        let known = self.members();
        let present = known.iter().find(|status| status.id == id);
        if present.is_some_and(|status| status.is_voter && status.member == member) {
            return Ok(());
        }
        self.check_health(&member).await?;
        let left_behind: Vec<MemberId> = known
            .iter()
            .filter(|status| status.member.node == member.node && status.id != id)
            .map(|status| status.id)
            .collect();
        for old in left_behind {
            self.change(ChangeMembers::RemoveVoters([old].into())).await?;
            self.change(ChangeMembers::RemoveNodes([old].into())).await?;
        }
        if present.is_some() {
            self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, member)]))).await?;
        } else {
            let added = tokio::time::timeout(CATCH_UP_LIMIT, self.raft.add_learner(id, member, true));
            added.await.map_err(|_| ClusterError::Deadline)?.map_err(|source| self.change_error(source))?;
        }
        self.change(ChangeMembers::AddVoterIds([id].into())).await
    }

    /// Removes the member at home on that node; no effect if there is none. Leader only. A leader that removes itself hands
    /// over first, and answers [`ClusterError::NotLeader`], so that the caller repeats this with the new one.
    pub(crate) async fn remove_member(&self, node: NodeId) -> Result<(), ClusterError> {
        let _changing = self.changing_members.lock().await;
        self.check_leading()?;
        let known = self.members();
        let Some(gone) = known.iter().find(|status| status.member.node == node) else { return Ok(()) };
        check_removal(&known, gone.id)?;
        if gone.id == self.id {
            self.hand_over().await?;
            return Err(self.not_leading());
        }
        if gone.is_voter {
            self.change(ChangeMembers::RemoveVoters([gone.id].into())).await
        } else {
            self.change(ChangeMembers::RemoveNodes([gone.id].into())).await
        }
    }

    async fn check_health(&self, member: &Member) -> Result<(), ClusterError> {
        let answered: Result<NodeId, _> =
            self.client.call(member.address, paths::HEALTH, &(), HEALTH_LIMIT).await;
        match answered {
            Ok(node) if node == member.node => Ok(()),
            Ok(_) => Err(ClusterError::refused(
                ErrorKind::InvalidArgument,
                format!("another node answers at {}", member.address),
            )),
            Err(source) => Err(ClusterError::refused(
                ErrorKind::Unavailable,
                format!(
                    "rpc error: code = Unavailable desc = the manager at {} does not answer: {source}",
                    member.address
                ),
            )),
        }
    }

    async fn change(&self, change: ChangeMembers<MemberId, Member>) -> Result<(), ClusterError> {
        let changed = tokio::time::timeout(CHANGE_LIMIT, self.raft.change_membership(change, false));
        let changed = changed.await.map_err(|_| ClusterError::Deadline)?;
        changed.map(|_| ()).map_err(|source| self.change_error(source))
    }

    fn change_error(&self, error: RaftError<MemberId, ClientWriteError<MemberId, Member>>) -> ClusterError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => self.not_leading(),
            RaftError::APIError(ClientWriteError::ChangeMembershipError(source)) => {
                ClusterError::refused(ErrorKind::Unavailable, source.to_string())
            }
            RaftError::Fatal(source) => stopped(source),
        }
    }
}

/// Whether the group survives the removal of a member, in the words of swarm. Pure.
pub(crate) fn check_removal(members: &[MemberStatus], gone: MemberId) -> Result<(), ClusterError> {
    let voters: Vec<&MemberStatus> = members.iter().filter(|status| status.is_voter).collect();
    let Some(leaving) = voters.iter().find(|status| status.id == gone) else { return Ok(()) };
    if voters.len() == 1 {
        return Err(ClusterError::refused(
            ErrorKind::InvalidArgument,
            "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm",
        ));
    }
    let reachable = voters.iter().filter(|status| status.status.reachable).count();
    let staying = reachable - usize::from(leaving.status.reachable);
    if staying * 2 > voters.len() - 1 {
        return Ok(());
    }
    Err(ClusterError::refused(
        ErrorKind::InvalidArgument,
        "rpc error: code = FailedPrecondition desc = can't remove member from the raft: this would result in a loss \
         of quorum",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(reachable: &[bool]) -> Vec<MemberStatus> {
        let status = |(number, &reachable): (usize, &bool)| {
            let id = number as MemberId;
            let member = Member { node: NodeId::from_u128(u128::from(id)), ..Member::default() };
            let address = member.address;
            MemberStatus {
                id,
                member,
                is_voter: true,
                status: ManagerStatus { leader: number == 0, reachable, address },
            }
        };
        reachable.iter().enumerate().map(status).collect()
    }

    #[test]
    fn a_removal_must_leave_a_majority_that_answers() {
        let cases: [(&[bool], usize, bool); 7] = [
            (&[true], 0, false),
            (&[true, true], 1, true),
            (&[true, false], 1, true),
            (&[true, true, true], 2, true),
            (&[true, true, false], 2, true),
            (&[true, true, false], 1, false),
            (&[true, true, true, false, false], 1, false),
        ];
        for (reachable, gone, allowed) in cases {
            let checked = check_removal(&members(reachable), gone as MemberId);
            assert_eq!(checked.is_ok(), allowed, "{reachable:?} without {gone}: {checked:?}");
        }
    }
}
