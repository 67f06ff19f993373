//! Images and what they are made of.
//!
//! Start reading at [`descriptor`].

use node_agent::api::images::Descriptor;
use shoal_types::Platform;

use crate::model::{OciDescriptor, OciPlatform};

/// A descriptor as Docker shows it.
pub(crate) fn descriptor(descriptor: &Descriptor) -> OciDescriptor {
    OciDescriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        annotations: Some(descriptor.annotations.clone()).filter(|map| !map.is_empty()),
        platform: descriptor.platform.as_ref().map(platform),
        ..OciDescriptor::default()
    }
}

/// A platform as Docker shows it.
pub(crate) fn platform(platform: &Platform) -> OciPlatform {
    OciPlatform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        ..OciPlatform::default()
    }
}
