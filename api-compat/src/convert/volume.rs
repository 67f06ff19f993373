//! Volumes.
//!
//! Start reading at [`spec`] and [`shown`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use node_agent::api::volumes::VolumeUsage;
use shoal_types::volume::{Volume as Observed, VolumeScope, VolumeSpec};

use crate::model::time::Time;
use crate::model::volume::{UsageData, Volume, VolumeCreate};

/// The volume that a request describes.
pub(crate) fn spec(create: VolumeCreate) -> VolumeSpec {
    VolumeSpec {
        name: create.name,
        driver: create.driver,
        options: create.driver_opts,
        labels: create.labels,
    }
}

/// A volume as Docker shows it; times of volumes have no fraction.
pub(crate) fn shown(volume: &Observed) -> Volume {
    let created = Timestamp::from_second(volume.created.as_second()).unwrap_or(volume.created);
    Volume {
        created_at: Time::from(created).to_string(),
        driver: volume.driver.clone(),
        labels: volume.labels.clone(),
        mountpoint: volume.mountpoint.clone(),
        name: volume.name.clone(),
        options: volume.options.clone(),
        scope: match volume.scope {
            VolumeScope::Local => "local".to_owned(),
            VolumeScope::Global => "global".to_owned(),
        },
        status: BTreeMap::new(),
        usage_data: None,
    }
}

/// A volume with what it costs.
pub(crate) fn shown_usage(usage: &VolumeUsage) -> Volume {
    let data = UsageData { ref_count: i64::try_from(usage.references).unwrap_or(i64::MAX), size: usage.size };
    Volume { usage_data: Some(data), ..shown(&usage.volume) }
}
