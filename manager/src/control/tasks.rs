//! Tasks, as users may see them. Nobody but services makes or ends them.
//!
//! Start reading at the implementation of [`Tasks`].

use std::collections::BTreeSet;

use async_trait::async_trait;
use shoal_types::cluster::task::Task;
use shoal_types::{NodeId, ServiceId};

use super::Control;
use super::lookup::matches;
use crate::api::tasks::{TaskFilter, Tasks};
use crate::error::ClusterError;
use crate::orchestrator::is_dirty;
use crate::store::Snapshot;

#[async_trait]
impl Tasks for Control {
    async fn list(&self, filter: TaskFilter) -> Result<Vec<Task>, ClusterError> {
        let view = self.view();
        let services = filter
            .services
            .iter()
            .map(|name| self.find_service(&view, name).map(|service| service.id))
            .collect::<Result<BTreeSet<ServiceId>, _>>()?;
        let nodes = filter
            .nodes
            .iter()
            .map(|name| self.find_node(&view, name).map(|node| node.id))
            .collect::<Result<BTreeSet<NodeId>, _>>()?;
        let passes = |task: &&std::sync::Arc<Task>| {
            (nodes.is_empty() || task.node.is_some_and(|node| nodes.contains(&node)))
                && (services.is_empty() || services.contains(&task.service))
                && passes(&view, &filter, task)
        };
        // The narrowest index that applies; only a list without either looks at all tasks.
        Ok(if services.is_empty() && nodes.is_empty() {
            view.tasks().filter(passes).map(|task| Task::clone(task)).collect()
        } else if services.is_empty() {
            nodes
                .iter()
                .flat_map(|&node| view.tasks_on(node))
                .filter(passes)
                .map(|task| Task::clone(task))
                .collect()
        } else {
            services
                .iter()
                .flat_map(|&service| view.tasks_of(service))
                .filter(passes)
                .map(|task| Task::clone(task))
                .collect()
        })
    }

    async fn inspect(&self, name: &str) -> Result<Task, ClusterError> {
        let view = self.view();
        self.find_task(&view, name).map(|task| Task::clone(&task))
    }
}

fn passes(view: &Snapshot, filter: &TaskFilter, task: &Task) -> bool {
    (filter.desired.is_empty() || filter.desired.contains(&task.desired))
        && (filter.object == Default::default()
            || matches(&filter.object, &task.id, &task.name(), &task.labels))
        && filter.up_to_date.is_none_or(|wanted| {
            let is_current = view
                .service(task.service)
                .is_some_and(|service| !is_dirty(service, task, task.node.and_then(|node| view.node(node))));
            is_current == wanted
        })
}
