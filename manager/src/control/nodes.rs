//! Machines, as administrators may see and change them.
//!
//! Start reading at the implementation of [`Nodes`]. A role is only wished for here; the managers' group follows it elsewhere.

use std::time::Duration;

use async_trait::async_trait;
use shoal_types::cluster::node::{Node, NodeRole, NodeSpec, NodeState};
use shoal_types::cluster::task_state::TaskState;

use super::Control;
use super::files::new_meta;
use super::lookup::{has_labels, matches};
use super::refusal::{Code, out_of_sequence};
use crate::api::nodes::{NodeFilter, Nodes, RemoveForce};
use crate::clock::after;
use crate::error::ClusterError;
use crate::orchestrator::orphaned;
use crate::store::{Draft, Key, Revocation, Snapshot};

/// For how much longer than a certificate lives it is remembered that it is not accepted (swarm's figure).
const REVOCATION_MARGIN: Duration = Duration::from_secs(7 * 24 * 3600);

#[async_trait]
impl Nodes for Control {
    async fn list(&self, filter: NodeFilter) -> Result<Vec<Node>, ClusterError> {
        let view = self.view();
        Ok(view.nodes().filter(|node| passes(&filter, node)).map(|node| Node::clone(node)).collect())
    }

    async fn inspect(&self, name: &str) -> Result<Node, ClusterError> {
        let view = self.view();
        self.find_node(&view, name).map(|node| Node::clone(&node))
    }

    async fn update(&self, name: &str, version: u64, spec: NodeSpec) -> Result<(), ClusterError> {
        let mut draft = self.draft();
        let mut node = Node::clone(&*self.find_node(draft.view(), name)?);
        if version != node.meta.version {
            return Err(out_of_sequence());
        }
        if node.spec.role == NodeRole::Manager && spec.role == NodeRole::Worker {
            may_demote(draft.view(), &node)?;
        }
        node.spec = spec;
        draft.update(node)?;
        self.commit(draft).await
    }

    async fn remove(&self, name: &str, force: RemoveForce) -> Result<(), ClusterError> {
        let mut draft = self.draft();
        let node = self.find_node(draft.view(), name)?;
        // A manager that is down and that the group has forgotten (a new one was forced) can never be demoted.
        let may_join_yet = node.spec.role == NodeRole::Manager && node.status.state == NodeState::Ready;
        if node.manager.is_some() || may_join_yet {
            return Err(Code::FailedPrecondition.refuse(format_args!(
                "node {} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before \
                 removal",
                node.id
            )));
        }
        if node.status.state == NodeState::Ready && force == RemoveForce::No {
            return Err(Code::FailedPrecondition
                .refuse(format_args!("node {} is not down and can't be removed", node.id)));
        }
        orphan_tasks(&mut draft, &node)?;
        let life = draft.view().cluster().map_or(Duration::ZERO, |cluster| cluster.spec.certificate_life);
        let until = after(draft.now(), life.saturating_add(REVOCATION_MARGIN));
        if draft.view().revocation(node.id).is_none() {
            draft.create(Revocation { node: node.id, meta: new_meta(&draft), until })?;
        }
        let attachments: Vec<_> = draft.view().attachments_on(node.id).map(|other| other.id).collect();
        for id in attachments {
            draft.remove(Key::Attachment(id))?;
        }
        draft.remove(Key::Node(node.id))?;
        self.commit(draft).await
    }
}

/// Refuses a demotion that would leave the cluster without managers or without a quorum of them.
fn may_demote(view: &Snapshot, node: &Node) -> Result<(), ClusterError> {
    let is_another = |other: &&std::sync::Arc<Node>| other.id != node.id;
    if !view.nodes().filter(is_another).any(|other| other.spec.role == NodeRole::Manager) {
        return Err(Code::FailedPrecondition.refuse("attempting to demote the last manager of the swarm"));
    }
    if node.manager.is_none() {
        return Err(Code::NotFound.refuse("can't find manager in raft memberlist"));
    }
    let (mut n_members, mut n_reachable) = (0_usize, 0_usize);
    for member in view.nodes().filter(is_another).filter_map(|other| other.manager.as_ref()) {
        n_members = n_members.saturating_add(1);
        n_reachable = n_reachable.saturating_add(usize::from(member.reachable));
    }
    if n_reachable <= n_members / 2 {
        return Err(Code::FailedPrecondition
            .refuse("can't remove member from the raft: this would result in a loss of quorum"));
    }
    Ok(())
}

/// Says of every task of a node that is being removed that nobody will ever hear of it again.
fn orphan_tasks(draft: &mut Draft, node: &Node) -> Result<(), ClusterError> {
    let tasks: Vec<_> = draft
        .view()
        .tasks_on(node.id)
        .filter(|task| task.status.state < TaskState::Complete)
        .cloned()
        .collect();
    for task in tasks {
        let now = draft.now();
        draft.update(orphaned(&task, now))?;
    }
    Ok(())
}

fn passes(filter: &NodeFilter, node: &Node) -> bool {
    let none = Default::default();
    let (hostname, labels) = node
        .description
        .as_ref()
        .map_or(("", &none), |description| (description.hostname.as_str(), &description.engine_labels));
    matches(&filter.object, &node.id, hostname, labels)
        && has_labels(&filter.node_labels, &node.spec.labels)
        && (filter.roles.is_empty() || filter.roles.contains(&node.spec.role))
}
