//! What users, machines and elections do to a cluster.
//!
//! Start reading at [`World::disturb`].

use std::time::Duration;

use rand::Rng as _;
use shoal_types::cluster::node::{Availability, Node};
use shoal_types::cluster::service::{
    FailureAction, JobStatus, PublishMode, PublishedServicePort, RestartCondition, Service, ServiceMode,
    UpdateOrder, UpdatePolicy, UpdateState,
};
use shoal_types::container::networking::Protocol;

use super::{BEGINNING, World};
use crate::clock::{after, before};
use crate::control::rollback_started;
use crate::decisions::Decisions;
use crate::fixtures;
use crate::orchestrator::orphaned;
use crate::store::{Change, Draft, Key};

impl World {
    /// Does one thing, or nothing.
    pub(super) fn disturb(&mut self) {
        match self.rng.random_range(0..100) {
            0..6 => self.create_service(),
            6..12 => self.change_service(),
            12..14 => self.remove_service(),
            14..20 => self.cut_or_mend(),
            20..25 => self.change_node(),
            25..28 => self.elect(),
            28 => self.remove_node(),
            29..31 => self.add_node(),
            31..34 => self.turn_clock_back(),
            _ => {}
        }
    }

    /// Another leads. Its clock is another too, and it knows only what the one before has written.
    fn elect(&mut self) {
        self.decisions = Decisions::with_id_sequence(self.rng.random());
        self.machine = after(BEGINNING, self.elapsed);
        if self.rng.random_ratio(1, 2) {
            self.turn_clock_back();
        }
        self.now = self.machine.max(self.store.newest_time()).max(BEGINNING);
    }

    /// Turns the clock of the leader's machine back by up to an hour. It is not put right while that leads: a leader would follow,
    /// and waits that end early are what is checked against here.
    fn turn_clock_back(&mut self) {
        self.machine = before(self.machine, Duration::from_secs(self.rng.random_range(0..3600)));
    }

    /// Everybody comes back and nobody does anything any more.
    pub(super) fn make_peace(&mut self) {
        self.peace = true;
        for agent in self.agents.values_mut() {
            agent.cut_since = None;
        }
        let nodes: Vec<_> = self.store.nodes().cloned().collect();
        for node in nodes {
            let mut node = Node::clone(&node);
            node.spec.availability = Availability::Active;
            assert!(self.commit(&[Change::Update(node.into())]));
        }
        // An update that has stopped is set going again by its user.
        let services: Vec<_> = self.store.services().cloned().collect();
        for service in services {
            let is_paused = service.update.as_ref().is_some_and(|update| {
                matches!(update.state, UpdateState::Paused | UpdateState::RollbackPaused)
            });
            if is_paused {
                let mut service = Service::clone(&service);
                service.update = None;
                service.spec_version += 1;
                assert!(self.commit(&[Change::Update(service.into())]));
            }
        }
    }

    fn create_service(&mut self) {
        if self.store.services().count() >= 5 {
            return;
        }
        self.next_id += 1;
        let mut service = fixtures::service(self.next_id, 1);
        let rng = &mut self.rng;
        service.spec.mode = match rng.random_range(0..10) {
            0..6 => ServiceMode::Replicated { replicas: rng.random_range(0..6) },
            6..8 => ServiceMode::Global,
            8 => ServiceMode::ReplicatedJob {
                max_concurrent: rng.random_range(1..4),
                total_completions: rng.random_range(1..6),
            },
            _ => ServiceMode::GlobalJob,
        };
        let restart = &mut service.spec.template.restart;
        restart.delay = Duration::from_secs(rng.random_range(0..6));
        match rng.random_range(0..6) {
            0 => restart.condition = RestartCondition::OnFailure,
            1 => restart.condition = RestartCondition::None,
            2 => restart.max_attempts = rng.random_range(1..4),
            _ => {}
        }
        if rng.random_ratio(1, 3) {
            service.spec.endpoint.ports.push(PublishedServicePort {
                name: String::new(),
                protocol: Protocol::Tcp,
                target: 80,
                published: 0,
                mode: PublishMode::Ingress,
            });
        }
        match service.spec.mode.is_job() {
            true => service.job = Some(JobStatus { iteration: 0, last_execution: self.now }),
            false => {
                service.spec.update = Some(self.update_policy());
                service.spec.rollback =
                    Some(UpdatePolicy { on_failure: FailureAction::Pause, ..self.update_policy() });
            }
        }
        let mut draft = Draft::new(&self.store, self.now);
        draft.create(service).unwrap();
        assert!(self.commit(&draft.into_changes()));
    }

    fn update_policy(&mut self) -> UpdatePolicy {
        let rng = &mut self.rng;
        UpdatePolicy {
            parallelism: rng.random_range(0..3),
            delay: Duration::from_secs(rng.random_range(0..3)),
            on_failure: match rng.random_range(0..3) {
                0 => FailureAction::Pause,
                1 => FailureAction::Continue,
                _ => FailureAction::Rollback,
            },
            monitor: Duration::from_secs(rng.random_range(1..8)),
            max_failure_ratio: if rng.random_ratio(1, 2) { 0.0 } else { 0.5 },
            order: if rng.random_ratio(1, 2) { UpdateOrder::StopFirst } else { UpdateOrder::StartFirst },
        }
    }

    fn pick_service(&mut self) -> Option<Service> {
        let n = self.store.services().count();
        let place = self.rng.random_range(0..n.max(1));
        self.store.services().nth(place).map(|service| Service::clone(service))
    }

    fn change_service(&mut self) {
        let Some(mut service) = self.pick_service() else { return };
        let before = service.spec.clone();
        service.update = None;
        match self.rng.random_range(0..4) {
            0 => match &mut service.spec.mode {
                ServiceMode::Replicated { replicas } => *replicas = self.rng.random_range(0..7),
                _ => return,
            },
            1 => {
                let Some(previous) = service.previous.take() else { return };
                service.spec = *previous;
                service.update = Some(rollback_started(self.now, "manually requested rollback"));
            }
            _ => service.spec.template.container.image = format!("image{}", self.rng.random_range(0..1000)),
        }
        service.previous = Some(Box::new(before));
        service.spec_version += 1;
        if let Some(job) = &mut service.job {
            job.iteration += 1;
            service.update = None;
        }
        assert!(self.commit(&[Change::Update(service.into())]));
    }

    fn remove_service(&mut self) {
        let Some(service) = self.pick_service() else { return };
        assert!(self.commit(&[Change::Remove(Key::Service(service.id))]));
    }

    fn cut_or_mend(&mut self) {
        let place = self.rng.random_range(0..self.agents.len().max(1));
        let now = self.elapsed;
        if let Some(agent) = self.agents.values_mut().nth(place) {
            agent.cut_since = match agent.cut_since {
                None => Some(now),
                Some(_) => None,
            };
        }
    }

    fn change_node(&mut self) {
        let n = self.store.n_nodes();
        let place = self.rng.random_range(0..n.max(1));
        let Some(mut node) = self.store.nodes().nth(place).map(|node| Node::clone(node)) else { return };
        node.spec.availability = match self.rng.random_range(0..4) {
            0 => Availability::Drain,
            1 => Availability::Pause,
            _ => Availability::Active,
        };
        assert!(self.commit(&[Change::Update(node.into())]));
    }

    fn remove_node(&mut self) {
        if self.store.n_nodes() < 3 {
            return;
        }
        let place = self.rng.random_range(0..self.store.n_nodes());
        let Some(id) = self.store.nodes().nth(place).map(|node| node.id) else { return };
        let mut draft = Draft::new(&self.store, self.now);
        let tasks: Vec<_> =
            self.store.tasks_on(id).filter(|task| !task.status.state.is_terminal()).cloned().collect();
        self.strays.extend(tasks.iter().map(|task| task.id));
        for task in tasks {
            draft.update(orphaned(&task, self.now)).unwrap();
        }
        draft.remove(Key::Node(id)).unwrap();
        assert!(self.commit(&draft.into_changes()));
        // A node that was removed ends what it ran.
        self.agents.remove(&id);
    }

    fn add_node(&mut self) {
        if self.store.n_nodes() >= 7 {
            return;
        }
        self.next_id += 1;
        let node = fixtures::node(self.next_id);
        self.agents.insert(node.id, Default::default());
        assert!(self.commit(&[Change::Create(node.into())]));
    }
}
