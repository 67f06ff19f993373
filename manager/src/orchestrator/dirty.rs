//! Whether a task is what its service wants now, or must be exchanged.
//!
//! Start reading at [`is_dirty`]. Pure; the rule is swarm's (spec/swarm.md 10.2) and shows in the progress bars of the command line.

use shoal_types::cluster::node::Node;
use shoal_types::cluster::service::{Service, TaskTemplate};
use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;

use crate::scheduler::constraint;

/// Whether a task must be exchanged for one of the service's present spec. `node` is the one that it was given, if any.
///
/// Another placement alone does not count while the node still qualifies, nor do other credentials once the image is there.
pub fn is_dirty(service: &Service, task: &Task, node: Option<&std::sync::Arc<Node>>) -> bool {
    if task.spec_version == service.spec_version {
        return false;
    }
    if task.endpoint != service.spec.endpoint {
        return true;
    }
    let wanted = &service.spec.template;
    if *wanted == *task.template {
        return false;
    }
    let with_placement = TaskTemplate { placement: task.template.placement.clone(), ..wanted.clone() };
    let qualifies = node.is_some_and(|node| constraint::meets_all(&wanted.placement.constraints, node));
    if with_placement == *task.template {
        return !qualifies;
    }
    let has_image = (TaskState::Ready..=TaskState::Running).contains(&task.status.state);
    let with_credentials = TaskTemplate { credentials: task.template.credentials.clone(), ..wanted.clone() };
    !(has_image && with_credentials == *task.template)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shoal_types::cluster::service::{
        PublishMode, PublishedServicePort, RegistryCredentials, ServiceMode,
    };
    use shoal_types::container::networking::Protocol;

    use super::*;
    use crate::fixtures;

    #[test]
    fn a_task_is_exchanged_exactly_when_swarm_would() {
        type Change = fn(&mut Service);
        let cases: [(Change, bool); 12] = [
            (|_| {}, false),
            (|service| service.spec.mode = ServiceMode::Replicated { replicas: 9 }, false),
            (|service| drop(service.spec.labels.insert("a".to_owned(), "b".to_owned())), false),
            (|service| service.spec.template.container.image = "nginx".to_owned(), true),
            (|service| service.spec.template.container.env.push("A=1".to_owned()), true),
            (|service| service.spec.template.force_update = 1, true),
            (|service| service.spec.template.restart.max_attempts = 3, true),
            (
                |service| {
                    service.spec.endpoint.ports.push(PublishedServicePort {
                        name: String::new(),
                        protocol: Protocol::Tcp,
                        target: 80,
                        published: 0,
                        mode: PublishMode::Ingress,
                    });
                },
                true,
            ),
            (
                |service| service.spec.template.placement.constraints.push("node.role==worker".to_owned()),
                false,
            ),
            (
                |service| service.spec.template.placement.constraints.push("node.role==manager".to_owned()),
                true,
            ),
            (|service| service.spec.template.credentials = Some(RegistryCredentials(vec![1])), false),
            (|service| service.spec.update = Some(Default::default()), false),
        ];
        for (number, (change, expected)) in cases.into_iter().enumerate() {
            let mut service = fixtures::service(1, 1);
            let task = fixtures::task(1, &service, 1, TaskState::Running);
            change(&mut service);
            service.spec_version += 1;
            let node = Arc::new(fixtures::node(1));
            assert_eq!(is_dirty(&service, &task, Some(&node)), expected, "case {number}");
        }
    }

    #[test]
    fn a_task_of_the_present_version_is_never_dirty() {
        let mut service = fixtures::service(1, 1);
        let task = fixtures::task(1, &service, 1, TaskState::Running);
        service.spec.template.container.image = "nginx".to_owned();
        assert!(!is_dirty(&service, &task, None));
    }
}
