//! Logs that go elsewhere: opened at the start of a container, found again after a restart of the daemon.
//!
//! Start reading at [`open`]. Sending is `crate::logs::forward`'s, drivers and their options are `crate::logs::remote`'s.

use std::io;
use std::sync::Arc;

use shoal_types::container::spec::ContainerSpec;
use shoal_types::{ContainerId, ErrorKind};

use super::Shared;
use super::record::ContainerRecord;
use crate::error::{ErrorChain, NodeError};
use crate::logs::forward::Job;
use crate::logs::remote::connection::Connection;
use crate::logs::remote::{self, Endpoint, Identity, Opening, Target};
use crate::logs::settings::{self, Subject};
use crate::runtime::launch;

/// Docker's words before a failure to reach the receiver of a log.
const DRIVER_FAILED: &str = "failed to initialize logging driver";

/// Where a container's log goes, and the way there if it is open already.
#[derive(Debug)]
pub(super) struct Forwarding {
    target: Target,
    connection: Option<Connection>,
}

/// Opens the way to where a container's log goes; `None` when it stays here. A receiver that does not answer is a mistake
/// that the user should see at once, so the container does not start unless its options say that it may.
pub(super) async fn open(spec: &ContainerSpec) -> Result<Option<Forwarding>, NodeError> {
    let Some(target) = target(spec)? else { return Ok(None) };
    let connection = match target.opening {
        Opening::Later => None,
        Opening::Required => {
            let opened = Connection::open(&target.endpoint).await;
            Some(opened.map_err(|error| unreachable(&target.endpoint, &error))?)
        }
    };
    Ok(Some(Forwarding { target, connection }))
}

/// Nobody listens where the user said that somebody does: told, but no fault of the engine.
fn unreachable(endpoint: &Endpoint, error: &io::Error) -> NodeError {
    let reason = error.raw_os_error().map_or_else(|| error.to_string(), node_runtime::errno_text);
    let message = format!("{DRIVER_FAILED}: dial {endpoint}: {reason}");
    NodeError::Refused { kind: ErrorKind::Internal, message }
}

fn target(spec: &ContainerSpec) -> Result<Option<Target>, NodeError> {
    if !remote::is_remote(&spec.logging.driver) {
        return Ok(None);
    }
    Target::parse(&spec.logging.driver, &spec.logging.options).map(Some)
}

impl Shared {
    /// Sends the log of a run that begins.
    pub(super) fn forward_log(
        self: &Arc<Self>,
        id: ContainerId,
        record: &ContainerRecord,
        forwarding: Forwarding,
    ) {
        let job = Job {
            container: id,
            directory: self.directory(id),
            config: launch::stored_log(id, &record.spec, self.log_path(id)),
            identity: identity(id, record),
            target: forwarding.target,
            connection: forwarding.connection,
            news: self.log_news.clone(),
        };
        self.forwarders.begin(job, |task| self.spawn(task));
    }

    /// Goes on sending a log after a restart of the daemon, of a container that runs or that has ended meanwhile.
    pub(crate) fn resume_log(self: &Arc<Self>, id: ContainerId, record: &ContainerRecord, is_running: bool) {
        match target(&record.spec) {
            Ok(None) => {}
            Ok(Some(target)) => {
                self.forward_log(id, record, Forwarding { target, connection: None });
                if !is_running {
                    self.forwarders.end_run(id);
                }
            }
            Err(error) => {
                let error = ErrorChain(&error);
                tracing::error!(container.id = %id, %error, "log of a container cannot be sent on");
            }
        }
    }
}

fn identity(id: ContainerId, record: &ContainerRecord) -> Identity {
    let (id, spec) = (id.to_string(), &record.spec);
    let image_id = record.image_id.map(|id| id.to_string()).unwrap_or_default();
    let subject = Subject {
        id: &id,
        name: &record.name,
        image: &spec.image,
        image_id: &image_id,
        labels: &spec.labels,
        env: &spec.process.env,
    };
    let options = &spec.logging.options;
    Identity {
        name: record.name.clone(),
        image: spec.image.clone(),
        command: record.command.join(" "),
        created: record.created,
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        attributes: settings::attributes(options, subject),
        tag: settings::expand_tag(remote::tag_of(options), subject),
        image_id: image_id.clone(),
        id: id.clone(),
    }
}
