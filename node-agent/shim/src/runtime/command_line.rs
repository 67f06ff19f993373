//! External runtimes: runc, crun and every other program with the OCI command line.
//!
//! Start reading at [`CommandLine`]. Each verb is one program run; the shim goes on serving streams while it works and
//! asks [`RunningCommand::conclude`] when it has ended. The runtime says why it failed in a log file of its own, in
//! JSON; its standard error would be the container's. Of the failure's text only the class is derived here, because a
//! text is all that such a program gives.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use node_runtime::cgroup::Cgroup;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Pid, WaitOptions, WaitStatus};
use serde::Deserialize;

use super::criu::CriuWork;
use super::{NewProcess, OciRuntime, ProcessStdio, Progress, mounts};
use crate::bundle::Bundle;
use crate::protocol::{AfterCheckpoint, ExecRequest, Failure, FailureKind};
use crate::sys;

/// A container in the hands of a program with the OCI command line.
#[derive(Debug)]
pub(crate) struct CommandLine {
    id: String,
    program: PathBuf,
    arguments: Vec<String>,
    root: PathBuf,
    /// Numbers the files of the commands.
    n_commands: u32,
    origin: Origin,
}

/// Where the container's processes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// They begin.
    Program,
    /// They go on, from the moment at which they are made.
    Checkpoint,
}

/// A program run that has not been concluded. Its files are in the bundle, which is the current directory.
#[derive(Debug)]
pub(crate) struct RunningCommand {
    pid: Pid,
    verb: &'static str,
    program: PathBuf,
    log: PathBuf,
    /// Where it writes the pid of the process that it makes, if it makes one.
    pid_file: Option<PathBuf>,
    /// Where it sends the master of the terminal that it makes, if it makes one.
    console: Option<Console>,
    /// The process to make, for exec.
    process_file: Option<PathBuf>,
    /// Where CRIU says what it does, if it does anything.
    criu: Option<CriuWork>,
}

#[derive(Debug)]
struct Console {
    path: PathBuf,
    listener: UnixListener,
}

impl CommandLine {
    /// A container that need not exist yet.
    pub(crate) fn new(id: String, program: PathBuf, arguments: Vec<String>, root: PathBuf) -> Self {
        Self { id, program, arguments, root, n_commands: 0, origin: Origin::Program }
    }

    fn begin(&mut self, verb: &'static str) -> Invocation {
        self.n_commands += 1;
        let log = PathBuf::from(format!("runtime-{}.log", self.n_commands));
        let mut arguments = self.arguments.clone();
        arguments.extend(["--root".to_owned(), display(&self.root)]);
        arguments.extend([
            "--log".to_owned(),
            display(&absolute(&log)),
            "--log-format".to_owned(),
            "json".to_owned(),
        ]);
        arguments.push(verb.to_owned());
        let command = RunningCommand {
            pid: rustix::process::getpid(),
            verb,
            program: self.program.clone(),
            log,
            pid_file: None,
            console: None,
            process_file: None,
            criu: None,
        };
        Invocation { arguments, stdio: None, command, number: self.n_commands }
    }
}

impl OciRuntime for CommandLine {
    fn create(&mut self, bundle: &Bundle, stdio: ProcessStdio) -> Result<Progress<NewProcess>, Failure> {
        mounts::mount_rootfs(&bundle.launch.rootfs)
            .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?;
        let mut invocation = match &bundle.launch.restore_from {
            None => self.begin("create"),
            Some(images) => {
                self.origin = Origin::Checkpoint;
                let mut invocation = self.begin("restore");
                invocation.arguments.push("--detach".to_owned());
                let work = CriuWork::of_restore(invocation.number);
                invocation.use_criu(images, work);
                invocation
            }
        };
        invocation.push("--bundle", display(&bundle.path));
        invocation.make_process(stdio)?;
        invocation.spawn(&self.id).map(Progress::Running)
    }

    fn start(&mut self) -> Result<Progress<()>, Failure> {
        match self.origin {
            Origin::Program => self.begin("start").spawn(&self.id).map(Progress::Running),
            Origin::Checkpoint => Ok(Progress::Done(())),
        }
    }

    fn exec(&mut self, exec: &ExecRequest, stdio: ProcessStdio) -> Result<Progress<NewProcess>, Failure> {
        let mut invocation = self.begin("exec");
        let process_file = PathBuf::from(format!("process-{}.json", invocation.number));
        fs::write(&process_file, exec.process.get())
            .map_err(|error| internal("write the process", &error))?;
        invocation.push("--process", display(&absolute(&process_file)));
        invocation.command.process_file = Some(process_file);
        invocation.arguments.push("--detach".to_owned());
        invocation.make_process(stdio)?;
        invocation.spawn(&self.id).map(Progress::Running)
    }

    fn checkpoint(&mut self, directory: &Path, after: AfterCheckpoint) -> Result<RunningCommand, Failure> {
        let mut invocation = self.begin("checkpoint");
        let work = CriuWork::of_dump(invocation.number);
        invocation.use_criu(directory, work);
        match after {
            AfterCheckpoint::Run => invocation.arguments.push("--leave-running".to_owned()),
            AfterCheckpoint::Exit => {}
        }
        invocation.spawn(&self.id)
    }

    fn cgroup(&self, init: Pid) -> Result<Cgroup, Failure> {
        let path = cgroup_of(init)
            .ok_or_else(|| Failure::new(FailureKind::Internal, "the container has no cgroup of its own"))?;
        Cgroup::at(&path).map_err(|error| Failure::new(FailureKind::Internal, error.chain()))
    }

    fn delete(&mut self) -> Result<Progress<()>, Failure> {
        let mut invocation = self.begin("delete");
        invocation.arguments.push("--force".to_owned());
        invocation.spawn(&self.id).map(Progress::Running)
    }
}

/// A program run in preparation.
#[derive(Debug)]
struct Invocation {
    arguments: Vec<String>,
    stdio: Option<[OwnedFd; 3]>,
    command: RunningCommand,
    number: u32,
}

impl Invocation {
    fn push(&mut self, option: &str, value: String) {
        self.arguments.extend([option.to_owned(), value]);
    }

    /// Adds what is the same for the two verbs that need CRIU.
    fn use_criu(&mut self, images: &Path, work: CriuWork) {
        self.push("--image-path", display(images));
        self.push("--work-path", display(&absolute(work.directory())));
        self.command.criu = Some(work);
    }

    /// Adds what is the same for the verbs that make a process.
    fn make_process(&mut self, stdio: ProcessStdio) -> Result<(), Failure> {
        let pid_file = PathBuf::from(format!("runtime-{}.pid", self.number));
        self.push("--pid-file", display(&absolute(&pid_file)));
        self.command.pid_file = Some(pid_file);
        match stdio {
            ProcessStdio::Ends(ends) => self.stdio = Some([ends.stdin, ends.stdout, ends.stderr]),
            ProcessStdio::Terminal(_) => {
                // Relative and short: a socket's path has room for 107 bytes only.
                let path = PathBuf::from(format!("console-{}.sock", self.number));
                let listener =
                    UnixListener::bind(&path).map_err(|error| internal("listen for the terminal", &error))?;
                self.push("--console-socket", display(&path));
                self.command.console = Some(Console { path, listener });
            }
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "an external runtime is a program; only the shim runs it")]
    fn spawn(mut self, id: &str) -> Result<RunningCommand, Failure> {
        let mut command = Command::new(&self.command.program);
        command.args(&self.arguments).arg(id);
        match self.stdio {
            Some([stdin, stdout, stderr]) => command.stdin(stdin).stdout(stdout).stderr(stderr),
            // Standard error is the shim's own log.
            None => command.stdin(Stdio::null()).stdout(Stdio::null()),
        };
        sys::unblock_signals_in(&mut command);
        match command.spawn() {
            Ok(child) => {
                // The shim reaps every child itself, by pid; the handle has nothing to add.
                let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                self.command.pid =
                    pid.ok_or_else(|| Failure::new(FailureKind::Internal, "a process without a pid"))?;
                Ok(self.command)
            }
            Err(error) => {
                let reason = error.raw_os_error().map_or_else(|| error.to_string(), node_runtime::errno_text);
                let text = format!("cannot run the runtime {}: {reason}", self.command.program.display());
                self.command.remove_files();
                Err(Failure::new(FailureKind::Runtime, text))
            }
        }
    }
}

impl RunningCommand {
    /// The program's pid.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// What came of it, now that it has ended; the process that it made, if it was to make one.
    pub(crate) fn conclude(mut self, status: WaitStatus) -> Result<Option<NewProcess>, Failure> {
        let outcome =
            if status.exit_status() == Some(0) { self.collect() } else { Err(self.failure(status)) };
        self.remove_files();
        outcome
    }

    fn collect(&mut self) -> Result<Option<NewProcess>, Failure> {
        let Some(pid_file) = &self.pid_file else { return Ok(None) };
        let text =
            fs::read_to_string(pid_file).map_err(|error| internal("read the runtime's pid file", &error))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| {
            Failure::new(FailureKind::Runtime, format!("the runtime made process {text:?}"))
        })?;
        let terminal = match &self.console {
            Some(console) => Some(receive_terminal(&console.listener)?),
            None => None,
        };
        Ok(Some(NewProcess { pid, terminal }))
    }

    fn failure(&self, status: WaitStatus) -> Failure {
        let logged = || fs::read_to_string(&self.log).ok().and_then(|log| last_error(&log));
        let text = self.criu.as_ref().and_then(CriuWork::first_error).or_else(logged);
        let text = text.unwrap_or_else(|| {
            let program = self.program.display();
            match (status.exit_status(), status.terminating_signal()) {
                (_, Some(signal)) => format!("{program} {} was killed by signal {signal}", self.verb),
                (code, None) => format!("{program} {} ended with code {}", self.verb, code.unwrap_or(-1)),
            }
        });
        Failure::new(classify(self.verb, &text), text)
    }

    fn remove_files(&mut self) {
        let console = self.console.take().map(|console| console.path);
        let files = [Some(self.log.clone()), self.pid_file.take(), self.process_file.take(), console];
        for file in files.into_iter().flatten() {
            // Not all were made; the rest goes with the bundle.
            let _ = fs::remove_file(file);
        }
        if let Some(criu) = self.criu.take() {
            criu.remove();
        }
    }
}

/// Takes the descriptor that the runtime has sent before it ended.
fn receive_terminal(listener: &UnixListener) -> Result<OwnedFd, Failure> {
    let receive = || -> io::Result<Option<OwnedFd>> {
        listener.set_nonblocking(true)?;
        let (socket, _) = listener.accept()?;
        receive_descriptor(&socket)
    };
    match receive() {
        Ok(Some(terminal)) => Ok(terminal),
        Ok(None) => Err(Failure::new(FailureKind::Runtime, "the runtime sent no terminal")),
        Err(error) => Err(internal("receive the terminal", &error)),
    }
}

fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 256];
    let mut name = [io::IoSliceMut::new(&mut name)];
    rustix::net::recvmsg(socket, &mut name, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut received = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            received = descriptors.next();
        }
    }
    Ok(received)
}

/// One line of a runtime's log.
#[derive(Debug, Deserialize)]
struct LogLine {
    #[serde(default)]
    level: String,
    msg: String,
}

/// The last error in a runtime's log; crun gives no levels below error and names none.
fn last_error(log: &str) -> Option<String> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<LogLine>(line).ok())
        .rfind(|line| line.level.is_empty() || line.level == "error" || line.level == "fatal")
        .map(|line| line.msg)
}

/// The class of a failure, by the words that dockerd looks for.
fn classify(verb: &str, text: &str) -> FailureKind {
    let makes_process = matches!(verb, "create" | "start" | "exec");
    let text = text.to_lowercase();
    let has_any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if makes_process
        && has_any(&["executable file not found", "not found in $path", "no such file or directory"])
    {
        FailureKind::CommandNotFound
    } else if makes_process && has_any(&["permission denied", "is a directory"]) {
        FailureKind::NotExecutable
    } else if makes_process && has_any(&["not a directory"]) {
        FailureKind::CommandNotFound
    } else {
        FailureKind::Runtime
    }
}

/// Makes a runtime forget a container, after its shim has died; waits for it.
pub(crate) fn forget(id: &str, program: &Path, arguments: &[String], root: &Path) -> Result<(), Failure> {
    let mut runtime =
        CommandLine::new(id.to_owned(), program.to_owned(), arguments.to_owned(), root.to_owned());
    let Progress::Running(command) = runtime.delete()? else { return Ok(()) };
    match rustix::process::waitpid(Some(command.pid()), WaitOptions::empty()) {
        Ok(Some((_, status))) => command.conclude(status).map(drop),
        Ok(None) => Ok(()),
        Err(errno) => Err(internal("wait for the runtime", &errno.into())),
    }
}

/// Whether a file of the bundle belongs to a command.
pub(crate) fn is_command_file(name: &Path) -> bool {
    let Some(name) = name.to_str() else { return false };
    let is = |prefix: &str, suffix: &str| name.starts_with(prefix) && name.ends_with(suffix);
    is("runtime-", ".log") || is("runtime-", ".pid") || is("process-", ".json") || is("console-", ".sock")
}

/// The cgroup of a process, if it is not the root.
pub(crate) fn cgroup_of(process: Pid) -> Option<PathBuf> {
    let pid = Pid::as_raw(Some(process));
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    cgroup_path(&lines).map(PathBuf::from)
}

/// The cgroup of a process in the hierarchy that accounts memory: v1's controller if it is mounted, else v2.
fn cgroup_path(lines: &str) -> Option<&str> {
    let mut unified = None;
    for line in lines.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        if controllers.split(',').any(|controller| controller == "memory") {
            return Some(path).filter(|path| *path != "/");
        }
        if controllers.is_empty() {
            unified = Some(path);
        }
    }
    unified.filter(|path| *path != "/")
}

fn internal(doing: &str, error: &io::Error) -> Failure {
    Failure::new(FailureKind::Internal, format!("cannot {doing}: {error}"))
}

fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

fn display(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Real words of runc 1.1.5 and crun 1.8.1.
    #[test]
    fn failures_are_classed_by_the_runtimes_words() {
        let table = [
            (
                r#"runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH"#,
                FailureKind::CommandNotFound,
            ),
            (
                r#"runc create failed: unable to start container process: exec: "/nope": stat /nope: no such file or directory"#,
                FailureKind::CommandNotFound,
            ),
            (
                r#"runc create failed: unable to start container process: exec: "/etc": is a directory"#,
                FailureKind::NotExecutable,
            ),
            (
                r#"runc create failed: unable to start container process: exec: "/x": permission denied"#,
                FailureKind::NotExecutable,
            ),
            (
                "executable file `nope` not found in $PATH: No such file or directory",
                FailureKind::CommandNotFound,
            ),
            ("open executable: Permission denied", FailureKind::NotExecutable),
            ("container_linux.go: cgroup: device or resource busy", FailureKind::Runtime),
        ];
        for (text, kind) in table {
            assert_eq!(classify("create", text), kind, "{text}");
            assert_eq!(classify("delete", text), FailureKind::Runtime);
        }
    }

    #[test]
    fn the_last_error_of_the_log_counts() {
        let log = concat!(
            r#"{"level":"warning","msg":"w","time":"t"}"#,
            "\n",
            r#"{"level":"error","msg":"first","time":"t"}"#,
            "\n",
            r#"{"level":"error","msg":"last","time":"t"}"#,
            "\n",
            r#"{"level":"info","msg":"i","time":"t"}"#,
            "\nnot json\n"
        );
        assert_eq!(last_error(log).as_deref(), Some("last"));
        assert_eq!(last_error(r#"{"msg":"crun says","time":"t"}"#).as_deref(), Some("crun says"));
        assert_eq!(last_error(""), None);
    }

    #[test]
    fn the_cgroup_is_that_of_the_memory_controller() {
        assert_eq!(cgroup_path("5:pids:/p\n4:cpu,memory:/shoal/x\n0::/u\n"), Some("/shoal/x"));
        assert_eq!(cgroup_path("0::/shoal/x\n"), Some("/shoal/x"));
        assert_eq!(cgroup_path("4:memory:/\n0::/u\n"), None);
        assert_eq!(cgroup_path(""), None);
    }
}
