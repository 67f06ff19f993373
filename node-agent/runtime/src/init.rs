//! Making a container, the container's side: from a fresh clone to a program that waits for its start.
//!
//! Start reading at [`run`]. The process is a copy of its creator in new namespaces. It closes what it does not need,
//! joins and sets up its namespaces, builds the root out of the mounts that the creator has opened, leaves the host's
//! tree behind, and reports. It opens nothing of the host by path except what `/proc` gives through a descriptor that was
//! checked before.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::net::{SocketFlags, accept_with};

use crate::attach::{Attacher, attach};
use crate::cgroup;
use crate::channel::{Channel, Failure, Message};
use crate::container::{CreateRequest, Gate, RootSwitch};
use crate::create::HostSide;
use crate::devices;
use crate::error::{Context, Result, RuntimeError};
use crate::hooks::{self, Stage, Subject};
use crate::launch::{Launch, LaunchContext, keyring_name};
use crate::limits;
use crate::masks::{self, write_proc};
use crate::mount_options::{Depth, RDONLY};
use crate::mounts::MountKind;
use crate::namespaces::{CLONE_NEWTIME, UserNamespace};
use crate::paths::RootDirectory;
use crate::plan::ContainerPlan;
use crate::stdio;
use crate::sys::{self, CloneRequest, Cloned, MountAttributes};
use crate::tty;

/// What the process has from its creator.
#[derive(Debug)]
pub(crate) struct InitContext<'a> {
    pub(crate) request: CreateRequest<'a>,
    pub(crate) plan: &'a ContainerPlan,
    pub(crate) host: HostSide,
    pub(crate) channel: Channel,
}

/// The status of a process that could not become what it should.
const FAILED: i32 = 255;

/// Becomes the container's process; never returns.
pub(crate) fn run(context: InitContext<'_>) -> ! {
    let channel = match rustix::io::fcntl_dupfd_cloexec(&context.channel, 3) {
        Ok(socket) => Channel::from_socket(socket),
        Err(_) => sys::exit_now(FAILED),
    };
    // A panic must not unwind into the copied frames of the creator.
    let outcome = catch_unwind(AssertUnwindSafe(|| become_container(context, &channel)));
    if let Ok(Err((error, gate))) = outcome {
        let failure = Message::Failed(Failure::from_error(error));
        // The creator may be gone; then there is nobody to tell.
        let _ = gate.as_ref().unwrap_or(&channel).send(&failure);
    }
    sys::exit_now(FAILED)
}

/// The error, and the connection that came through the gate if one did.
type InitResult = std::result::Result<(), (RuntimeError, Option<Channel>)>;

fn become_container(context: InitContext<'_>, channel: &Channel) -> InitResult {
    let InitContext { request, plan, host, channel: original } = context;
    let kept = kept_descriptors(&request, &host, channel);
    let HostSide { proc, null, root, mounts, cgroups, devices, joined, tasks } = host;
    let prepare = || -> Result<(RootDirectory, Option<OwnedFd>)> {
        drop(original);
        sys::reset_signals();
        stdio::connect(request.stdio)?;
        stdio::close_all_but(&kept, request.options.preserved_fds)?;
        // A process that already leads a session keeps it.
        let _ = rustix::process::setsid();
        cgroup::join(&tasks)?;
        drop(tasks);
        enter_user_namespace(plan, channel)?;
        joined.by_child.iter().try_for_each(|namespace| namespace.enter())?;
        set_names(plan)?;
        rustix::process::umask(rustix::fs::Mode::empty());
        let root = hang_root(root)?;
        let mut setup = RootSetup {
            plan,
            request: &request,
            root: &root,
            proc: &proc,
            channel,
            has_late_namespaces: false,
        };
        let terminal = setup.fill(&mounts, &cgroups, &devices)?;
        setup.leave_host()?;
        setup.protect(null)?;
        Ok((root, terminal))
    };
    let (root, slave) = prepare().map_err(|error| (error, None))?;
    let context = LaunchContext {
        plan: &plan.process,
        filter: plan.filter.as_ref(),
        proc: &proc,
        keyring: keyring_name(request.id, request.options.keyring),
        terminal: slave,
        preserved_fds: request.options.preserved_fds,
    };
    let launch = Launch::prepare(context, &root).map_err(|error| (error, None))?;
    channel.send(&Message::Ready).map_err(|error| (error, None))?;
    let gate = wait_at_gate(&request.gate, channel).map_err(|error| (error, None))?;
    let starter = gate.as_ref().unwrap_or(channel);
    if let Err(error) = run_start_hooks(&request, &proc) {
        return Err((error, gate));
    }
    let error = launch.execute(starter);
    Err((error, gate))
}

/// Lists the descriptors that the process still needs.
fn kept_descriptors(request: &CreateRequest<'_>, host: &HostSide, channel: &Channel) -> Vec<i32> {
    let mut kept = vec![channel.as_fd().as_raw_fd(), host.proc.as_raw_fd(), host.root.as_raw_fd()];
    kept.extend(host.null.as_ref().map(AsRawFd::as_raw_fd));
    kept.extend(
        host.mounts.iter().filter_map(|mount| mount.detached.as_ref()).map(|mount| mount.fd.as_raw_fd()),
    );
    kept.extend(host.tasks.iter().map(AsRawFd::as_raw_fd));
    kept.extend(host.cgroups.descriptors().map(|fd| fd.as_raw_fd()));
    kept.extend(host.devices.descriptors().map(|fd| fd.as_raw_fd()));
    kept.extend(host.joined.by_child.iter().map(|namespace| namespace.fd().as_raw_fd()));
    if let Gate::Listener(listener) = &request.gate {
        kept.push(listener.as_raw_fd());
    }
    kept
}

fn enter_user_namespace(plan: &ContainerPlan, channel: &Channel) -> Result<()> {
    match plan.namespaces.user {
        UserNamespace::Shared => return Ok(()),
        UserNamespace::New { .. } => {
            channel.send(&Message::WantsMappings)?;
            await_creator(channel)?;
        }
        UserNamespace::Joined(_) => {}
    }
    let root = (rustix::process::Gid::ROOT, rustix::process::Uid::ROOT);
    rustix::thread::set_thread_res_gid(root.0, root.0, root.0)
        .step(|| "become root of the user namespace")?;
    rustix::thread::set_thread_res_uid(root.1, root.1, root.1)
        .step(|| "become root of the user namespace")?;
    // The change of ids has set the flag anew.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .step(|| "make the container process not dumpable")?;
    match plan.namespaces.late_flags {
        0 => Ok(()),
        flags => sys::unshare(flags).step(|| "create namespaces in the user namespace"),
    }
}

/// Waits for the creator's word; its silence means that it has died, and so must this process.
fn await_creator(channel: &Channel) -> Result<()> {
    if channel.await_continue()? { Ok(()) } else { sys::exit_now(FAILED) }
}

fn set_names(plan: &ContainerPlan) -> Result<()> {
    if let Some(hostname) = &plan.hostname {
        rustix::system::sethostname(hostname.as_bytes()).step(|| format!("set the hostname {hostname:?}"))?;
    }
    if let Some(name) = &plan.domain_name {
        sys::set_domain_name(name).step(|| format!("set the domain name {name:?}"))?;
    }
    Ok(())
}

/// Hangs the root over `/` of the copied tree, where it hides nothing that is still needed by path.
fn hang_root(root: OwnedFd) -> Result<RootDirectory> {
    // Slave, not private: what the host unmounts meanwhile must not stay busy because of this copy.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .step(|| "cut the propagation of mounts to the host")?;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let top = rustix::fs::open("/", flags, rustix::fs::Mode::empty()).step(|| "open /")?;
    attach(&root, &top, Path::new("/"))?;
    Ok(RootDirectory::new(root))
}

/// Builds the container's root.
struct RootSetup<'a> {
    plan: &'a ContainerPlan,
    request: &'a CreateRequest<'a>,
    root: &'a RootDirectory,
    proc: &'a OwnedFd,
    channel: &'a Channel,
    /// Whether the cgroup and time namespaces exist.
    has_late_namespaces: bool,
}

impl RootSetup<'_> {
    /// Hangs everything in; returns the process's side of its terminal.
    fn fill(
        &mut self,
        mounts: &[crate::mounts::PreparedMount],
        cgroups: &crate::cgroup_mounts::CgroupMounts,
        host_devices: &devices::HostDevices,
    ) -> Result<Option<OwnedFd>> {
        let mut attacher = Attacher {
            root: self.root,
            cgroups,
            label: self.plan.mount_label.as_deref(),
            read_only_at_end: Vec::new(),
        };
        for mount in mounts {
            if mount.plan.kind == MountKind::Cgroup {
                // A cgroup namespace is rooted where its maker is: first the cgroups, then the namespace, then the view.
                self.enter_late_namespaces()?;
            }
            attacher.attach(mount)?;
        }
        if self.plan.fills_dev {
            devices::populate(self.root, &self.plan.devices, host_devices, self.proc)?;
        }
        let slave = self.open_terminal()?;
        // Created with the root still writable, as runc does.
        self.root.make_directories(&crate::paths::clean_absolute(Path::new(self.cwd())))?;
        attacher.finish()?;
        self.enter_late_namespaces()?;
        self.run_create_hooks()?;
        Ok(slave)
    }

    fn cwd(&self) -> &std::ffi::OsStr {
        <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(self.plan.process.cwd.as_bytes())
    }

    /// Makes the namespaces that cannot come from the clone.
    fn enter_late_namespaces(&mut self) -> Result<()> {
        if self.has_late_namespaces {
            return Ok(());
        }
        self.has_late_namespaces = true;
        if self.plan.namespaces.creates(LinuxNamespaceType::Cgroup) {
            sys::unshare(libc::CLONE_NEWCGROUP).step(|| "create the cgroup namespace")?;
        }
        if let Some(offsets) = &self.plan.namespaces.new_time {
            sys::unshare(CLONE_NEWTIME).step(|| "create the time namespace")?;
            if !offsets.is_empty() {
                write_proc(self.proc, Path::new("self/timens_offsets"), offsets)
                    .step(|| "set the offsets of the time namespace")?;
            }
            // So far only children would be in it; that execve(2) enters it too is true only of newer kernels.
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
            let own =
                rustix::fs::openat(self.proc, "self/ns/time_for_children", flags, rustix::fs::Mode::empty())
                    .step(|| "open the time namespace")?;
            sys::setns(&own, CLONE_NEWTIME).step(|| "enter the time namespace")?;
        }
        Ok(())
    }

    fn open_terminal(&self) -> Result<Option<OwnedFd>> {
        let Some(size) = self.plan.terminal else { return Ok(None) };
        let terminal = tty::open(self.root, size)?;
        if self.plan.fills_dev {
            tty::attach_console(self.root, &terminal)?;
        }
        self.channel.send_with(&Message::Terminal, Some(terminal.master.as_fd()))?;
        Ok(Some(terminal.slave))
    }

    fn run_create_hooks(&self) -> Result<()> {
        let spec = self.request.spec;
        if !hooks::of(spec, Stage::Prestart).is_empty() || !hooks::of(spec, Stage::CreateRuntime).is_empty() {
            self.channel.send(&Message::WantsRuntimeHooks)?;
            await_creator(self.channel)?;
        }
        if hooks::of(spec, Stage::CreateContainer).is_empty() {
            return Ok(());
        }
        hooks::run(subject(self.request, self.proc), Stage::CreateContainer)
    }

    /// Makes the container's root the only one there is.
    fn leave_host(&self) -> Result<()> {
        rustix::process::fchdir(self.root).step(|| "enter the root of the container")?;
        match self.request.options.root_switch {
            RootSwitch::Pivot => {
                rustix::process::pivot_root(".", ".").step(|| "pivot_root")?;
                // The old root now lies over the new one, at the same place.
                unmount(".", UnmountFlags::DETACH).step(|| "leave the host's tree")?;
            }
            RootSwitch::Chroot => rustix::process::chroot(".").step(|| "chroot")?,
        }
        rustix::process::chdir("/").step(|| "enter the new root")?;
        if let Some((propagation, depth)) = self.plan.root_propagation {
            let flags = if depth == Depth::Tree { libc::AT_RECURSIVE } else { 0 };
            let attributes = MountAttributes { propagation, ..MountAttributes::default() };
            sys::mount_setattr(self.root, flags, attributes).step(|| "set the propagation of the root")?;
        }
        Ok(())
    }

    /// Sets the kernel's parameters, then hides and protects what user code must not reach.
    fn protect(&self, null: Option<OwnedFd>) -> Result<()> {
        for sysctl in &self.plan.sysctls {
            write_proc(self.proc, &sysctl.path, &sysctl.value)
                .step(|| format!("write {:?} to {}", sysctl.value, sysctl.path.display()))?;
        }
        masks::protect(self.root, &self.plan.readonly_paths)?;
        masks::hide(self.root, &self.plan.masked_paths, null)?;
        if self.plan.root_read_only {
            let read_only = MountAttributes { set: RDONLY, ..MountAttributes::default() };
            sys::mount_setattr(self.root, 0, read_only).step(|| "make the root read-only")?;
        }
        match self.plan.persona {
            Some(persona) => sys::set_personality(persona).step(|| "set the personality"),
            None => Ok(()),
        }
    }
}

/// Waits for the start; with a listener, returns the connection of the process that starts the container.
fn wait_at_gate(gate: &Gate, channel: &Channel) -> Result<Option<Channel>> {
    match gate {
        Gate::Private => await_creator(channel).map(|()| None),
        Gate::Listener(listener) => loop {
            let connection = match accept_with(listener, SocketFlags::CLOEXEC) {
                Err(rustix::io::Errno::INTR) => continue,
                other => Channel::from_socket(other.step(|| "wait for the start")?),
            };
            // Whoever connects and goes away again has not started anything.
            if connection.await_continue().unwrap_or(false) {
                return Ok(Some(connection));
            }
        },
    }
}

fn run_start_hooks(request: &CreateRequest<'_>, proc: &OwnedFd) -> Result<()> {
    if hooks::of(request.spec, Stage::StartContainer).is_empty() {
        return Ok(());
    }
    hooks::run(subject(request, proc), Stage::StartContainer)
}

fn subject<'a>(request: &CreateRequest<'a>, proc: &OwnedFd) -> Subject<'a> {
    // In the host's procfs a process sees itself under the number that the host knows.
    let pid =
        rustix::fs::readlinkat(proc, "self", Vec::new()).ok().and_then(|pid| pid.to_str().ok()?.parse().ok());
    Subject { id: request.id, bundle: request.bundle, pid, spec: request.spec }
}

/// Clones into namespaces that belong to an existing user namespace.
///
/// There is no way back out of a user namespace, so a process in between enters it and makes the container's process a
/// child of the caller (`CLONE_PARENT`).
pub(crate) fn clone_within(user: &OwnedFd, request: CloneRequest<'_>) -> Result<Cloned> {
    let describe = || "create the container process in the joined user namespace";
    let (ours, theirs) = Channel::pair()?;
    match sys::clone_process(CloneRequest::default()).step(describe)? {
        Cloned::Parent { pidfd, .. } => {
            drop(theirs);
            let answer = ours.receive();
            rustix::process::waitid(
                rustix::process::WaitId::PidFd(pidfd.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            )
            .step(describe)?;
            match answer? {
                Some((Message::Cloned, Some(pidfd))) => {
                    Ok(Cloned::Parent { pid: limits::pid_behind(&pidfd)?, pidfd })
                }
                Some((Message::Failed(failure), _)) => Err(failure.into_error()),
                _ => Err(RuntimeError::step(describe(), rustix::io::Errno::CHILD)),
            }
        }
        Cloned::Child => {
            let entered = sys::setns(user, libc::CLONE_NEWUSER).step(|| "join the user namespace");
            let flags = request.flags | u64::from(libc::CLONE_PARENT.unsigned_abs());
            let cloned =
                entered.and_then(|()| sys::clone_process(CloneRequest { flags, ..request }).step(describe));
            let sent = match cloned {
                Ok(Cloned::Child) => return Ok(Cloned::Child),
                Ok(Cloned::Parent { pidfd, .. }) => theirs.send_with(&Message::Cloned, Some(pidfd.as_fd())),
                Err(error) => theirs.send(&Message::Failed(Failure::from_error(error))),
            };
            sys::exit_now(i32::from(sent.is_err()));
        }
    }
}
