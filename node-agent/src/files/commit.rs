//! An image of a container as it is.
//!
//! Start reading at [`Files::commit_container`]. Packing the writable layer and recording the image is
//! `images/commit.rs`; here the container is frozen meanwhile and its configuration put into the image's form.

use std::collections::BTreeMap;
use std::time::Duration;

use shoal_types::ImageId;
use shoal_types::container::health::{HealthSpec, HealthTest};
use shoal_types::container::mounts::MountOrigin;
use shoal_types::container::spec::ContainerSpec;
use shoal_types::container::state::ContainerState;

use super::Files;
use crate::api::containers::Containers as _;
use crate::api::files::CommitRequest;
use crate::api::images::{EmptyObject, ImageHealthcheck, ImageRunConfig};
use crate::containers::Handle;
use crate::error::{ErrorChain, NodeError};
use crate::images::CommitLayer;
use crate::layers::SnapshotKey;

impl Files {
    /// Makes the image. To be run as a task: a container that was frozen must be thawed, whatever happens.
    pub(super) async fn commit_container(
        &self,
        handle: &Handle,
        request: CommitRequest,
    ) -> Result<ImageId, NodeError> {
        let id = handle.id().to_string();
        let is_running = matches!(handle.view().state, ContainerState::Running(_));
        let is_frozen = request.pause && is_running && self.engine.pause(&id).await.is_ok();
        let view = handle.view();
        let underlying = run_config(&view.spec);
        let comment = request.comment.clone();
        let reference = request.reference.clone();
        let committed = self
            .images
            .commit_layer(CommitLayer {
                parent: view.image_id,
                parent_manifest: view.image_manifest.as_ref().map(|manifest| manifest.digest),
                snapshot: Some(SnapshotKey::container(&view.id)),
                // Without a configuration of its own the request changes the container's: `$PATH` is what it has there.
                config: request.config.unwrap_or_else(|| underlying.clone()),
                changes: request.changes,
                underlying,
                author: request.author,
                comment: request.comment,
                created_by: view.spec.process.cmd.clone().unwrap_or_default().join(" "),
                reference: request.reference,
            })
            .await;
        if let Ok(image) = &committed {
            let name = reference.map(|reference| reference.with_default_tag().familiar()).unwrap_or_default();
            handle.emit("commit", [("comment", comment), ("imageID", image.to_string()), ("imageRef", name)]);
        }
        if is_frozen && let Err(error) = self.engine.unpause(&id).await {
            tracing::warn!(container.id = id, error = %ErrorChain(&error), "a container stays paused after a commit");
        }
        committed
    }
}

/// A container's configuration in the form of an image's.
fn run_config(spec: &ContainerSpec) -> ImageRunConfig {
    let process = &spec.process;
    let exposed: BTreeMap<String, EmptyObject> =
        spec.networking.exposed.iter().map(|port| (port.to_string(), EmptyObject {})).collect();
    let declared = spec.mounts.iter().filter(|mount| mount.origin == MountOrigin::Declared);
    let volumes: BTreeMap<String, EmptyObject> =
        declared.map(|mount| (mount.destination.clone(), EmptyObject {})).collect();
    ImageRunConfig {
        user: process.user.clone(),
        exposed_ports: Some(exposed).filter(|ports| !ports.is_empty()),
        env: Some(process.env.clone()).filter(|env| !env.is_empty()),
        entrypoint: process.entrypoint.clone().filter(|words| !words.is_empty()),
        cmd: process.cmd.clone(),
        volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
        working_dir: process.working_dir.clone(),
        labels: Some(spec.labels.clone()).filter(|labels| !labels.is_empty()),
        stop_signal: process.stop_signal.clone().unwrap_or_default(),
        stop_timeout: process.stop_timeout,
        on_build: Some(spec.on_build.clone()).filter(|commands| !commands.is_empty()),
        shell: process.shell.clone(),
        healthcheck: spec.health.as_ref().and_then(healthcheck),
        args_escaped: false,
    }
}

fn healthcheck(health: &HealthSpec) -> Option<ImageHealthcheck> {
    let test = match health.test.as_ref()? {
        HealthTest::Disabled => vec!["NONE".to_owned()],
        HealthTest::Command(words) => {
            std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect()
        }
        HealthTest::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
    };
    let nanoseconds = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    Some(ImageHealthcheck {
        test,
        interval: nanoseconds(health.interval),
        timeout: nanoseconds(health.timeout),
        start_period: nanoseconds(health.start_period),
        start_interval: nanoseconds(health.start_interval),
        retries: i64::from(health.retries),
    })
}
