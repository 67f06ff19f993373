//! What a build is asked to be.
//!
//! Start reading at [`BuildRequest`]. It is made by [`crate::check()`] only from what a client sent, so whoever holds one need not
//! check its form again. Whether its Dockerfile, its context or its base images exist is found out while building.

use std::collections::BTreeMap;

use node_agent::api::images::Credentials;
use shoal_types::container::networking::NetworkMode;
use shoal_types::container::resources::Resources;
use shoal_types::{ImageRef, Platform};

use crate::context::{ContextPath, ContextSource};

/// One build, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildRequest {
    /// Which language of progress and sessions the client speaks.
    pub frontend: Frontend,
    /// Where the files come from.
    pub context: ContextSource,
    /// The instructions, inside the context.
    pub dockerfile: ContextPath,
    /// The stage to build; `None` is the last one.
    pub target: Option<String>,
    /// Names that the image gets: complete, without digests, without repetition.
    pub tags: Vec<ImageRef>,
    /// Labels that the image gets.
    pub labels: BTreeMap<String, String>,
    /// Values of build arguments. `None` was named without a value: unused it is warned of, used it is unset.
    pub args: BTreeMap<String, Option<String>>,
    /// The platform to build for; `None` is the node's.
    pub platform: Option<Platform>,
    /// Credentials for base images, by the host of their registry.
    pub credentials: BTreeMap<String, Credentials>,
    /// Whether base images are asked for again.
    pub base_images: BaseImages,
    /// Which earlier results may be used.
    pub cache: Cache,
    /// What the client hears.
    pub verbosity: Verbosity,
    /// What becomes of the containers in which steps ran.
    pub step_containers: StepContainers,
    /// What steps may use.
    pub limits: StepLimits,
    /// The network of steps.
    pub network: NetworkMode,
    /// `name:address` pairs for /etc/hosts of steps; the address may be `host-gateway`.
    pub extra_hosts: Vec<String>,
    /// How layers end up in the image.
    pub layer_form: LayerForm,
    /// Where else than into the image store the result goes; empty is the image store alone.
    pub outputs: Vec<Output>,
}

/// Which builder is meant. Clients call them version 1 and 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frontend {
    /// The classic one: steps are containers, progress is text.
    Classic,
    /// BuildKit's: progress is a graph, files and secrets come from the client's session.
    BuildKit {
        /// The client's session; empty without one.
        session: String,
        /// The name by which the client may cancel the build; empty without one.
        build_id: String,
    },
}

/// Whether base images are asked for at their registry although they are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseImages {
    /// Fetched when missing.
    IfMissing,
    /// Always asked for.
    Always,
}

/// Which earlier results may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cache {
    /// None.
    Off,
    /// Those of this node.
    Local,
    /// Those of this node and of these images, as the client wrote them; those that cannot be found are passed over.
    From(Vec<String>),
}

/// What the client hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Everything.
    Full,
    /// The id of the image; everything only if the build fails.
    IdOnly,
}

/// What becomes of the containers in which steps ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepContainers {
    /// They stay.
    Keep,
    /// They go, but that of a step that failed stays to be looked at.
    RemoveAfterSuccess,
    /// They go.
    Remove,
}

/// What steps may use.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepLimits {
    /// Memory, processors, limits of processes, parent of cgroups; the rest of the fields is unset.
    pub resources: Resources,
    /// Size of /dev/shm in bytes; `None` is the daemon's.
    pub shm_size: Option<u64>,
}

/// How layers end up in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerForm {
    /// One for each step.
    Separate,
    /// One on top of the base image.
    Squashed,
}

/// A place for the result, in BuildKit's terms.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Kind, such as `local` or `tar`.
    pub kind: String,
    /// Attributes of that kind.
    pub attributes: BTreeMap<String, String>,
}
