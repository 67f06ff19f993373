//! What the node says of itself to managers.
//!
//! Start reading at [`Describer`]. The scheduler decides by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use shoal_types::Platform;
use shoal_types::cluster::node::{DataPathKey, NodeDescription, TlsInfo};
use shoal_types::cluster::service::GenericResource;
use tokio::sync::watch;

use super::dispatcher::DispatchError;
use crate::api::system::{System, SystemInfo};

/// Describes the node.
#[derive(Clone)]
pub(super) struct Describer {
    pub(super) system: Arc<dyn System>,
    /// Named resources that the administrator has given to the daemon.
    pub(super) generic: Vec<(String, GenericResource)>,
    pub(super) engine_version: String,
    /// Its end of the tunnels between nodes.
    pub(super) data_path: std::net::IpAddr,
    /// By which it is known in encrypted ones.
    pub(super) keys: watch::Receiver<Vec<DataPathKey>>,
}

impl Describer {
    pub(super) async fn describe(&self) -> Result<NodeDescription, DispatchError> {
        let info = self.system.info().await;
        let info = info.map_err(|error| DispatchError::new(error.kind(), error.message()))?;
        Ok(self.description_of(&info))
    }

    fn description_of(&self, info: &SystemInfo) -> NodeDescription {
        let kinds = [
            ("Log", &info.log_drivers),
            ("Network", &info.network_drivers),
            ("Volume", &info.volume_drivers),
        ];
        let plugins = kinds
            .into_iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| (kind.to_owned(), name.clone())));
        NodeDescription {
            hostname: info.hostname.clone(),
            platform: Platform::host(),
            nano_cpus: i64::try_from(info.cpus).unwrap_or(i64::MAX).saturating_mul(1_000_000_000),
            memory: i64::try_from(info.memory).unwrap_or(i64::MAX),
            generic: self.generic.clone(),
            engine_version: self.engine_version.clone(),
            engine_labels: labels(&info.labels),
            plugins: plugins.collect(),
            // The holder of the certificate adds it on the way to the managers.
            tls: TlsInfo::default(),
            data_path: Some(self.data_path),
            data_path_keys: self.keys.borrow().clone(),
        }
    }
}

/// Labels of the daemon; one without a value counts as empty.
fn labels(labels: &[String]) -> BTreeMap<String, String> {
    let split = |label: &String| match label.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (label.clone(), String::new()),
    };
    labels.iter().map(split).collect()
}
