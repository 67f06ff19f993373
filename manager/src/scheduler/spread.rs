//! Spreading tasks evenly: over the values of labels first, then over nodes.
//!
//! Start reading at [`Tree`]. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use shoal_types::NodeId;
use shoal_types::cluster::node::Node;

use super::constraint::label;

/// A node that can take a task. The least is the best: one where tasks of the service do not keep failing, with the fewest
/// tasks of the service, with the fewest tasks at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pick {
    pub(super) is_failing: bool,
    pub(super) of_service: u64,
    pub(super) active: u64,
    pub(super) node: NodeId,
}

/// Nodes by the values of the labels over which tasks are spread. Nodes without a label form a branch of their own.
#[derive(Debug)]
pub(super) enum Tree {
    Leaf(BinaryHeap<Reverse<Pick>>),
    Branches(BTreeMap<String, Branch>),
}

/// Nodes with one value of a label.
#[derive(Debug)]
pub(super) struct Branch {
    /// Tasks of the service on these nodes, whether or not they can take more.
    n_tasks: u64,
    below: Tree,
}

impl Tree {
    /// A tree without nodes, as deep as there are preferences.
    pub(super) fn new(preferences: &[String]) -> Self {
        if preferences.is_empty() { Self::Leaf(BinaryHeap::new()) } else { Self::Branches(BTreeMap::new()) }
    }

    /// Adds a node; `pick` is `None` if it cannot take a task, but the tasks that it has count for its branches.
    pub(super) fn add(&mut self, path: &[String], of_service: u64, pick: Option<Pick>) {
        match self {
            Self::Leaf(heap) => heap.extend(pick.map(Reverse)),
            Self::Branches(branches) => {
                let Some((value, rest)) = path.split_first() else { return };
                let branch = branches
                    .entry(value.clone())
                    .or_insert_with(|| Branch { n_tasks: 0, below: Self::new(rest) });
                branch.n_tasks = branch.n_tasks.saturating_add(of_service);
                branch.below.add(rest, of_service, pick);
            }
        }
    }

    /// Takes the best node and counts a task for its branches; `None` if no node is left.
    pub(super) fn take(&mut self) -> Option<Pick> {
        match self {
            Self::Leaf(heap) => heap.pop().map(|Reverse(pick)| pick),
            Self::Branches(branches) => {
                let mut by_tasks: Vec<&mut Branch> = branches.values_mut().collect();
                by_tasks.sort_by_key(|branch| branch.n_tasks);
                by_tasks.into_iter().find_map(|branch| {
                    let pick = branch.below.take()?;
                    branch.n_tasks = branch.n_tasks.saturating_add(1);
                    Some(pick)
                })
            }
        }
    }

    /// Puts a node back that can take another task.
    pub(super) fn put_back(&mut self, path: &[String], pick: Pick) {
        match self {
            Self::Leaf(heap) => heap.push(Reverse(pick)),
            Self::Branches(branches) => {
                let Some((value, rest)) = path.split_first() else { return };
                if let Some(branch) = branches.get_mut(value) {
                    branch.below.put_back(rest, pick);
                }
            }
        }
    }
}

/// The values that a node has of the labels over which tasks are spread.
pub(super) fn path(preferences: &[String], node: &Node) -> Vec<String> {
    preferences.iter().map(|key| label(key, node).unwrap_or_default().to_owned()).collect()
}
