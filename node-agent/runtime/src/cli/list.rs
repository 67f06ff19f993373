//! Commands that only tell: `state`, `list`, `ps`, `features`.

use oci_spec::runtime::{
    Arch, Cgroup as CgroupFeatures, ContainerState, Features, LinuxFeature, LinuxNamespaceType,
    LinuxSeccompAction, Seccomp as SeccompFeatures, State,
};

use super::store::{Entry, Store};
use super::{Invocation, terminal};
use crate::error::{Context, Result, RuntimeError};
use crate::mount_options;

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text =
        serde_json::to_string_pretty(value).map_err(std::io::Error::from).step(|| "encode the answer")?;
    terminal::print_line(&text);
    Ok(())
}

fn refuse_options(invocation: &mut Invocation) -> Result<()> {
    match invocation.arguments.next_option()? {
        Some(option) => Err(invocation.arguments.unknown(&option)),
        None => Ok(()),
    }
}

/// Prints the state of a container as the runtime spec defines it.
pub(super) fn state(mut invocation: Invocation) -> Result<u8> {
    refuse_options(&mut invocation)?;
    let id = invocation.arguments.id()?;
    invocation.arguments.finish()?;
    let mut state = State::default();
    state.set_version("1.0.2".to_owned()).set_id(id.clone());
    match invocation.store.read(&id)? {
        None => drop(state.set_status(ContainerState::Creating).set_pid(None)),
        Some(entry) => {
            let spec = invocation.store.spec(&id)?;
            let status = invocation.store.find(&entry.record)?.status();
            let pid = if status == "stopped" { 0 } else { entry.record.pid };
            state
                .set_pid(Some(pid))
                .set_bundle(entry.record.bundle)
                .set_annotations(spec.annotations().clone().filter(|annotations| !annotations.is_empty()));
            let mut value =
                serde_json::to_value(&state).map_err(std::io::Error::from).step(|| "encode the state")?;
            // The specification has no word for a paused container; runc's callers expect this one.
            if let Some(object) = value.as_object_mut() {
                object.insert("status".to_owned(), status.into());
                object.insert("created".to_owned(), entry.created.into());
            }
            print_json(&value)?;
            return Ok(0);
        }
    }
    print_json(&state)?;
    Ok(0)
}

/// Prints all containers.
pub(super) fn list(mut invocation: Invocation) -> Result<u8> {
    let mut format = "table".to_owned();
    let mut only_ids = false;
    while let Some(option) = invocation.arguments.next_option()? {
        match option.as_str() {
            "format" | "f" => format = invocation.arguments.text()?,
            "quiet" | "q" => only_ids = true,
            other => return Err(invocation.arguments.unknown(other)),
        }
    }
    invocation.arguments.finish()?;
    let mut rows = Vec::new();
    for id in invocation.store.ids()? {
        if let Some(row) = row_of(&invocation.store, &id)? {
            rows.push((id, row));
        }
    }
    match (only_ids, format.as_str()) {
        (true, _) => rows.iter().for_each(|(id, _)| terminal::print_line(id)),
        (false, "json") => print_json(&rows.iter().map(|(id, row)| row.to_json(id)).collect::<Vec<_>>())?,
        (false, "table") => {
            terminal::print_line("ID          PID         STATUS      BUNDLE      CREATED");
            for (id, Row { pid, status, entry }) in &rows {
                let (bundle, created) = (entry.record.bundle.display(), &entry.created);
                terminal::print_line(&format!("{id:<11} {pid:<11} {status:<11} {bundle}   {created}"));
            }
        }
        (false, other) => return Err(RuntimeError::InvalidSpec(format!("invalid format option {other:?}"))),
    }
    Ok(0)
}

struct Row {
    pid: i32,
    status: &'static str,
    entry: Entry,
}

impl Row {
    fn to_json(&self, id: &str) -> serde_json::Value {
        serde_json::json!({
            "ociVersion": "1.0.2",
            "id": id,
            "pid": self.pid,
            "status": self.status,
            "bundle": self.entry.record.bundle,
            "created": self.entry.created,
        })
    }
}

/// Looks one container up; `None` when it vanished meanwhile or was never finished.
fn row_of(store: &Store, id: &str) -> Result<Option<Row>> {
    let entry = match store.read(id) {
        Ok(Some(entry)) => entry,
        Ok(None) | Err(RuntimeError::NoSuchContainer { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let status = store.find(&entry.record)?.status();
    let pid = if status == "stopped" { 0 } else { entry.record.pid };
    Ok(Some(Row { pid, status, entry }))
}

/// Prints the processes of a container as a JSON list of pids, or one a line.
pub(super) fn ps(mut invocation: Invocation) -> Result<u8> {
    let mut format = "table".to_owned();
    while let Some(option) = invocation.arguments.next_option()? {
        match option.as_str() {
            "format" | "f" => format = invocation.arguments.text()?,
            other => return Err(invocation.arguments.unknown(other)),
        }
    }
    let id = invocation.arguments.id()?;
    let pids = invocation.store.entry(&id)?.record.cgroup.pids()?;
    match format.as_str() {
        "json" => print_json(&pids)?,
        // runc runs the host's ps here; the numbers are what it selects by.
        "table" => {
            terminal::print_line("PID");
            pids.iter().for_each(|pid| terminal::print_line(&pid.to_string()));
        }
        other => return Err(RuntimeError::InvalidSpec(format!("invalid format option {other:?}"))),
    }
    Ok(0)
}

/// Prints what this runtime can do (runtime spec, "Features Structure").
pub(super) fn features(mut invocation: Invocation) -> Result<u8> {
    refuse_options(&mut invocation)?;
    invocation.arguments.finish()?;
    let mut cgroup = CgroupFeatures::default();
    cgroup.set_systemd(Some(false)).set_rdma(Some(false));
    let mut value =
        serde_json::to_value(cgroup).map_err(std::io::Error::from).step(|| "encode the answer")?;
    if let Some(object) = value.as_object_mut() {
        object.insert("v1".to_owned(), true.into());
        object.insert("v2".to_owned(), true.into());
    }
    let mut seccomp = SeccompFeatures::default();
    seccomp
        .set_enabled(Some(true))
        .set_actions(Some(vec![
            LinuxSeccompAction::ScmpActAllow,
            LinuxSeccompAction::ScmpActErrno,
            LinuxSeccompAction::ScmpActKill,
            LinuxSeccompAction::ScmpActKillProcess,
            LinuxSeccompAction::ScmpActKillThread,
            LinuxSeccompAction::ScmpActLog,
            LinuxSeccompAction::ScmpActNotify,
            LinuxSeccompAction::ScmpActTrace,
            LinuxSeccompAction::ScmpActTrap,
        ]))
        .set_archs(Some(vec![
            Arch::ScmpArchX86_64,
            Arch::ScmpArchX86,
            Arch::ScmpArchX32,
            Arch::ScmpArchAarch64,
            Arch::ScmpArchArm,
        ]));
    let mut linux = LinuxFeature::default();
    linux.set_seccomp(Some(seccomp)).set_namespaces(Some(vec![
        LinuxNamespaceType::Cgroup,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Time,
        LinuxNamespaceType::User,
        LinuxNamespaceType::Uts,
    ]));
    let mut features = Features::default();
    features
        .set_oci_version_min("1.0.0".to_owned())
        .set_oci_version_max("1.2.0".to_owned())
        .set_hooks(Some(
            ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
                .map(str::to_owned)
                .into(),
        ))
        .set_mount_options(Some(mount_options::known_words()))
        .set_linux(Some(linux));
    let mut answer =
        serde_json::to_value(&features).map_err(std::io::Error::from).step(|| "encode the answer")?;
    if let Some(linux) = answer.get_mut("linux").and_then(serde_json::Value::as_object_mut) {
        linux.insert("cgroup".to_owned(), value);
    }
    print_json(&answer)?;
    Ok(0)
}
