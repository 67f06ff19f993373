//! Roles: the managers' group follows what administrators wish of nodes.
//!
//! Start reading at [`due`], which is pure, and [`run`], which acts on the leader. A node that shall manage gets the role at once; it learns of it by its session,
//! renews its certificate and joins the group. A node that shall not manage any more is first removed from the group, and
//! loses the role then; if it leads, it hands over, and the next leader does this. Each node's part in the group is
//! noted in its object. [`LeaderNodes`] refuses wishes that would break the group.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use shoal_types::cluster::node::{Node, NodeRole, NodeSpec};
use shoal_types::{ErrorKind, NodeId};

use crate::api::nodes::{NodeFilter, Nodes, RemoveForce};
use crate::clock::Clock;
use crate::error::ClusterError;
use crate::raft::{Group, MemberStatus, check_removal};
use crate::store::{Change, Snapshot, Store as _};

/// How often it is looked although nothing has changed in the store: members become reachable or unreachable, and a removal that
/// was refused may be possible now.
const PERIOD: Duration = Duration::from_millis(500);

/// What has to be done about a node's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// It becomes a manager.
    Promote(NodeId),
    /// It leaves the group, and is a worker then.
    Demote(NodeId),
    /// It is no node any more and leaves the group.
    Forget(NodeId),
}

/// What has to be done. Pure.
fn due(snapshot: &Snapshot, members: &[MemberStatus]) -> Vec<Due> {
    let roles = snapshot.nodes().filter_map(|node| match (node.spec.role, node.role) {
        (NodeRole::Manager, NodeRole::Worker) => Some(Due::Promote(node.id)),
        (NodeRole::Worker, NodeRole::Manager) => Some(Due::Demote(node.id)),
        _ => None,
    });
    // A store without any node is one that is just being begun: its first member leads before the first objects are there.
    let is_begun = snapshot.nodes().next().is_some();
    let gone = members
        .iter()
        .map(|status| status.member.node)
        .filter(|node| is_begun && snapshot.node(*node).is_none())
        .map(Due::Forget);
    roles.chain(gone).collect()
}

/// Nodes whose part in the managers' group is another than the store says. Pure.
fn parts_to_note(snapshot: &Snapshot, members: &[MemberStatus], now: Timestamp) -> Vec<Change> {
    let changed = snapshot.nodes().filter_map(|node| {
        let part = member_of(members, node.id).map(|member| member.status);
        (node.manager != part).then(|| {
            let mut node = (**node).clone();
            node.manager = part;
            node.meta.updated = now;
            Change::Update(node.into())
        })
    });
    changed.collect()
}

/// Acts for as long as it is driven.
pub(crate) async fn run(group: Arc<Group>, clock: Arc<dyn Clock>) {
    let mut changed = group.changed();
    loop {
        let members = group.members();
        for due in due(&group.snapshot(), &members) {
            if let Err(error) = act(&group, &clock, due).await {
                tracing::warn!(%error, ?due, "a role cannot be changed yet");
            }
        }
        let parts = parts_to_note(&group.snapshot(), &members, clock.now());
        if !parts.is_empty()
            && let Err(error) = group.commit(parts).await
        {
            // Somebody has changed a node meanwhile; the next look sees that.
            tracing::debug!(%error, "parts in the managers' group were not noted");
        }
        let _ = tokio::time::timeout(PERIOD, changed.changed()).await;
    }
}

async fn act(group: &Group, clock: &Arc<dyn Clock>, due: Due) -> Result<(), ClusterError> {
    let (node, role) = match due {
        Due::Promote(node) => (node, NodeRole::Manager),
        Due::Demote(node) => {
            group.remove_member(node).await?;
            (node, NodeRole::Worker)
        }
        Due::Forget(node) => return group.remove_member(node).await,
    };
    let snapshot = group.snapshot();
    let Some(known) = snapshot.node(node) else { return Ok(()) };
    let mut changed = (**known).clone();
    changed.role = role;
    changed.meta.updated = clock.now();
    group.commit(vec![Change::Update(changed.into())]).await?;
    tracing::info!(node.id = %node, ?role, "a node has another role");
    Ok(())
}

/// Nodes as clients see them: with their part in the managers' group.
pub(crate) struct LeaderNodes {
    pub(crate) nodes: Arc<dyn Nodes>,
    pub(crate) group: Arc<Group>,
}

impl LeaderNodes {
    fn show(&self, nodes: &mut [Node]) {
        let members = self.group.members();
        for node in nodes {
            node.manager = member_of(&members, node.id).map(|member| member.status);
        }
    }
}

#[async_trait]
impl Nodes for LeaderNodes {
    async fn list(&self, filter: NodeFilter) -> Result<Vec<Node>, ClusterError> {
        let mut nodes = self.nodes.list(filter).await?;
        self.show(&mut nodes);
        Ok(nodes)
    }

    async fn inspect(&self, name: &str) -> Result<Node, ClusterError> {
        let mut node = self.nodes.inspect(name).await?;
        self.show(std::slice::from_mut(&mut node));
        Ok(node)
    }

    async fn update(&self, name: &str, version: u64, spec: NodeSpec) -> Result<(), ClusterError> {
        if spec.role == NodeRole::Worker {
            let node = self.nodes.inspect(name).await?;
            if node.spec.role == NodeRole::Manager {
                check_demotion(&self.group.snapshot(), &self.group.members(), node.id)?;
            }
        }
        self.nodes.update(name, version, spec).await
    }

    async fn remove(&self, name: &str, force: RemoveForce) -> Result<(), ClusterError> {
        let node = self.nodes.inspect(name).await?;
        if self.group.is_member(node.id) {
            return Err(ClusterError::refused(
                ErrorKind::InvalidArgument,
                format!(
                    "rpc error: code = FailedPrecondition desc = node {} is a cluster manager and is a member of the \
                     raft cluster. It must be demoted to worker before removal",
                    node.id
                ),
            ));
        }
        self.nodes.remove(name, force).await
    }
}

/// Refuses a demotion that would break the group, now or together with those that were wished before.
fn check_demotion(snapshot: &Snapshot, members: &[MemberStatus], node: NodeId) -> Result<(), ClusterError> {
    // Demotions that are wished already take those members away first.
    let staying: Vec<MemberStatus> = members
        .iter()
        .filter(|member| {
            let wished = snapshot.node(member.member.node).map(|node| node.spec.role);
            member.member.node == node || wished == Some(NodeRole::Manager)
        })
        .cloned()
        .collect();
    match member_of(&staying, node) {
        Some(member) => check_removal(&staying, member.id),
        // It has not joined the group yet, or never will.
        None => Ok(()),
    }
}

fn member_of(members: &[MemberStatus], node: NodeId) -> Option<&MemberStatus> {
    members.iter().find(|member| member.member.node == node)
}
