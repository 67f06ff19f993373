//! System call filters for the runtime spec, made once for each profile and set of capabilities.
//!
//! Start reading at [`Filters::resolve`]. Which system calls a profile allows is node-runtime's knowledge.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use node_runtime::seccomp::profile::{KernelVersion, Profile};
use oci_spec::runtime::{Capability, LinuxSeccomp};
use shoal_types::ErrorKind;
use shoal_types::container::security::SeccompChoice;

use super::capabilities::{self, Wishes};
use super::inputs::SpecInputs;
use crate::error::NodeError;

/// How many filters are kept. Containers of one machine use few; a client that sends ever new profiles gets no more.
const MAX_KEPT: usize = 32;

/// Filters that were made before.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    kept: Mutex<HashMap<Key, Arc<LinuxSeccomp>>>,
}

/// What a filter depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// The profile's text; `None` is the built-in one.
    profile: Option<String>,
    capabilities: Vec<String>,
}

impl Filters {
    /// The filter of a container; `None` when it has none.
    pub(crate) fn resolve(&self, inputs: &SpecInputs) -> Result<Option<Arc<LinuxSeccomp>>, NodeError> {
        let security = &inputs.spec.security;
        let choice = match &security.seccomp {
            // Privileged containers are not filtered unless they ask for it.
            SeccompChoice::DaemonDefault if security.privileged => return Ok(None),
            SeccompChoice::DaemonDefault => &inputs.config.seccomp,
            choice => choice,
        };
        let profile = match choice {
            SeccompChoice::Unconfined => return Ok(None),
            SeccompChoice::Builtin | SeccompChoice::DaemonDefault => None,
            SeccompChoice::Custom(text) => Some(text.clone()),
        };
        let wishes =
            Wishes { privileged: security.privileged, add: &security.cap_add, drop: &security.cap_drop };
        let capabilities = capabilities::effective(wishes, inputs.host.capabilities);
        let key = Key { profile, capabilities };
        if let Some(filter) = self.kept().get(&key) {
            return Ok(Some(Arc::clone(filter)));
        }
        let filter = Arc::new(make(&key)?);
        let mut kept = self.kept();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&filter));
        Ok(Some(filter))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<LinuxSeccomp>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make(key: &Key) -> Result<LinuxSeccomp, NodeError> {
    let failed = |source| NodeError::failed("make the system call filter", source);
    // Told like a failure, as Docker does, but it is the profile that is wrong.
    let is_wrong =
        |source| NodeError::Refused { kind: ErrorKind::Internal, message: failed(source).message() };
    let profile = match &key.profile {
        Some(text) => Profile::parse(text.as_bytes()).map_err(is_wrong)?,
        None => Profile::default_profile().map_err(failed)?,
    };
    let kernel = KernelVersion::running().map_err(failed)?;
    profile.resolve(&capability_set(&key.capabilities), kernel).map_err(failed)
}

/// Capabilities by their names, in the library's form.
pub(crate) fn capability_set(names: &[String]) -> HashSet<Capability> {
    names.iter().filter_map(|name| name.strip_prefix("CAP_")).filter_map(|name| name.parse().ok()).collect()
}
