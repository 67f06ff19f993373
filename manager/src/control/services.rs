//! Services, as users make, change and end them.
//!
//! Start reading at the implementation of [`Services`]. A change is written as a new spec and version; exchanging the tasks is the
//! orchestrators' business, who are asked here only for a new service's first, ports and addresses are the allocator's.

use async_trait::async_trait;
use jiff::Timestamp;
use shoal_types::cluster::secret::{ConfigReference, SecretReference};
use shoal_types::cluster::service::{
    JobStatus, PublishMode, RegistryCredentials, Service, ServiceMode, ServiceSpec, UpdateState, UpdateStatus,
};
use shoal_types::{ErrorKind, ServiceId};

use super::Control;
use super::counts::count;
use super::lookup::matches;
use super::refusal::{Code, out_of_sequence, refuse};
use super::{names, validate};
use crate::allocator::uses_ingress;
use crate::api::services::{CredentialsOf, ServiceFilter, ServiceUpdate, Services, TaskCounts, UpdateTarget};
use crate::error::ClusterError;
use crate::orchestrator::reconcile_service;
use crate::store::{Key, ObjectKind, Snapshot};

/// What a rollback says that a user has asked for.
const MANUAL_ROLLBACK: &str = "manually requested rollback";

#[async_trait]
impl Services for Control {
    async fn create(
        &self,
        mut spec: ServiceSpec,
        credentials: Option<RegistryCredentials>,
    ) -> Result<ServiceId, ClusterError> {
        let mut draft = self.draft();
        let view = draft.view();
        if spec.name.is_empty() {
            spec.name = names::draw(|name| view.by_name(ObjectKind::Service, name).is_none());
        }
        if credentials.is_some() {
            spec.template.credentials = credentials;
        }
        self.resolve_networks(view, &mut spec)?;
        validate::service(&spec)?;
        let id = ServiceId::random();
        check_references(view, id, &spec)?;
        if view.by_name(ObjectKind::Service, &spec.name).is_some() {
            return Err(Code::AlreadyExists.refuse(format_args!(
                "name conflicts with an existing object: service {} already exists",
                spec.name
            )));
        }
        draft.create(Service::new(id, spec, draft.now()))?;
        // Its first tasks come with it: a change that follows at once exchanges them, and is an update that clients can wait for.
        reconcile_service(&mut draft, id)?;
        self.commit(draft).await?;
        Ok(id)
    }

    async fn list(&self, filter: ServiceFilter) -> Result<Vec<(Service, TaskCounts)>, ClusterError> {
        let view = self.view();
        Ok(view
            .services()
            .filter(|service| {
                matches(&filter.object, &service.id, &service.spec.name, &service.spec.labels)
                    && (filter.modes.is_empty()
                        || filter.modes.iter().any(|mode| mode == mode_name(&service.spec.mode)))
            })
            .map(|service| (Service::clone(service), count(service, view.tasks_of(service.id))))
            .collect())
    }

    async fn inspect(&self, name: &str) -> Result<Service, ClusterError> {
        let view = self.view();
        self.find_service(&view, name).map(|service| Service::clone(&service))
    }

    async fn update(&self, name: &str, update: ServiceUpdate) -> Result<Vec<String>, ClusterError> {
        let mut draft = self.draft();
        let view = draft.view();
        let mut service = Service::clone(&*self.find_service(view, name)?);
        if update.version != service.meta.version {
            return Err(out_of_sequence());
        }
        let previous = service.spec.clone();
        let now = draft.now();
        match update.target {
            UpdateTarget::Spec(spec) => {
                let mut spec = *spec;
                self.resolve_networks(view, &mut spec)?;
                if update.credentials.is_none() {
                    keep_credentials(&mut spec, &service, update.credentials_of)?;
                }
                service.spec = spec;
                service.update = None;
            }
            UpdateTarget::Previous => {
                let Some(before) = service.previous.take() else {
                    return Err(Code::FailedPrecondition
                        .refuse(format_args!("service {} does not have a previous spec", service.id)));
                };
                service.spec = *before;
                service.update = Some(rollback_started(now, MANUAL_ROLLBACK));
            }
        }
        if update.credentials.is_some() {
            service.spec.template.credentials = update.credentials;
        }
        validate::service(&service.spec)?;
        may_become(&previous, &service.spec)?;
        check_references(view, service.id, &service.spec)?;
        service.previous = Some(Box::new(previous));
        service.spec_version = service.spec_version.saturating_add(1);
        if let Some(job) = &mut service.job {
            *job = JobStatus { iteration: job.iteration.saturating_add(1), last_execution: now };
        }
        draft.update(service)?;
        self.commit(draft).await?;
        Ok(Vec::new())
    }

    async fn remove(&self, name: &str) -> Result<(), ClusterError> {
        let mut draft = self.draft();
        let service = self.find_service(draft.view(), name)?;
        draft.remove(Key::Service(service.id))?;
        self.commit(draft).await
    }
}

/// The status of an update that goes back.
pub(crate) fn rollback_started(now: Timestamp, message: impl Into<String>) -> UpdateStatus {
    UpdateStatus {
        state: UpdateState::RollbackStarted,
        started: now,
        completed: None,
        message: message.into(),
    }
}

/// The name of a mode in filters.
fn mode_name(mode: &ServiceMode) -> &'static str {
    match mode {
        ServiceMode::Replicated { .. } => "replicated",
        ServiceMode::Global => "global",
        ServiceMode::ReplicatedJob { .. } => "replicated-job",
        ServiceMode::GlobalJob => "global-job",
    }
}

/// Takes over credentials from the present spec or the one before, for an update that brings none.
fn keep_credentials(
    spec: &mut ServiceSpec,
    service: &Service,
    of: CredentialsOf,
) -> Result<(), ClusterError> {
    if spec.template.credentials.is_some() {
        return Ok(());
    }
    let kept = match (of, &service.previous) {
        (CredentialsOf::Spec, _) => &service.spec,
        (CredentialsOf::PreviousSpec, Some(previous)) => previous,
        (CredentialsOf::PreviousSpec, None) => {
            return Err(refuse(ErrorKind::InvalidArgument, "service does not have a previous spec"));
        }
    };
    spec.template.credentials.clone_from(&kept.template.credentials);
    Ok(())
}

/// Refuses what swarm cannot change of a service that exists.
fn may_become(before: &ServiceSpec, after: &ServiceSpec) -> Result<(), ClusterError> {
    if before.name != after.name {
        return Err(Code::Unimplemented.refuse("renaming services is not supported"));
    }
    if mode_name(&before.mode) != mode_name(&after.mode) {
        return Err(Code::Unimplemented.refuse("service mode change is not allowed"));
    }
    Ok(())
}

impl Control {
    /// Puts ids in place of names of networks, so that a network that is made again later is not meant.
    fn resolve_networks(&self, view: &Snapshot, spec: &mut ServiceSpec) -> Result<(), ClusterError> {
        for wish in &mut spec.template.networks {
            let network = self.find_network(view, &wish.target)?;
            if network.spec.ingress {
                return Err(Code::InvalidArgument.refuse(format_args!(
                    "Service cannot be explicitly attached to the ingress network {:?}",
                    network.spec.name
                )));
            }
            network.id.as_str().clone_into(&mut wish.target);
        }
        Ok(())
    }
}

/// Whether everything that a service names is there, and what it claims is free.
fn check_references(view: &Snapshot, id: ServiceId, spec: &ServiceSpec) -> Result<(), ClusterError> {
    let container = &spec.template.container;
    // A reference names its object twice, and both must be right.
    let is_secret = |reference: &SecretReference| {
        view.secret(reference.id).is_some_and(|secret| secret.spec.name == reference.name)
    };
    let is_config = |reference: &ConfigReference| {
        view.config(reference.id).is_some_and(|config| config.spec.name == reference.name)
    };
    let missing = container.secrets.iter().filter(|reference| !is_secret(reference));
    refuse_missing("secret", &missing.map(|reference| reference.name.as_str()).collect::<Vec<_>>())?;
    let missing = container.configs.iter().filter(|reference| !is_config(reference));
    refuse_missing("config", &missing.map(|reference| reference.name.as_str()).collect::<Vec<_>>())?;
    if uses_ingress(&spec.endpoint) && !view.networks().any(|network| network.spec.ingress) {
        return Err(Code::FailedPrecondition
            .refuse("service needs ingress network, but no ingress network is present"));
    }
    check_ports(view, id, spec)
}

/// Refuses a service because of the secrets or configs that it names and that are not there, if there are any.
fn refuse_missing(kind: &str, names: &[&str]) -> Result<(), ClusterError> {
    let plural = match names {
        [] => return Ok(()),
        [_] => "",
        _ => "s",
    };
    Err(Code::InvalidArgument.refuse(format_args!("{kind}{plural} not found: {}", names.join(", "))))
}

/// Whether no other service has a published port in a way that the two would meet on a node.
fn check_ports(view: &Snapshot, id: ServiceId, spec: &ServiceSpec) -> Result<(), ClusterError> {
    let refuse_port = |port: u16, other: ServiceId, how: &str| {
        let name = view.service(other).map(|other| other.spec.name.clone()).unwrap_or_default();
        Code::InvalidArgument.refuse(format_args!(
            "port '{port}' is already in use by service '{name}' ({other}) as {how} port"
        ))
    };
    for port in spec.endpoint.ports.iter().filter(|port| port.published != 0) {
        if let Some(other) = view.service_of_port(port.protocol, port.published).filter(|&other| other != id)
        {
            return Err(refuse_port(port.published, other, "an ingress"));
        }
        if port.mode == PublishMode::Ingress
            && let Some(other) =
                view.services_of_host_port(port.protocol, port.published).find(|&other| other != id)
        {
            return Err(refuse_port(port.published, other, "a host-published"));
        }
    }
    Ok(())
}
