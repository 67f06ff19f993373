//! What a process inside a container sees and may do: user, limits, devices, rights, file system, namespaces.

mod checkpoint;
mod devices;
mod filesystem;
mod init;
mod limits;
mod namespaces;
mod runtime;
mod seccomp;
mod security;
mod sysctls;
mod user;

use integration_cli::{Case, Container, Session};

pub(crate) fn cases() -> Vec<Case> {
    [
        checkpoint::cases(),
        checkpoint::deaths::cases(),
        checkpoint::input::cases(),
        devices::cases(),
        filesystem::cases(),
        init::cases(),
        limits::cases(),
        namespaces::cases(),
        runtime::cases(),
        seccomp::cases(),
        security::cases(),
        sysctls::cases(),
        user::cases(),
    ]
    .concat()
}

/// A field of /proc/1/status in the container, e.g. `CapEff`.
#[track_caller]
fn status_field(t: &Session, container: &Container, field: &str) -> String {
    let status = t.shell(container, "cat /proc/1/status");
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
}

/// The content of a cgroup file of the container: `(controller, file)` on v1, `file` on v2.
#[track_caller]
fn cgroup_value(t: &Session, container: &Container, v1: (&str, &str), v2: &str) -> String {
    let pid = t.inspect(container)["State"]["Pid"].to_string();
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let (controller, file) = v1;
    let on_v1 = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        controllers.split(',').any(|name| name == controller).then(|| parts.next()).flatten()
    });
    let path = match on_v1 {
        Some(group) => format!("/sys/fs/cgroup/{controller}{group}/{file}"),
        None => format!("/sys/fs/cgroup{}/{v2}", groups.trim().trim_start_matches("0::")),
    };
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

/// Whether this machine has cgroup v2 only.
fn is_cgroup_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}
