//! Everything about a container that can be decided before the kernel is touched.
//!
//! Start reading at [`ContainerPlan::resolve`]. It reads the whole spec once, refuses what is wrong or not supported, and
//! leaves the rest of the runtime with plain values. Pure, except that it asks which capabilities the caller holds.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxResources, Spec};

use crate::container::{CreateRequest, OverlayRootfs, RootfsSource, SeccompSource, Stdio, TerminalSize};
use crate::devices::DevicePlan;
use crate::error::{Context, Result, RuntimeError, Warning};
use crate::mount_options::{Depth, find_propagation};
use crate::mounts::{MountKind, MountPlan};
use crate::namespaces::{NamespacePlan, UserNamespace};
use crate::process::{self, ProcessPlan};
use crate::rootfs::RootfsPlan;
use crate::seccomp::Filter;
use crate::sysctl::{self, Sysctl};

/// A container, decided.
#[derive(Debug)]
pub(crate) struct ContainerPlan {
    pub(crate) process: ProcessPlan,
    pub(crate) namespaces: NamespacePlan,
    pub(crate) rootfs: RootfsPlan,
    pub(crate) root_read_only: bool,
    /// The propagation of the root mount in the end.
    pub(crate) root_propagation: Option<(u64, Depth)>,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) devices: Vec<DevicePlan>,
    /// Whether `/dev` is the container's own, to be filled by the runtime.
    pub(crate) fills_dev: bool,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) readonly_paths: Vec<String>,
    pub(crate) sysctls: Vec<Sysctl>,
    pub(crate) hostname: Option<String>,
    pub(crate) domain_name: Option<String>,
    pub(crate) mount_label: Option<String>,
    pub(crate) persona: Option<u64>,
    pub(crate) cgroup_path: PathBuf,
    pub(crate) resources: LinuxResources,
    pub(crate) filter: Option<Filter>,
    pub(crate) terminal: Option<TerminalSize>,
}

impl ContainerPlan {
    /// Reads the request, or says what is wrong with it.
    pub(crate) fn resolve(request: &CreateRequest<'_>, warnings: &mut Vec<Warning>) -> Result<Self> {
        let spec = request.spec;
        let linux = spec.linux().as_ref();
        refuse_unsupported(spec, linux)?;
        let process = spec.process().as_ref().ok_or_else(|| invalid("process must not be empty"))?;
        let namespaces = NamespacePlan::resolve(linux)?;
        let mut process_plan = ProcessPlan::resolve(process)?;
        if matches!(namespaces.user, UserNamespace::Shared) {
            limit_capabilities(&mut process_plan, warnings)?;
        }
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        let mounts = mounts
            .iter()
            .map(|mount| MountPlan::resolve(mount, request.bundle))
            .collect::<Result<Vec<_>>>()?;
        check_names(spec, &namespaces)?;
        let list = |list: Option<&Option<Vec<String>>>| list.and_then(Clone::clone).unwrap_or_default();
        Ok(Self {
            rootfs: resolve_rootfs(request)?,
            root_read_only: spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
            root_propagation: root_propagation(linux)?,
            fills_dev: fills_dev(&mounts),
            devices: DevicePlan::resolve(linux)?,
            masked_paths: list(linux.map(Linux::masked_paths)),
            readonly_paths: list(linux.map(Linux::readonly_paths)),
            sysctls: sysctl::resolve(linux, &namespaces)?,
            hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
            domain_name: spec.domainname().clone().filter(|name| !name.is_empty()),
            mount_label: linux
                .and_then(|linux| linux.mount_label().clone())
                .filter(|label| !label.is_empty()),
            persona: linux
                .and_then(|linux| linux.personality().as_ref())
                .map(process::persona)
                .transpose()?,
            cgroup_path: cgroup_path(linux, request.id),
            resources: linux.and_then(|linux| linux.resources().clone()).unwrap_or_default(),
            filter: resolve_filter(spec, request.seccomp)?,
            terminal: resolve_terminal(request)?,
            process: process_plan,
            namespaces,
            mounts,
        })
    }
}

fn invalid(text: &str) -> RuntimeError {
    RuntimeError::InvalidSpec(text.to_owned())
}

/// Names what this runtime does not do, instead of ignoring it.
fn refuse_unsupported(spec: &Spec, linux: Option<&Linux>) -> Result<()> {
    let asked = [
        (spec.windows().is_some(), "windows"),
        (spec.solaris().is_some(), "solaris"),
        (spec.vm().is_some(), "vm"),
        (linux.is_some_and(|linux| linux.intel_rdt().is_some()), "linux.intelRdt"),
        (
            linux
                .is_some_and(|linux| linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())),
            "linux.netDevices",
        ),
        (linux.is_some_and(|linux| linux.memory_policy().is_some()), "linux.memoryPolicy"),
        (
            spec.process().as_ref().is_some_and(|process| process.exec_cpu_affinity().is_some()),
            "process.execCPUAffinity",
        ),
    ];
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, name)) => Err(RuntimeError::Unsupported((*name).to_owned())),
        None => Ok(()),
    }
}

/// Gives no more than the caller has: a host may withhold capabilities from the engine itself.
pub(crate) fn limit_capabilities(process: &mut ProcessPlan, warnings: &mut Vec<Warning>) -> Result<()> {
    let held = rustix::thread::capabilities(None).step(|| "read the capabilities of the runtime")?;
    let missing = process.capabilities.limit_to(held.permitted.bits());
    if missing != 0 {
        warnings.push(Warning::CapabilitiesUnavailable { missing });
    }
    Ok(())
}

fn check_names(spec: &Spec, namespaces: &NamespacePlan) -> Result<()> {
    let named = [spec.hostname(), spec.domainname()].into_iter().flatten().any(|name| !name.is_empty());
    if named && !namespaces.separates(LinuxNamespaceType::Uts) {
        return Err(invalid("unable to set hostname without a private UTS namespace"));
    }
    Ok(())
}

fn resolve_rootfs(request: &CreateRequest<'_>) -> Result<RootfsPlan> {
    Ok(match &request.rootfs {
        RootfsSource::FromSpec => {
            let root = request.spec.root().as_ref().ok_or_else(|| invalid("root must not be empty"))?;
            RootfsPlan::Directory(request.bundle.join(root.path()))
        }
        RootfsSource::Path(path) => RootfsPlan::Directory(request.bundle.join(path)),
        RootfsSource::Overlay(overlay) => RootfsPlan::Overlay(OverlayRootfs {
            lower: overlay.lower.iter().map(|path| request.bundle.join(path)).collect(),
            upper: overlay.upper.as_ref().map(|path| request.bundle.join(path)),
            work: overlay.work.as_ref().map(|path| request.bundle.join(path)),
            options: overlay.options.clone(),
        }),
    })
}

fn root_propagation(linux: Option<&Linux>) -> Result<Option<(u64, Depth)>> {
    match linux.and_then(|linux| linux.rootfs_propagation().as_deref()) {
        None | Some("") => Ok(None),
        Some(word) => find_propagation(word)
            .map(Some)
            .ok_or_else(|| RuntimeError::InvalidSpec(format!("rootfsPropagation={word} is not supported"))),
    }
}

/// Tells whether `/dev` is a file system of the container, not a bind mount that belongs to somebody else.
fn fills_dev(mounts: &[MountPlan]) -> bool {
    mounts
        .iter()
        .rfind(|mount| mount.destination == Path::new("/dev"))
        .is_none_or(|mount| !matches!(mount.kind, MountKind::Bind { .. }))
}

fn cgroup_path(linux: Option<&Linux>, id: &str) -> PathBuf {
    match linux.and_then(|linux| linux.cgroups_path().clone()) {
        Some(path) if !path.as_os_str().is_empty() => path,
        _ => Path::new("/").join(id),
    }
}

pub(crate) fn resolve_filter(spec: &Spec, source: SeccompSource<'_>) -> Result<Option<Filter>> {
    let Some(seccomp) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(None);
    };
    match source {
        SeccompSource::FromSpec => Filter::compile(seccomp),
        SeccompSource::Compiled(program) => Filter::of(program, seccomp),
    }
}

fn resolve_terminal(request: &CreateRequest<'_>) -> Result<Option<TerminalSize>> {
    let Stdio::Terminal(size) = request.stdio else { return Ok(None) };
    let stated = request.spec.process().as_ref().and_then(|process| process.console_size());
    let number = |number: u64| {
        u16::try_from(number)
            .map_err(|_| RuntimeError::InvalidSpec(format!("process.consoleSize {number} is too big")))
    };
    Ok(Some(match stated {
        Some(stated) if size == TerminalSize::default() => {
            TerminalSize { rows: number(stated.height())?, columns: number(stated.width())? }
        }
        _ => size,
    }))
}
