//! Adding a process to a running container.
//!
//! Start reading at [`exec`]. One clone: the caller enters the container's pid namespace for the moment of it (which changes only
//! where children go), the child starts in the v2 cgroup, enters the other namespaces in one call through the init process's
//! descriptor, and goes the same last steps as an init process (`launch.rs`): same filter, same capabilities rules, same
//! labels. It joins the v1 cgroups itself and waits until the caller has set its limits, so no user code ever runs outside them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::cgroup;
use crate::channel::{Channel, Failure, Message};
use crate::container::{ExecProcess, ExecRequest, Keyring, Stdio, TerminalSize};
use crate::create::protect_caller;
use crate::error::{Context, Result, RuntimeError, Warning};
use crate::launch::{Launch, LaunchContext, keyring_name};
use crate::limits;
use crate::masks;
use crate::namespaces::{CLONE_NEWTIME, NamespacePlan, Visit};
use crate::paths::RootDirectory;
use crate::plan::{limit_capabilities, resolve_filter};
use crate::process::{self, ProcessPlan};
use crate::seccomp::Filter;
use crate::stdio;
use crate::sys::{self, CloneRequest, Cloned};
use crate::tty;

/// What has been decided about the new process.
struct ExecPlan {
    process: ProcessPlan,
    filter: Option<Filter>,
    /// Namespaces to enter, as flags of setns(2) for a pid descriptor.
    namespaces: i32,
    joins_user_namespace: bool,
    persona: Option<u64>,
    terminal: Option<TerminalSize>,
}

/// Adds a process to a running container and returns once its program has been executed.
///
/// The container must be running and not frozen (the caller checks; a frozen one would stop this call).
pub fn exec(request: &ExecRequest<'_>) -> Result<ExecProcess> {
    let mut warnings = Vec::new();
    let plan = ExecPlan::resolve(request, &mut warnings)?;
    protect_caller()?;
    let proc = masks::open_host_proc()?;
    let (ours, theirs) = Channel::pair()?;
    let cgroup = request.container.cgroup();
    let directory = cgroup.open_for_clone()?;
    let tasks = cgroup.open_for_join()?;
    let visit = Visit::enter_pid_namespace_of(request.container.pidfd())?;
    let clone = CloneRequest { flags: 0, cgroup: directory.as_ref().map(AsFd::as_fd) };
    let (pid, pidfd) = match sys::clone_process(clone).step(|| "create the exec process")? {
        Cloned::Child => run(request, &plan, (&proc, &tasks), &theirs),
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop((theirs, directory, tasks, proc));
    let accompanied = visit.leave().and_then(|()| accompany(&ours, pid, &plan, &mut warnings));
    match accompanied {
        Ok(terminal) => Ok(ExecProcess { pid, pidfd, terminal, warnings }),
        Err(error) => {
            // Both fail only when the process is gone already, which is what is wanted.
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            Err(error)
        }
    }
}

impl ExecPlan {
    fn resolve(request: &ExecRequest<'_>, warnings: &mut Vec<Warning>) -> Result<Self> {
        let linux = request.spec.linux().as_ref();
        let namespaces = NamespacePlan::resolve(linux)?;
        let mut process = ProcessPlan::resolve(request.process)?;
        let joins_user_namespace = namespaces.separates(LinuxNamespaceType::User);
        if !joins_user_namespace {
            limit_capabilities(&mut process, warnings)?;
        }
        Ok(Self {
            process,
            filter: resolve_filter(request.spec, request.seccomp)?,
            namespaces: flags_to_enter(&namespaces),
            joins_user_namespace,
            persona: linux
                .and_then(|linux| linux.personality().as_ref())
                .map(process::persona)
                .transpose()?,
            terminal: match request.stdio {
                Stdio::Terminal(size) => Some(size),
                Stdio::Inherit | Stdio::Fds { .. } => None,
            },
        })
    }
}

/// Lists the namespaces that the container has apart from the host, except the pid namespace.
fn flags_to_enter(namespaces: &NamespacePlan) -> i32 {
    let kinds = [
        (LinuxNamespaceType::Mount, libc::CLONE_NEWNS),
        (LinuxNamespaceType::Uts, libc::CLONE_NEWUTS),
        (LinuxNamespaceType::Ipc, libc::CLONE_NEWIPC),
        (LinuxNamespaceType::Network, libc::CLONE_NEWNET),
        (LinuxNamespaceType::Cgroup, libc::CLONE_NEWCGROUP),
        (LinuxNamespaceType::User, libc::CLONE_NEWUSER),
        (LinuxNamespaceType::Time, CLONE_NEWTIME),
    ];
    kinds.into_iter().filter(|(kind, _)| namespaces.separates(*kind)).fold(0, |flags, (_, flag)| flags | flag)
}

/// Does the caller's part; returns the terminal once the program has been executed.
fn accompany(
    channel: &Channel,
    pid: i32,
    plan: &ExecPlan,
    warnings: &mut Vec<Warning>,
) -> Result<Option<OwnedFd>> {
    let mut terminal = None;
    let mut is_ready = false;
    loop {
        match channel.receive()? {
            Some((Message::Terminal, master)) => terminal = master,
            Some((Message::Ready, _)) => {
                // Not before: what the child prepares must not suffer from the limits of the program.
                limits::apply(pid, &plan.process, warnings)?;
                // The child may have died meanwhile; then the next message says why, which sending cannot.
                let _ = channel.send(&Message::Continue);
                is_ready = true;
            }
            Some((Message::SeccompListener(_), _)) => {
                return Err(RuntimeError::Unsupported("a seccomp listener for an exec".to_owned()));
            }
            Some((Message::Failed(failure), _)) => return Err(failure.into_error()),
            None if is_ready => return Ok(terminal),
            Some(_) | None => return Err(RuntimeError::Vanished { pid }),
        }
    }
}

const FAILED: i32 = 255;

/// What the child needs of the host: its procfs, and the `tasks` files of the container's v1 cgroups.
type HostFiles<'a> = (&'a OwnedFd, &'a [OwnedFd]);

/// Becomes the exec process; never returns.
fn run(request: &ExecRequest<'_>, plan: &ExecPlan, host: HostFiles<'_>, channel: &Channel) -> ! {
    let outcome = catch_unwind(AssertUnwindSafe(|| become_process(request, plan, host, channel)));
    if let Ok(error) = outcome {
        // The caller may be gone; then there is nobody to tell.
        let _ = channel.send(&Message::Failed(Failure::from_error(error)));
    }
    sys::exit_now(FAILED)
}

fn become_process(
    request: &ExecRequest<'_>,
    plan: &ExecPlan,
    host: HostFiles<'_>,
    channel: &Channel,
) -> RuntimeError {
    match prepare(request, plan, host, channel) {
        Ok(launch) => match channel.send(&Message::Ready).and_then(|()| channel.await_continue()) {
            Ok(true) => launch.execute(channel),
            Ok(false) => sys::exit_now(FAILED),
            Err(error) => error,
        },
        Err(error) => error,
    }
}

fn prepare<'a>(
    request: &ExecRequest<'_>,
    plan: &'a ExecPlan,
    (proc, tasks): HostFiles<'a>,
    channel: &Channel,
) -> Result<Launch<'a>> {
    let container = request.container.pidfd();
    sys::reset_signals();
    stdio::connect(request.stdio)?;
    let mut kept = vec![channel.as_fd().as_raw_fd(), proc.as_raw_fd(), container.as_raw_fd()];
    kept.extend(tasks.iter().map(AsRawFd::as_raw_fd));
    stdio::close_all_but(&kept, request.preserved_fds)?;
    // A process that already leads a session keeps it.
    let _ = rustix::process::setsid();
    cgroup::join(tasks)?;
    sys::setns(container, plan.namespaces).step(|| "join the namespaces of the container")?;
    if plan.joins_user_namespace {
        let (group, user) = (rustix::process::Gid::ROOT, rustix::process::Uid::ROOT);
        rustix::thread::set_thread_res_gid(group, group, group)
            .step(|| "become root of the user namespace")?;
        rustix::thread::set_thread_res_uid(user, user, user).step(|| "become root of the user namespace")?;
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .step(|| "make the exec process not dumpable")?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).step(|| "open the root of the container")?;
    let root = RootDirectory::new(root);
    let terminal = match plan.terminal {
        Some(size) => {
            let terminal = tty::open(&root, size)?;
            channel.send_with(&Message::Terminal, Some(terminal.master.as_fd()))?;
            Some(terminal.slave)
        }
        None => None,
    };
    if let Some(persona) = plan.persona {
        sys::set_personality(persona).step(|| "set the personality")?;
    }
    let context = LaunchContext {
        plan: &plan.process,
        filter: plan.filter.as_ref(),
        proc,
        keyring: keyring_name(&request.container.record().id, Keyring::New),
        terminal,
        preserved_fds: request.preserved_fds,
    };
    Launch::prepare(context, &root)
}
