//! What is kept of the request beside the spec, so that inspect can give back what was asked for.
//!
//! Start reading at [`Requested`]. The engine stores its text without looking inside. It holds the newest shape with
//! the defaults that do not depend on the host; `container_inspect` lays over it what came out.

use serde::{Deserialize, Serialize};

use crate::json::decode_value;
use crate::model::container_config::ContainerConfig;
use crate::model::container_create::ContainerCreate;
use crate::model::host_config::HostConfig;

/// What is kept of a request for a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Requested {
    /// What does not depend on the host.
    pub(crate) config: ContainerConfig,
    /// What depends on the host.
    pub(crate) host_config: HostConfig,
}

impl Requested {
    /// What is kept of this request. Networks are not: their endpoints change by connect and disconnect, so the spec and
    /// the observed endpoints are the only truth.
    pub(crate) fn of(create: &ContainerCreate) -> Self {
        let mut kept = Self { config: create.config.clone(), host_config: create.host_config.clone() };
        let options = &mut kept.host_config.options;
        options.log_config.config.get_or_insert_default();
        options.port_bindings.get_or_insert_default();
        if options.restart_policy.name.is_empty() {
            "no".clone_into(&mut options.restart_policy.name);
        }
        let resources = &mut kept.host_config.resources;
        resources.pids_limit = resources.pids_limit.filter(|&limit| limit > 0);
        resources.kernel_memory = None;
        resources.kernel_memory_tcp = None;
        kept
    }

    /// The text that the engine stores.
    pub(crate) fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// Reads a stored text. What cannot be read counts as nothing, so that a container made by other means, or by a
    /// version with another shape, can still be shown from its spec.
    pub(crate) fn from_text(text: &str) -> Self {
        serde_json::from_str(text)
            .ok()
            .and_then(|value: serde_json::Value| decode_value(&value).ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back_the_same() {
        let body = serde_json::json!({
            "Image": "busybox", "Cmd": ["a"], "Labels": {"b": "c"}, "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {"Memory": 7_000_000, "Binds": ["/a:/b"], "Dns": [], "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
                "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"Options": [["exec"], ["uid", "5"]]}}]},
        });
        let create = ContainerCreate::from_json(&body).unwrap().unwrap();
        let kept = Requested::of(&create);
        assert_eq!(Requested::from_text(&kept.to_text().unwrap()), kept);
        assert_eq!(kept.host_config.options.dns, Some(vec![]));
        assert_eq!(kept.host_config.options.restart_policy.name, "no");
    }

    #[test]
    fn a_text_of_another_shape_counts_as_nothing() {
        assert_eq!(Requested::from_text("not json"), Requested::default());
        assert_eq!(Requested::from_text("[1]"), Requested::default());
    }
}
