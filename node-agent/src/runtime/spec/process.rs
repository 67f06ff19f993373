//! PURE. The init process in the runtime spec: arguments, environment, user, capabilities, limits.
//!
//! Start reading at [`build`].

use std::path::PathBuf;

use oci_spec::runtime::{
    Box as ConsoleBox, BoxBuilder as ConsoleBoxBuilder, LinuxCapabilities, PosixRlimit, PosixRlimitBuilder,
    PosixRlimitType, Process, User as OciUser,
};
use shoal_types::container::resources::Ulimit;
use shoal_types::container::security::PidMode;

use crate::containers::config::{InitDefault, NoNewPrivilegesDefault};
use crate::runtime::apparmor;
use crate::runtime::capabilities::{self, Wishes};
use crate::runtime::filters::capability_set;
use crate::runtime::inputs::SpecInputs;
use crate::runtime::user::User;

/// Where the init program is inside a container.
pub(crate) const INIT_PATH: &str = "/sbin/docker-init";
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The init process.
pub(super) fn build(inputs: &SpecInputs) -> Process {
    let spec = &inputs.spec;
    let mut process = Process::default();
    let cwd = if spec.process.working_dir.is_empty() { "/" } else { &spec.process.working_dir };
    let no_new_privileges = spec
        .security
        .no_new_privileges
        .unwrap_or(inputs.config.no_new_privileges == NoNewPrivilegesDefault::On);
    process
        .set_args(Some(arguments(inputs)))
        .set_env(Some(environment(inputs)))
        .set_cwd(PathBuf::from(cwd))
        .set_terminal(spec.process.tty.then_some(true))
        .set_console_size(console_size(inputs))
        .set_user(oci_user(&inputs.user))
        .set_capabilities(Some(capabilities_of(inputs)))
        .set_rlimits(Some(rlimits(inputs)).filter(|limits| !limits.is_empty()))
        .set_no_new_privileges(no_new_privileges.then_some(true))
        .set_apparmor_profile(apparmor::profile_of(&spec.security, inputs.host.apparmor))
        .set_oom_score_adj(Some(spec.resources.oom_score_adj));
    process
}

/// Whether an init process is put before the program. It makes sense only as process 1.
pub(super) fn has_init(inputs: &SpecInputs) -> bool {
    inputs.spec.init.unwrap_or(inputs.config.init == InitDefault::With)
        && inputs.spec.namespaces.pid == PidMode::Private
}

fn arguments(inputs: &SpecInputs) -> Vec<String> {
    let mut arguments = Vec::new();
    if has_init(inputs) {
        arguments.extend([INIT_PATH.to_owned(), "--".to_owned()]);
    }
    arguments.extend(inputs.command.iter().cloned());
    arguments
}

/// The environment in Docker's order: its own variables, those of links, then the container's, which replace by key.
fn environment(inputs: &SpecInputs) -> Vec<String> {
    let spec = &inputs.spec.process;
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", inputs.hostname)];
    if spec.tty {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(inputs.links.iter().cloned());
    for variable in inputs.config.environment.iter().chain(&spec.env) {
        replace_variable(&mut env, variable);
    }
    env
}

/// Sets a variable, replacing one of the same name; a name alone removes it.
pub(crate) fn replace_variable(env: &mut Vec<String>, variable: &str) {
    let Some((key, _)) = variable.split_once('=') else {
        env.retain(|present| !is_variable(present, variable));
        return;
    };
    match env.iter_mut().find(|present| is_variable(present, key)) {
        Some(present) => variable.clone_into(present),
        None => env.push(variable.to_owned()),
    }
}

/// Whether a variable has this name.
pub(crate) fn is_variable(variable: &str, name: &str) -> bool {
    variable.split_once('=').map_or(variable, |(key, _)| key) == name
}

fn console_size(inputs: &SpecInputs) -> Option<ConsoleBox> {
    inputs.spec.process.console_size.filter(|_| inputs.spec.process.tty).and_then(console_box)
}

/// The size of a terminal in the runtime spec's form.
pub(crate) fn console_box((height, width): (u16, u16)) -> Option<ConsoleBox> {
    ConsoleBoxBuilder::default().height(u64::from(height)).width(u64::from(width)).build().ok()
}

/// A user in the runtime spec's form.
pub(crate) fn oci_user(user: &User) -> OciUser {
    let mut oci = OciUser::default();
    oci.set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(user.groups.clone()));
    oci
}

/// Capabilities: the bounding set for everybody, held ones for root alone.
fn capabilities_of(inputs: &SpecInputs) -> LinuxCapabilities {
    let security = &inputs.spec.security;
    let wishes = Wishes { privileged: security.privileged, add: &security.cap_add, drop: &security.cap_drop };
    let set = capability_set(&capabilities::effective(wishes, inputs.host.capabilities));
    let held = (inputs.user.uid == 0).then(|| set.clone());
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(set))
        .set_permitted(held.clone())
        .set_effective(held)
        .set_inheritable(None)
        .set_ambient(None);
    capabilities
}

/// Limits of the process: the container's, then the daemon's for what is left.
fn rlimits(inputs: &SpecInputs) -> Vec<PosixRlimit> {
    let own = &inputs.spec.resources.ulimits;
    let default = inputs.config.ulimits.iter().filter(|limit| !own.iter().any(|own| own.name == limit.name));
    let mut limits: Vec<&Ulimit> = own.iter().chain(default).collect();
    limits.sort_by(|one, other| one.name.cmp(&other.name));
    limits.into_iter().filter_map(rlimit).collect()
}

fn rlimit(limit: &Ulimit) -> Option<PosixRlimit> {
    // An unknown name was refused when the container was made; the runtime knows the same names.
    let name = format!("RLIMIT_{}", limit.name.to_uppercase());
    let typ = serde_json::from_value(serde_json::Value::String(name)).ok()?;
    // -1 is without limit, which the kernel writes as the largest number.
    let value = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    let built = PosixRlimitBuilder::default().typ::<PosixRlimitType>(typ);
    built.soft(value(limit.soft)).hard(value(limit.hard)).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_by_name_and_removed_by_a_name_alone() {
        let mut env = vec!["PATH=/bin".to_owned(), "A=1".to_owned()];
        for variable in ["A=2", "B=3", "PATH", "C=", "NOPE"] {
            replace_variable(&mut env, variable);
        }
        assert_eq!(env, ["A=2", "B=3", "C="]);
    }
}
