//! From what a client sent to a build that makes sense. Pure.
//!
//! Start reading at [`check`]. The order of the checks is the order in which Docker finds faults. JSON, truth values and numbers
//! were read before, by whoever knows the transport; nothing is looked up.

use std::collections::BTreeMap;

use node_agent::api::images::Credentials;
use shoal_types::container::networking::NetworkMode;
use shoal_types::container::resources::Resources;
use shoal_types::{ImageRef, Platform};

use crate::context::{ContextPath, ContextSource};
use crate::error::BuildError;
use crate::request::{
    BaseImages, BuildRequest, Cache, Frontend, LayerForm, Output, StepContainers, StepLimits, Verbosity,
};

/// Everything that a client can say of a build, decoded and not checked. Empty texts are what the client did not say.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildParameters {
    /// `1` or `2`; empty is 1.
    pub version: String,
    /// Session of the client.
    pub session: String,
    /// Name of the build for its cancellation.
    pub build_id: String,
    /// Where the context is; empty is the body.
    pub remote: String,
    /// Path of the Dockerfile in the context.
    pub dockerfile: String,
    /// Stage to build.
    pub target: String,
    /// Names for the image.
    pub tags: Vec<String>,
    /// Labels for the image.
    pub labels: BTreeMap<String, String>,
    /// Build arguments.
    pub args: BTreeMap<String, Option<String>>,
    /// Platform to build for.
    pub platform: String,
    /// Credentials for base images, by the host of their registry.
    pub credentials: BTreeMap<String, Credentials>,
    /// Whether base images are asked for although they are here.
    pub always_pulls: bool,
    /// Whether earlier results are left unused.
    pub ignores_cache: bool,
    /// Images whose layers may be used.
    pub cache_from: Vec<String>,
    /// Whether only the id is told.
    pub is_quiet: bool,
    /// Whether containers of steps go after a success. True unless the client says otherwise.
    pub removes_containers: bool,
    /// Whether they go after a failure too.
    pub always_removes_containers: bool,
    /// Memory, processors, limits of processes, parent of cgroups.
    pub resources: Resources,
    /// Bytes of /dev/shm; 0 is the daemon's default.
    pub shm_size: i64,
    /// Network of steps.
    pub network: String,
    /// Pairs for /etc/hosts.
    pub extra_hosts: Vec<String>,
    /// Whether the steps' layers become one.
    pub squashes: bool,
    /// Isolation, which Linux knows in one form.
    pub isolation: String,
    /// Security options, which Linux does not take here.
    pub security_options: Vec<String>,
    /// Places for the result.
    pub outputs: Vec<Output>,
}

impl Default for BuildParameters {
    /// What a client asks for that says nothing.
    fn default() -> Self {
        Self {
            version: String::new(),
            session: String::new(),
            build_id: String::new(),
            remote: String::new(),
            dockerfile: String::new(),
            target: String::new(),
            tags: Vec::new(),
            labels: BTreeMap::new(),
            args: BTreeMap::new(),
            platform: String::new(),
            credentials: BTreeMap::new(),
            always_pulls: false,
            ignores_cache: false,
            cache_from: Vec::new(),
            is_quiet: false,
            removes_containers: true,
            always_removes_containers: false,
            resources: Resources::default(),
            shm_size: 0,
            network: String::new(),
            extra_hosts: Vec::new(),
            squashes: false,
            isolation: String::new(),
            security_options: Vec::new(),
            outputs: Vec::new(),
        }
    }
}

/// Whether the daemon was started with experimental features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Experimental {
    /// Without.
    Off,
    /// With.
    On,
}

/// Makes a build of what a client sent, or says what is wrong with it, in Docker's words.
pub fn check(asked: BuildParameters, experimental: Experimental) -> Result<BuildRequest, BuildError> {
    if !matches!(asked.isolation.to_ascii_lowercase().as_str(), "" | "default") {
        return Err(BuildError::Isolation(asked.isolation));
    }
    if !asked.security_options.is_empty() {
        return Err(BuildError::SecurityOptions);
    }
    let frontend = check_frontend(asked.version, asked.session, asked.build_id)?;
    if asked.squashes && experimental == Experimental::Off {
        return Err(BuildError::Squash);
    }
    let tags = check_tags(&asked.tags)?;
    let platform = (!asked.platform.is_empty()).then(|| asked.platform.parse::<Platform>()).transpose();
    let platform = platform.map_err(BuildError::Platform)?;
    let shm_size = u64::try_from(asked.shm_size).map_err(|_| BuildError::ShmSize)?;
    let context = check_context(&asked.remote, &frontend)?;
    let network = check_network(asked.network, &frontend)?;
    if matches!(frontend, Frontend::BuildKit { .. }) && asked.outputs.len() > 1 {
        return Err(BuildError::SeveralOutputs);
    }
    Ok(BuildRequest {
        frontend,
        context,
        dockerfile: ContextPath::parse(&asked.dockerfile)?,
        target: (!asked.target.is_empty()).then_some(asked.target),
        tags,
        labels: asked.labels,
        args: asked.args,
        platform,
        credentials: asked.credentials,
        base_images: if asked.always_pulls { BaseImages::Always } else { BaseImages::IfMissing },
        cache: match (asked.ignores_cache, asked.cache_from.is_empty()) {
            (true, _) => Cache::Off,
            (false, true) => Cache::Local,
            (false, false) => Cache::From(asked.cache_from),
        },
        verbosity: if asked.is_quiet { Verbosity::IdOnly } else { Verbosity::Full },
        step_containers: match (asked.always_removes_containers, asked.removes_containers) {
            (true, _) => StepContainers::Remove,
            (false, true) => StepContainers::RemoveAfterSuccess,
            (false, false) => StepContainers::Keep,
        },
        limits: StepLimits { resources: asked.resources, shm_size: (shm_size > 0).then_some(shm_size) },
        network,
        extra_hosts: asked.extra_hosts,
        layer_form: if asked.squashes { LayerForm::Squashed } else { LayerForm::Separate },
        outputs: asked.outputs,
    })
}

fn check_frontend(version: String, session: String, build_id: String) -> Result<Frontend, BuildError> {
    match version.as_str() {
        "" | "1" => Ok(Frontend::Classic),
        "2" => Ok(Frontend::BuildKit { session, build_id }),
        _ => Err(BuildError::Version(version)),
    }
}

/// Completes names; empty ones and repetitions mean nothing.
fn check_tags(written: &[String]) -> Result<Vec<ImageRef>, BuildError> {
    let mut tags = Vec::new();
    for text in written.iter().filter(|text| !text.is_empty()) {
        let invalid = |source| BuildError::Tag { tag: text.clone(), source };
        let tag = ImageRef::parse(text).map_err(invalid)?.with_default_tag();
        if tag.digest().is_some() {
            return Err(BuildError::TagWithDigest);
        }
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

fn check_context(remote: &str, frontend: &Frontend) -> Result<ContextSource, BuildError> {
    let context = ContextSource::parse(remote)?;
    match (&context, frontend) {
        (ContextSource::Session, Frontend::Classic) => Err(BuildError::ClassicSession),
        (ContextSource::OtherRequest, Frontend::Classic) => Err(BuildError::Context(remote.to_owned())),
        (ContextSource::Session, Frontend::BuildKit { session, .. }) if session.is_empty() => {
            Err(BuildError::NoSession)
        }
        _ => Ok(context),
    }
}

fn check_network(network: String, frontend: &Frontend) -> Result<NetworkMode, BuildError> {
    match (network.as_str(), frontend) {
        ("" | "default", _) | ("bridge", Frontend::Classic) => Ok(NetworkMode::DefaultBridge),
        ("none", _) => Ok(NetworkMode::None),
        ("host", _) => Ok(NetworkMode::Host),
        (_, Frontend::BuildKit { .. }) => Err(BuildError::Network(network)),
        (_, Frontend::Classic) => Ok(match network.strip_prefix("container:") {
            Some(container) => NetworkMode::Container(container.to_owned()),
            None => NetworkMode::Network(network),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use shoal_types::ErrorKind;

    use super::*;

    fn checked(change: impl FnOnce(&mut BuildParameters)) -> Result<BuildRequest, BuildError> {
        let mut asked = BuildParameters::default();
        change(&mut asked);
        check(asked, Experimental::Off)
    }

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn a_client_that_says_nothing_gets_dockers_defaults() {
        let request = checked(|_| {}).unwrap();
        assert_eq!(request.frontend, Frontend::Classic);
        assert_eq!(request.context, ContextSource::Body);
        assert!(request.dockerfile.is_default());
        assert_eq!(request.step_containers, StepContainers::RemoveAfterSuccess);
        assert_eq!(request.base_images, BaseImages::IfMissing);
        assert_eq!(request.cache, Cache::Local);
        assert_eq!(request.verbosity, Verbosity::Full);
        assert_eq!(request.network, NetworkMode::DefaultBridge);
        assert_eq!(request.limits, StepLimits::default());
        assert_eq!((request.target, request.platform, request.tags.len()), (None, None, 0));
    }

    #[test]
    fn names_are_completed_once_each() {
        let tags = ["a", "", "a:latest", "docker.io/library/a", "b:1"].map(text).to_vec();
        let tags = checked(|asked| asked.tags = tags).unwrap().tags;
        let names: Vec<String> = tags.iter().map(ImageRef::familiar).collect();
        assert_eq!(names, ["a:latest", "b:1"]);
    }

    #[test]
    fn flags_become_one_choice_each() {
        let containers = |removes, always| {
            let change = move |asked: &mut BuildParameters| {
                (asked.removes_containers, asked.always_removes_containers) = (removes, always);
            };
            checked(change).unwrap().step_containers
        };
        assert_eq!(containers(false, false), StepContainers::Keep);
        assert_eq!(containers(true, false), StepContainers::RemoveAfterSuccess);
        assert_eq!(containers(false, true), StepContainers::Remove);
        let cache = |ignores: bool, from: &[&str]| {
            let from: Vec<String> = from.iter().map(|name| text(name)).collect();
            let change = move |asked: &mut BuildParameters| {
                (asked.ignores_cache, asked.cache_from) = (ignores, from);
            };
            checked(change).unwrap().cache
        };
        assert_eq!(cache(true, &["a"]), Cache::Off);
        assert_eq!(cache(false, &["a"]), Cache::From(vec![text("a")]));
    }

    #[test]
    fn what_only_one_builder_understands_is_refused_by_the_other() {
        let buildkit = |change: fn(&mut BuildParameters)| {
            checked(|asked| {
                asked.version = text("2");
                change(asked);
            })
        };
        let session = buildkit(|asked| (asked.remote, asked.session) = (text("client-session"), text("s")));
        assert_eq!(session.unwrap().context, ContextSource::Session);
        let other = buildkit(|asked| asked.remote = text("upload-request"));
        assert_eq!(other.unwrap().context, ContextSource::OtherRequest);
        assert!(matches!(
            buildkit(|asked| asked.remote = text("client-session")),
            Err(BuildError::NoSession)
        ));
        let network = buildkit(|asked| asked.network = text("mine")).unwrap_err();
        assert_eq!(network.to_string(), "network mode \"mine\" not supported by buildkit");
        let outputs = buildkit(|asked| asked.outputs = vec![Output::default(); 2]).unwrap_err();
        assert_eq!(outputs.to_string(), "multiple outputs not supported");
        let classic = checked(|asked| asked.network = text("container:c")).unwrap();
        assert_eq!(classic.network, NetworkMode::Container(text("c")));
    }

    #[test]
    fn nonsense_is_refused_with_dockers_texts() {
        type Change = fn(&mut BuildParameters);
        let cases: [(Change, &str); 9] = [
            (|asked| asked.version = text("3"), "invalid version \"3\""),
            (|asked| asked.isolation = text("hyperv"), "unsupported isolation: \"hyperv\""),
            (
                |asked| asked.security_options = vec![text("x")],
                "The daemon on this platform does not support setting security options on build",
            ),
            (|asked| asked.squashes = true, "squash is only supported with experimental mode"),
            (
                |asked| asked.tags = vec![format!("a@sha256:{}", "0".repeat(64))],
                "build tag cannot contain a digest",
            ),
            (|asked| asked.tags = vec![text("A b")], "invalid tag \"A b\""),
            (|asked| asked.shm_size = -1, "SHM size can not be less than 0"),
            (
                |asked| asked.remote = text("client-session"),
                "experimental session with v1 builder is no longer supported, use builder version v2 (BuildKit) instead",
            ),
            (
                |asked| asked.remote = text("upload-request"),
                "remoteURL (upload-request) could not be recognized as URL",
            ),
        ];
        for (change, message) in cases {
            let error = checked(change).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{message}");
        }
        let platform = checked(|asked| asked.platform = text("a/b/c/d")).unwrap_err();
        assert!(platform.source().is_some());
    }

    #[test]
    fn experimental_mode_allows_squashing() {
        let asked = BuildParameters { squashes: true, ..BuildParameters::default() };
        assert_eq!(check(asked, Experimental::On).unwrap().layer_form, LayerForm::Squashed);
    }
}
