//! Images and what they are made of.
//!
//! Start reading at [`descriptor`].

use node_agent::api::images::{Descriptor, ImageRunConfig};
use shoal_types::{ImageRef, Platform};

use crate::error::ApiError;
use crate::model::container_config::ContainerConfig;
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

/// The part of a configuration that images carry. Both write the same names, so JSON is the bridge.
pub(crate) fn run_config(config: &ContainerConfig) -> Result<ImageRunConfig, ApiError> {
    serde_json::to_value(config)
        .and_then(serde_json::from_value)
        .map_err(|error| ApiError::invalid(format!("invalid config: {error}")))
}

/// The name that an image is given by a repository and a tag; none without a repository.
pub(crate) fn repo_tag(repo: &str, tag: &str) -> Result<Option<ImageRef>, ApiError> {
    if repo.is_empty() {
        return Ok(None);
    }
    let invalid = |error: shoal_types::image_ref::ParseImageRefError| ApiError::invalid(error.to_string());
    let reference = ImageRef::parse(repo).map_err(invalid)?;
    if reference.digest().is_some() {
        return Err(ApiError::invalid("cannot import digest reference"));
    }
    match tag {
        "" => Ok(Some(reference.with_default_tag())),
        tag => reference.with_tag(tag).map(Some).map_err(invalid),
    }
}

/// Dockerfile instructions, given one by one or several in one text.
pub(crate) fn changes(given: &[&str]) -> Vec<String> {
    let lines = given.iter().flat_map(|text| text.lines());
    lines.map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
