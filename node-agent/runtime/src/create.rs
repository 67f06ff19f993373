//! Making a container, the creating process's side.
//!
//! Start reading at [`create`]. The order, and who does what:
//!
//! 1. decide everything (`plan.rs`); open everything of the host: root, mount sources, namespaces (`HostSide`);
//! 2. make the cgroup and set its limits, before anything runs in it;
//! 3. clone once, into the new namespaces and the v2 cgroup; the child goes on in `init.rs`;
//! 4. while the child mounts, set what only this side may set (resource limits, OOM score);
//! 5. hooks of the runtime namespace; then the child reports that it is ready and waits at its gate.
//!
//! A failure at any step kills and reaps the child and removes the cgroup: nothing else exists outside the child.

use std::os::fd::{AsFd, OwnedFd};

use oci_spec::runtime::LinuxNamespaceType;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::cgroup::Cgroup;
use crate::cgroup_mounts::{CgroupMounts, CgroupView};
use crate::channel::{Channel, Message};
use crate::container::{Container, ContainerRecord, CreateRequest, Created, Gate, RootSwitch};
use crate::devices::HostDevices;
use crate::empty_mounts::Stay;
use crate::error::{Context, Result, RuntimeError, Warning};
use crate::hooks::{self, Stage, Subject};
use crate::idmap;
use crate::init::{self, InitContext};
use crate::limits;
use crate::masks;
use crate::mounts::{MountKind, PreparedMount};
use crate::namespaces::{JoinedNamespaces, UserNamespace, Visit};
use crate::plan::ContainerPlan;
use crate::rootfs;
use crate::sealed;
use crate::sys::{self, CloneRequest, Cloned};

/// Creates a container up to its gate.
///
/// Returns when everything is prepared: namespaces, cgroup with limits, mounts, masks, the filter compiled and the program
/// found. The calling process must have one thread. Afterwards it is not dumpable (prctl(2) `PR_SET_DUMPABLE`), so that
/// no process of the container can trace or inspect what it clones.
pub fn create(request: CreateRequest<'_>) -> Result<Created> {
    let mut warnings = Vec::new();
    let plan = ContainerPlan::resolve(&request, &mut warnings)?;
    if !sealed::is_sealed() {
        warnings.push(Warning::BinaryNotSealed);
    }
    protect_caller()?;
    let cgroup = Cgroup::at(&plan.cgroup_path)?;
    refuse_occupied(&cgroup)?;
    let created = cgroup.create().and_then(|()| cgroup.apply(&plan.resources)).and_then(|limits| {
        warnings.extend(limits);
        start_init(request, &plan, &cgroup, &mut warnings)
    });
    match created {
        Ok((container, terminal)) => Ok(Created { container, terminal, warnings }),
        Err(error) => {
            // The cause is what matters; a cgroup that cannot be removed now is found again by its name.
            let _ = cgroup.remove();
            Err(error)
        }
    }
}

/// Refuses a cgroup in which processes run: limiting, emptying or removing it would hit somebody else.
fn refuse_occupied(cgroup: &Cgroup) -> Result<()> {
    match cgroup.pids()?.len() {
        0 => Ok(()),
        count => Err(RuntimeError::InvalidSpec(format!(
            "container's cgroup is not empty: {count} process(es) found in {}",
            cgroup.path().display()
        ))),
    }
}

/// Keeps processes of containers from looking into the clones of this one before they are executed.
pub(crate) fn protect_caller() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .step(|| "make the runtime not dumpable")?;
    for (number, fd) in
        [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()].iter().enumerate()
    {
        if rustix::io::fcntl_getfd(fd).is_err() {
            return Err(RuntimeError::step(
                format!("descriptor {number} must be open"),
                rustix::io::Errno::BADF,
            ));
        }
    }
    Ok(())
}

/// What was opened on the host's side for the child.
#[derive(Debug)]
pub(crate) struct HostSide {
    pub(crate) proc: OwnedFd,
    pub(crate) null: Option<OwnedFd>,
    pub(crate) root: OwnedFd,
    pub(crate) mounts: Vec<PreparedMount>,
    pub(crate) cgroups: CgroupMounts,
    pub(crate) devices: HostDevices,
    pub(crate) joined: JoinedNamespaces,
    /// The `tasks` files of the v1 cgroups.
    pub(crate) tasks: Vec<OwnedFd>,
}

impl HostSide {
    fn open(plan: &ContainerPlan, cgroup: &Cgroup) -> Result<Self> {
        let shows_cgroups = plan.mounts.iter().any(|mount| mount.kind == MountKind::Cgroup);
        let view = if plan.namespaces.separates(LinuxNamespaceType::Cgroup) {
            CgroupView::Namespace
        } else {
            CgroupView::Host
        };
        let makes_nodes = matches!(plan.namespaces.user, UserNamespace::Shared);
        Ok(Self {
            proc: masks::open_host_proc()?,
            null: if plan.masked_paths.is_empty() { None } else { Some(masks::open_null()?) },
            root: rootfs::open(&plan.rootfs)?,
            mounts: plan.mounts.iter().cloned().map(PreparedMount::open).collect::<Result<_>>()?,
            cgroups: if shows_cgroups { CgroupMounts::prepare(cgroup, view)? } else { CgroupMounts::None },
            devices: if makes_nodes || !plan.fills_dev {
                HostDevices::default()
            } else {
                HostDevices::open(&plan.devices)?
            },
            joined: plan.namespaces.open_joined()?,
            tasks: cgroup.open_for_join()?,
        })
    }
}

fn start_init(
    request: CreateRequest<'_>,
    plan: &ContainerPlan,
    cgroup: &Cgroup,
    warnings: &mut Vec<Warning>,
) -> Result<(Container, Option<OwnedFd>)> {
    let host = HostSide::open(plan, cgroup)?;
    let (ours, theirs) = Channel::pair()?;
    let directory = cgroup.open_for_clone()?;
    let visit = Visit::enter(&host.joined.by_caller)?;
    // A kernel or a filter that refuses costs time and nothing else.
    let stay = request.empty_mounts.filter(|_| may_start_empty(&request, plan)).map(Stay::enter);
    let stay = stay.and_then(Result::ok);
    let clone =
        CloneRequest { flags: plan.namespaces.clone_flags, cgroup: directory.as_ref().map(AsFd::as_fd) };
    let cloned = match &host.joined.user {
        Some(user) => init::clone_within(user, clone),
        None => sys::clone_process(clone).step(|| "create the container process"),
    };
    let (pid, pidfd) = match cloned {
        Ok(Cloned::Child) => init::run(InitContext { request, plan, host, channel: theirs }),
        Ok(Cloned::Parent { pid, pidfd }) => (pid, pidfd),
        Err(error) => return Err(error),
    };
    drop((theirs, directory));
    let init = InitProcess { pid, pidfd };
    let finished = stay.map_or(Ok(()), Stay::leave).and_then(|()| visit.leave()).and_then(|()| {
        let terminal = init.accompany(&ours, plan, request_subject(&request, pid), warnings)?;
        Ok((terminal, limits::start_time(pid)?))
    });
    match finished {
        Ok((terminal, start_time)) => {
            let record = ContainerRecord {
                id: request.id.to_owned(),
                bundle: request.bundle.to_path_buf(),
                pid,
                start_time,
                cgroup: cgroup.clone(),
            };
            let gate = match request.gate {
                Gate::Private => Some(ours.into_socket()),
                Gate::Listener(_) => None,
            };
            Ok((Container { record, pidfd: init.pidfd, gate }, terminal))
        }
        Err(error) => {
            init.kill_and_reap();
            Err(error)
        }
    }
}

/// Whether everything that the child does before it has its own root goes through descriptors.
fn may_start_empty(request: &CreateRequest<'_>, plan: &ContainerPlan) -> bool {
    matches!(plan.namespaces.user, UserNamespace::Shared)
        && request.options.root_switch == RootSwitch::Pivot
        && hooks::of(request.spec, Stage::CreateContainer).is_empty()
}

fn request_subject<'a>(request: &CreateRequest<'a>, pid: i32) -> Subject<'a> {
    Subject { id: request.id, bundle: request.bundle, pid: Some(pid), spec: request.spec }
}

/// The child, until it waits at its gate.
struct InitProcess {
    pid: i32,
    pidfd: OwnedFd,
}

impl InitProcess {
    /// Does this side's part of the creation; returns the terminal when the child is ready.
    fn accompany(
        &self,
        channel: &Channel,
        plan: &ContainerPlan,
        subject: Subject<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<OwnedFd>> {
        if let UserNamespace::New { uid_map, gid_map } = &plan.namespaces.user {
            self.expect(channel, |message| matches!(message, Message::WantsMappings))?;
            idmap::write_mappings(self.pid, uid_map, gid_map)?;
            channel.send(&Message::Continue)?;
        }
        let mut terminal = None;
        loop {
            match channel.receive()? {
                Some((Message::Ready, _)) => {
                    // Not before: what is built for the container must not suffer from the container's own limits.
                    limits::apply(self.pid, &plan.process, warnings)?;
                    return Ok(terminal);
                }
                Some((Message::Terminal, master)) => terminal = master,
                Some((Message::WantsRuntimeHooks, _)) => {
                    hooks::run(subject, Stage::Prestart)?;
                    hooks::run(subject, Stage::CreateRuntime)?;
                    channel.send(&Message::Continue)?;
                }
                Some((Message::Failed(failure), _)) => return Err(failure.into_error()),
                Some(_) | None => return Err(RuntimeError::Vanished { pid: self.pid }),
            }
        }
    }

    fn expect(&self, channel: &Channel, wanted: impl Fn(&Message) -> bool) -> Result<()> {
        match channel.receive()? {
            Some((message, _)) if wanted(&message) => Ok(()),
            Some((Message::Failed(failure), _)) => Err(failure.into_error()),
            Some(_) | None => Err(RuntimeError::Vanished { pid: self.pid }),
        }
    }

    fn kill_and_reap(&self) {
        // Both fail only when the process is gone already, which is what is wanted.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}
