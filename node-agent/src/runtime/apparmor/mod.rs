//! AppArmor: which profile confines a container.
//!
//! Start reading at [`profile_of`] (PURE), then at [`prepare`], which brings the default profile into the kernel.

mod load;

pub use load::{Confinement, LoadError, prepare};

use shoal_types::container::security::SecuritySpec;

/// Name of the profile that containers get when nobody says otherwise.
pub(crate) const DEFAULT_PROFILE: &str = "docker-default";
/// No confinement.
const UNCONFINED: &str = "unconfined";

/// If containers are confined by AppArmor, the profile that a container gets then.
pub(crate) fn profile_of(security: &SecuritySpec, is_enabled: bool) -> Option<String> {
    if !is_enabled {
        return None;
    }
    let wished = security.apparmor.as_deref().filter(|name| !name.is_empty());
    let default = if security.privileged { UNCONFINED } else { DEFAULT_PROFILE };
    Some(wished.unwrap_or(default).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_named_only_where_the_kernel_has_apparmor() {
        let plain = SecuritySpec::default();
        let privileged = SecuritySpec { privileged: true, ..SecuritySpec::default() };
        let own = SecuritySpec { apparmor: Some("mine".to_owned()), ..privileged.clone() };
        assert_eq!(profile_of(&plain, false), None);
        assert_eq!(profile_of(&plain, true).as_deref(), Some("docker-default"));
        assert_eq!(profile_of(&privileged, true).as_deref(), Some("unconfined"));
        assert_eq!(profile_of(&own, true).as_deref(), Some("mine"));
    }
}
