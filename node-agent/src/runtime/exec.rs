//! PURE. The process of a command run in a container: the container's own, changed by what was asked for.
//!
//! Start reading at [`customise`]. Limits, labels, the filter and namespaces stay the container's.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxCapabilities, Process};
use shoal_types::container::spec::ProcessSpec;

use super::capabilities::{self, Wishes};
use super::filters::capability_set;
use super::spec::process::{console_box, is_variable, oci_user, replace_variable};
use super::user::User;
use crate::api::execs::ExecSpec;

/// The variable that tells programs which terminal they have.
const TERM: &str = "TERM=xterm";

/// Changes the container's process into the command's. `container` is what the container's own process was asked to be;
/// `available` are the capabilities that the daemon can give.
pub(crate) fn customise(
    process: &mut Process,
    exec: &ExecSpec,
    container: &ProcessSpec,
    console_size: Option<(u16, u16)>,
    available: u64,
) {
    process.set_args(Some(exec.command.clone()));
    process.set_terminal(exec.tty.then_some(true));
    process.set_console_size(console_size.or(exec.console_size).filter(|_| exec.tty).and_then(console_box));
    if !exec.working_dir.is_empty() {
        process.set_cwd(PathBuf::from(&exec.working_dir));
    }
    let mut env = process.env().clone().unwrap_or_default();
    let says_so_itself = container.env.iter().any(|variable| is_variable(variable, "TERM"));
    if container.tty && !exec.tty && !says_so_itself {
        env.retain(|variable| variable != TERM);
    }
    if exec.tty && !env.iter().any(|variable| is_variable(variable, "TERM")) {
        env.push(TERM.to_owned());
    }
    for variable in &exec.env {
        replace_variable(&mut env, variable);
    }
    process.set_env(Some(env));
    if exec.privileged {
        let all = Wishes { privileged: true, add: &[], drop: &[] };
        let set = capability_set(&capabilities::effective(all, available));
        let mut capabilities = LinuxCapabilities::default();
        capabilities
            .set_bounding(Some(set.clone()))
            .set_permitted(Some(set.clone()))
            .set_effective(Some(set))
            .set_inheritable(None)
            .set_ambient(None);
        process.set_capabilities(Some(capabilities));
    }
}

/// Lets the process run as somebody else than the container's own.
pub(crate) fn set_user(process: &mut Process, user: &User) {
    process.set_user(oci_user(user));
    // What only root had comes back with root, and the other way round; the bounding set says what may be had.
    let Some(bounding) = process.capabilities().as_ref().and_then(|sets| sets.bounding().clone()) else {
        return;
    };
    let held = (user.uid == 0).then(|| bounding.clone());
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(bounding))
        .set_permitted(held.clone())
        .set_effective(held)
        .set_inheritable(None)
        .set_ambient(None);
    process.set_capabilities(Some(capabilities));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(env: &[&str]) -> Process {
        let mut process = Process::default();
        process.set_env(Some(env.iter().map(|&variable| variable.to_owned()).collect()));
        process.set_cwd(PathBuf::from("/srv"));
        process
    }

    #[test]
    fn a_command_keeps_the_containers_place_and_environment_unless_told() {
        let mut process = process(&["PATH=/bin", "A=1"]);
        let exec = ExecSpec {
            command: vec!["ls".to_owned()],
            env: vec!["A=2".to_owned(), "B=3".to_owned()],
            ..ExecSpec::default()
        };
        customise(&mut process, &exec, &ProcessSpec::default(), Some((24, 80)), 0);
        assert_eq!(process.cwd(), std::path::Path::new("/srv"));
        assert_eq!(process.env().as_deref().unwrap(), ["PATH=/bin", "A=2", "B=3"]);
        assert_eq!(process.console_size(), None);
        let elsewhere = ExecSpec { working_dir: "/x".to_owned(), ..exec };
        customise(&mut process, &elsewhere, &ProcessSpec::default(), None, 0);
        assert_eq!(process.cwd(), std::path::Path::new("/x"));
    }

    #[test]
    fn term_follows_the_commands_own_terminal() {
        let with_tty = ExecSpec { tty: true, ..ExecSpec::default() };
        let mut process_without = process(&["PATH=/bin"]);
        customise(&mut process_without, &with_tty, &ProcessSpec::default(), Some((24, 80)), 0);
        assert_eq!(process_without.env().as_deref().unwrap(), ["PATH=/bin", "TERM=xterm"]);
        assert!(process_without.console_size().is_some());
        let tty_container = ProcessSpec { tty: true, ..ProcessSpec::default() };
        let mut process_with = process(&["PATH=/bin", "TERM=xterm"]);
        customise(&mut process_with, &ExecSpec::default(), &tty_container, None, 0);
        assert_eq!(process_with.env().as_deref().unwrap(), ["PATH=/bin"]);
    }

    #[test]
    fn capabilities_follow_the_user_within_the_bounding_set() {
        let set = capability_set(&["CAP_KILL".to_owned()]);
        let mut process = process(&[]);
        let mut capabilities = LinuxCapabilities::default();
        capabilities.set_bounding(Some(set.clone())).set_permitted(None).set_effective(None);
        process.set_capabilities(Some(capabilities));
        set_user(&mut process, &User { uid: 0, gid: 0, groups: vec![0] });
        assert_eq!(process.capabilities().as_ref().unwrap().effective().as_ref(), Some(&set));
        set_user(&mut process, &User { uid: 7, gid: 0, groups: vec![0] });
        assert_eq!(process.capabilities().as_ref().unwrap().effective().as_ref(), None);
    }
}
