//! How changes become the next view of the store. Every manager does this with the same result.
//!
//! Start reading at [`Snapshot::apply`]. Pure; times come with the changes.

use std::sync::Arc;

use jiff::Timestamp;
use shoal_types::cluster::node::{Node, NodeDescription, NodeStatus};
use shoal_types::cluster::service::Service;
use shoal_types::cluster::task::{Task, TaskStatus};
use shoal_types::cluster::task_state::TaskState;
use shoal_types::{NodeId, TaskId};

use super::change::{Change, Conflict};
use super::index::{addresses, attachment_addresses, ingress_ports, node_addresses, vnis};
use super::object::{Key, Object};
use super::snapshot::Snapshot;

/// For how many lists of changes it is remembered what they concerned.
const RECENT_CHANGES: usize = 1024;

/// Whether versions are checked and set, or left as they were read (in a draft).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    /// They become this index.
    At(u64),
    /// They stay.
    Kept,
}

impl Versions {
    fn stamp(self, mut object: Object) -> Object {
        if let Self::At(index) = self {
            object.meta_mut().version = index;
        }
        object
    }
}

impl Snapshot {
    /// Applies all changes, or none and says why. Objects that were changed have `index` as their version then.
    ///
    /// `index` must be above [`Self::index`]; an empty list only moves the index on.
    pub fn apply(&mut self, index: u64, changes: &[Change]) -> Result<(), Conflict> {
        let mut next = self.clone();
        for change in changes {
            next.apply_one(Versions::At(index), change)?;
        }
        next.index = index;
        if !changes.is_empty() {
            next.recent.insert_mut(index, changes.iter().map(Change::key).collect());
        }
        while next.recent.size() > RECENT_CHANGES {
            let Some(oldest) = next.recent.first().map(|(&oldest, _)| oldest) else { break };
            next.recent.remove_mut(&oldest);
            next.recent_since = oldest;
        }
        *self = next;
        Ok(())
    }

    /// Applies one change.
    pub(super) fn apply_one(&mut self, versions: Versions, change: &Change) -> Result<(), Conflict> {
        match change {
            Change::Create(object) => {
                if self.get(&object.key()).is_some() {
                    return Err(Conflict::Exists(object.key()));
                }
                self.check(object)?;
                self.put(versions.stamp(object.clone()));
            }
            Change::Update(object) => {
                let key = object.key();
                let stored = self.get(&key).ok_or_else(|| Conflict::Missing(key.clone()))?;
                // Within one list a later change may follow an earlier one to the same object.
                let is_own = matches!(versions, Versions::At(index) if stored.meta().version == index);
                if stored.meta().version != object.meta().version && !is_own {
                    return Err(Conflict::OutOfSequence(key));
                }
                self.check(object)?;
                self.put(versions.stamp(object.clone()));
            }
            Change::Remove(key) => {
                self.take(key);
            }
            Change::Desire { task, state, at } => self.desire(versions, *task, *state, *at),
            Change::ReportTask { task, status, at } => self.report_task(versions, *task, status, *at),
            Change::ReportNode { node, status, description, at } => {
                self.report_node(versions, *node, (status, description.as_ref()), *at);
            }
        }
        Ok(())
    }

    /// Puts an object that comes from elsewhere in place of the one with its key, if there is one.
    pub(super) fn put(&mut self, object: Object) {
        let object = self.share_template(object);
        self.exchange(object);
    }

    /// Puts an object, which has of the stored one whatever they have in common, in its place.
    fn exchange(&mut self, object: Object) {
        match self.get(&object.key()) {
            Some(before) => self.indexes.exchange(&before, &object),
            None => self.indexes.add(&object),
        }
        match object {
            Object::Cluster(object) => self.cluster = Some(object),
            Object::Authority(object) => self.authority = Some(object),
            Object::Node(object) => self.nodes.insert_mut(object.id, object),
            Object::Service(object) => self.services.insert_mut(object.id, object),
            Object::Task(object) => self.tasks.insert_mut(object.id, object),
            Object::Network(object) => self.networks.insert_mut(object.id.clone(), object),
            Object::Secret(object) => self.secrets.insert_mut(object.id, object),
            Object::Config(object) => self.configs.insert_mut(object.id, object),
            Object::Revocation(object) => self.revocations.insert_mut(object.node, object),
            Object::Attachment(object) => self.attachments.insert_mut(object.id, object),
        }
    }

    fn take(&mut self, key: &Key) {
        let Some(object) = self.get(key) else { return };
        self.indexes.remove(&object);
        match key {
            Key::Cluster => self.cluster = None,
            Key::Authority => self.authority = None,
            Key::Node(id) => drop(self.nodes.remove_mut(id)),
            Key::Service(id) => drop(self.services.remove_mut(id)),
            Key::Task(id) => drop(self.tasks.remove_mut(id)),
            Key::Network(id) => drop(self.networks.remove_mut(id)),
            Key::Secret(id) => drop(self.secrets.remove_mut(id)),
            Key::Config(id) => drop(self.configs.remove_mut(id)),
            Key::Revocation(id) => drop(self.revocations.remove_mut(id)),
            Key::Attachment(id) => drop(self.attachments.remove_mut(id)),
        }
    }

    /// Lets a task share its template with another of its spec; a template is most of a task, and a thousand tasks have one.
    fn share_template(&self, object: Object) -> Object {
        let Object::Task(task) = object else { return object };
        let twin = self
            .tasks_of(task.service)
            .next()
            .filter(|twin| !Arc::ptr_eq(&twin.template, &task.template) && twin.template == task.template);
        match twin {
            Some(twin) => Object::from(Task { template: Arc::clone(&twin.template), ..Task::clone(&task) }),
            None => Object::Task(task),
        }
    }

    /// Whether an object may have what it claims: name, ports, addresses, identifiers.
    fn check(&self, object: &Object) -> Result<(), Conflict> {
        let key = object.key();
        if let Some(name) = object.unique_name()
            && self.by_name(object.kind(), name).is_some_and(|owner| *owner != key)
        {
            return Err(Conflict::NameTaken { kind: object.kind(), name: name.to_owned() });
        }
        match object {
            Object::Service(service) => self.check_service(service),
            Object::Task(task) => addresses(task).try_for_each(|address| self.check_address(&address, &key)),
            Object::Network(network) => vnis(network).try_for_each(|vni| {
                match self.indexes.vnis.get(&vni).is_some_and(|owner| *owner != network.id) {
                    true => Err(Conflict::AddressTaken { what: format!("VNI {vni}") }),
                    false => Ok(()),
                }
            }),
            Object::Node(node) => {
                node_addresses(node).try_for_each(|address| self.check_address(&address, &key))
            }
            Object::Attachment(attachment) => {
                attachment_addresses(attachment).try_for_each(|address| self.check_address(&address, &key))
            }
            Object::Cluster(_)
            | Object::Authority(_)
            | Object::Secret(_)
            | Object::Config(_)
            | Object::Revocation(_) => Ok(()),
        }
    }

    fn check_service(&self, service: &Service) -> Result<(), Conflict> {
        for (protocol, port) in ingress_ports(service) {
            if let Some(owner) = self.service_of_port(protocol, port).filter(|&owner| owner != service.id) {
                let name = self.service(owner).map(|owner| owner.spec.name.clone()).unwrap_or_default();
                return Err(Conflict::PortTaken { port, name, service: owner });
            }
        }
        let key = Key::Service(service.id);
        service
            .endpoint
            .virtual_ips
            .iter()
            .try_for_each(|(network, address)| self.check_address(&(network.clone(), address.addr()), &key))
    }

    fn check_address(
        &self,
        address: &(shoal_types::NetworkId, std::net::IpAddr),
        key: &Key,
    ) -> Result<(), Conflict> {
        match self.indexes.addresses.get(address) {
            Some(owner) if owner != key => Err(Conflict::AddressTaken {
                what: format!("address {} of network {}", address.1, address.0),
            }),
            _ => Ok(()),
        }
    }

    fn desire(&mut self, versions: Versions, id: TaskId, state: TaskState, at: Timestamp) {
        let Some(task) = self.task(id).filter(|task| task.desired < state) else { return };
        let mut task = Task::clone(task);
        task.desired = state;
        task.meta.updated = at;
        self.exchange(versions.stamp(task.into()));
    }

    fn report_task(&mut self, versions: Versions, id: TaskId, status: &TaskStatus, at: Timestamp) {
        let Some(task) = self.task(id).filter(|task| task.status.state <= status.state) else { return };
        let mut task = Task::clone(task);
        let has_failed = !task.status.state.is_terminal()
            && matches!(status.state, TaskState::Failed | TaskState::Rejected)
            && task.is_wanted();
        if status.state == TaskState::Running {
            task.started.get_or_insert(at);
        }
        if status.state.is_terminal() {
            task.ended.get_or_insert(at);
        }
        task.status = status.clone();
        task.meta.updated = at;
        if has_failed {
            self.indexes.note_failure(&task, at);
        }
        self.exchange(versions.stamp(task.into()));
    }

    fn report_node(
        &mut self,
        versions: Versions,
        id: NodeId,
        (status, description): (&NodeStatus, Option<&NodeDescription>),
        at: Timestamp,
    ) {
        let Some(node) = self.node(id) else { return };
        let mut node = Node::clone(node);
        let since = match node.status.state == status.state {
            true => node.status.since,
            false => Some(at),
        };
        node.status = NodeStatus { since, ..status.clone() };
        if let Some(description) = description {
            node.description = Some(description.clone());
        }
        node.meta.updated = at;
        self.exchange(versions.stamp(node.into()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use shoal_types::cluster::service::{PublishMode, PublishedServicePort};
    use shoal_types::cluster::task::TaskAttachment;
    use shoal_types::container::networking::Protocol;
    use shoal_types::{NetworkId, ServiceId};

    use super::*;
    use crate::fixtures::{at, node, service, status, task};
    use crate::store::{Draft, NodeLoad, ObjectKind};

    fn store_of(objects: impl IntoIterator<Item = Object>) -> Snapshot {
        Snapshot::from_objects(10, objects)
    }

    #[test]
    fn an_update_of_an_older_version_is_out_of_sequence_and_nothing_is_applied() {
        let mut store = store_of([service(1, 1).into(), service(2, 1).into()]);
        let seen = Service::clone(store.service(ServiceId::from_u128(1)).unwrap());
        store.apply(11, &[Change::Update(seen.clone().into())]).unwrap();
        let result = store
            .apply(12, &[Change::Remove(Key::Service(ServiceId::from_u128(2))), Change::Update(seen.into())]);
        assert_eq!(result, Err(Conflict::OutOfSequence(Key::Service(ServiceId::from_u128(1)))));
        assert!(store.service(ServiceId::from_u128(2)).is_some());
        assert_eq!(store.index(), 11);
        assert_eq!(store.service(ServiceId::from_u128(1)).unwrap().meta.version, 11);
    }

    #[test]
    fn a_name_is_unique_within_its_kind_and_free_again_after_a_removal() {
        let mut store = store_of([service(1, 1).into()]);
        let mut other = service(2, 1);
        other.spec.name = "service1".to_owned();
        let taken = Conflict::NameTaken { kind: ObjectKind::Service, name: "service1".to_owned() };
        assert_eq!(
            taken.to_string(),
            "name conflicts with an existing object: service service1 already exists"
        );
        assert_eq!(store.apply(11, &[Change::Create(other.clone().into())]), Err(taken));
        let key = Key::Service(ServiceId::from_u128(1));
        store.apply(11, &[Change::Remove(key), Change::Create(other.into())]).unwrap();
        assert_eq!(
            store.by_name(ObjectKind::Service, "service1"),
            Some(&Key::Service(ServiceId::from_u128(2)))
        );
    }

    #[test]
    fn an_ingress_port_belongs_to_one_service() {
        let publishing = |number| {
            let mut service = service(number, 1);
            service.spec.endpoint.ports.push(PublishedServicePort {
                name: String::new(),
                protocol: Protocol::Tcp,
                target: 80,
                published: 8080,
                mode: PublishMode::Ingress,
            });
            Object::from(service)
        };
        let mut store = store_of([publishing(1)]);
        let error = store.apply(11, &[Change::Create(publishing(2))]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "port '8080' is already in use by service 'service1' (0000000000000000000000001) as an ingress port"
        );
    }

    #[test]
    fn observed_states_only_go_forward_and_times_are_kept() {
        let service = service(1, 1);
        let mut store = store_of([task(1, &service, 1, TaskState::Assigned).into()]);
        let id = TaskId::from_u128(1);
        let report =
            |state, seconds| Change::ReportTask { task: id, status: status(state, at(0)), at: at(seconds) };
        store.apply(11, &[report(TaskState::Running, 5)]).unwrap();
        store.apply(12, &[report(TaskState::Starting, 6)]).unwrap();
        store.apply(13, &[report(TaskState::Running, 7), report(TaskState::Failed, 8)]).unwrap();
        let task = store.task(id).unwrap();
        assert_eq!(task.status.state, TaskState::Failed);
        assert_eq!((task.started, task.ended), (Some(at(5)), Some(at(8))));
    }

    #[test]
    fn changes_since_an_index_are_told_until_that_is_too_long_ago() {
        let mut store = store_of([service(1, 1).into()]);
        for index in 11..11 + 2 * RECENT_CHANGES as u64 {
            let seen = store.service(ServiceId::from_u128(1)).unwrap().clone();
            store.apply(index, &[Change::Update(seen.into())]).unwrap();
        }
        assert!(store.changed_since(11).is_none());
        assert_eq!(store.changed_since(store.index() - 3).unwrap().count(), 3);
        assert_eq!(store.changed_since(store.index()).unwrap().count(), 0);
    }

    #[test]
    fn a_drafts_changes_lead_where_its_view_was() {
        let store = Arc::new(store_of([service(1, 1).into(), node(1).into()]));
        let mut draft = Draft::new(&store, at(3));
        let owner = service(1, 1);
        draft.create(task(1, &owner, 1, TaskState::New)).unwrap();
        draft.create(task(2, &owner, 2, TaskState::New)).unwrap();
        let mut first = Task::clone(draft.view().task(TaskId::from_u128(1)).unwrap());
        first.status.state = TaskState::Pending;
        draft.update(first).unwrap();
        draft.desire(TaskId::from_u128(1), TaskState::Shutdown).unwrap();
        draft.remove(Key::Task(TaskId::from_u128(2))).unwrap();
        let view = draft.view().clone();
        let changes = draft.into_changes();
        assert_eq!(changes.len(), 1);
        let mut after = Snapshot::clone(&store);
        after.apply(11, &changes).unwrap();
        let (drafted, applied) = (view.task(TaskId::from_u128(1)), after.task(TaskId::from_u128(1)));
        assert_eq!(
            drafted.map(|task| (task.desired, &task.status)),
            applied.map(|task| (task.desired, &task.status))
        );
        assert_eq!(after.n_tasks(), 1);
    }

    /// A task that takes something of its node.
    fn demanding_task(number: u128, owner: &Service) -> Task {
        let mut task = task(number, owner, number.try_into().unwrap(), TaskState::Pending);
        Arc::make_mut(&mut task.template).resources.reserved_memory = 7;
        task.endpoint.ports.push(PublishedServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            target: 80,
            published: 8000 + u16::try_from(number).unwrap(),
            mode: PublishMode::Host,
        });
        task.networks.push(TaskAttachment {
            network: NetworkId::new("net"),
            addresses: vec![format!("10.0.1.{number}/24").parse().unwrap()],
            aliases: Vec::new(),
            driver_options: BTreeMap::new(),
        });
        task
    }

    proptest! {
        #[test]
        fn indexes_are_what_the_objects_say(steps in prop::collection::vec((0u8..9, 1u128..6, 1u128..4), 1..60)) {
            let mut store = store_of([service(1, 1).into(), node(1).into(), node(2).into(), node(3).into()]);
            for (step, (kind, number, other)) in steps.into_iter().enumerate() {
                let owner = service(other, 1);
                let id = TaskId::from_u128(number);
                let report = |state| Change::ReportTask { task: id, status: status(state, at(1)), at: at(1) };
                let change = match kind {
                    0 => Change::Create(task(number, &owner, number.try_into().unwrap(), TaskState::Pending).into()),
                    1 => Change::Create(demanding_task(number, &owner).into()),
                    2 => Change::Remove(Key::Task(id)),
                    3 => Change::Desire { task: id, state: TaskState::Remove, at: at(1) },
                    4 => report(TaskState::Failed),
                    5 => report(TaskState::Preparing),
                    6 => report(TaskState::Running),
                    _ => match store.task(id) {
                        None => continue,
                        Some(task) => {
                            let mut task = Task::clone(task);
                            task.node = Some(NodeId::from_u128(other));
                            task.status.state = task.status.state.max(TaskState::Assigned);
                            Change::Update(task.into())
                        }
                    },
                };
                // Conflicts are part of the play; what is not applied must leave no trace.
                let _ = store.apply(11 + step as u64, &[change]);
            }
            let rebuilt = Snapshot::from_objects(store.index(), store.objects());
            prop_assert!(store.indexes.places == rebuilt.indexes.places);
            prop_assert!(store.indexes.by_node == rebuilt.indexes.by_node);
            prop_assert!(store.indexes.unallocated == rebuilt.indexes.unallocated);
            prop_assert!(store.indexes.unassigned == rebuilt.indexes.unassigned);
            prop_assert!(store.indexes.disposable == rebuilt.indexes.disposable);
            prop_assert!(store.indexes.addresses == rebuilt.indexes.addresses);
            for node in store.nodes() {
                let counted = |store: &Snapshot| store.load(node.id).map(NodeLoad::without_failures).unwrap_or_default();
                prop_assert_eq!(counted(&store), counted(&rebuilt));
            }
        }
    }
}
