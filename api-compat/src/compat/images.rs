//! Images as older versions expect to see them.
//!
//! Start reading at [`summary`] and [`inspect`].

use crate::model::container_config::ContainerConfig;
use crate::model::image::{ImageConfig, ImageInspect, ImageSummary, ShownImageConfig};
use crate::version::ApiVersion;

/// Turns a list's entry back.
pub(crate) fn summary(image: &mut ImageSummary, version: ApiVersion) {
    if version.is_below(43) && image.repo_tags.is_empty() && image.repo_digests.is_empty() {
        image.repo_tags = vec!["<none>:<none>".to_owned()];
        image.repo_digests = vec!["<none>@<none>".to_owned()];
    }
    if version.is_below(44) {
        image.virtual_size = Some(image.size);
    }
    if version.is_below(47) {
        image.manifests = None;
    }
    if version.is_below(48) {
        image.descriptor = None;
    }
}

/// Turns the details of an image back.
pub(crate) fn inspect(image: &mut ImageInspect, version: ApiVersion) {
    if version.is_below(44) {
        image.virtual_size = Some(image.size);
        image.created.get_or_insert_default();
    }
    if version.is_below(45) {
        image.container = Some(String::new());
    }
    if version.is_below(48) {
        image.descriptor = None;
        image.manifests = None;
    }
    if version.is_below(50)
        && let ShownImageConfig::Image(config) = &image.config
    {
        image.config = ShownImageConfig::Legacy(Box::new(with_container_fields(config)));
    }
    if version.is_below(52) {
        image.parent = Some(String::new());
        image.comment.get_or_insert_default();
        image.docker_version.get_or_insert_default();
        image.author.get_or_insert_default();
    }
    if version.is_below(53) {
        image.identity = None;
    }
    if version.is_from(52) {
        image.docker_version = None;
        // Told of classic stores only.
        image.graph_driver = None;
    }
}

/// How an image is run, among all the fields that a container has.
fn with_container_fields(config: &ImageConfig) -> ContainerConfig {
    ContainerConfig {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.clone(),
        env: config.env.clone(),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.clone(),
        args_escaped: config.args_escaped,
        volumes: config.volumes.clone(),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone(),
        on_build: config.on_build.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        shell: config.shell.clone(),
        ..ContainerConfig::default()
    }
}
