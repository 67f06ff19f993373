//! A bench for containers: a root file system, a configuration to change, and the runtimes to run it with.
//!
//! Start reading at [`Bench`].

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The implementations that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Ours,
    Runc,
    Crun,
}

impl Runtime {
    /// Those that this machine has.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Ours];
        for (runtime, program) in [(Self::Runc, "runc"), (Self::Crun, "crun")] {
            match Command::new(program).arg("--version").output() {
                Ok(output) if output.status.success() => all.push(runtime),
                _ => println!("SKIPPED: {program} is not installed, nothing to compare with"),
            }
        }
        all
    }
}

/// A bundle, a state root and a cgroup for one test.
pub(crate) struct Bench {
    directory: TempDir,
    pub(crate) config: Value,
    cgroup: String,
    ids: Vec<(Runtime, String)>,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Bench {
    /// Makes a bench with a plain configuration; `None`, with a word about it, where it cannot work.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: containers need root");
            return None;
        }
        if !Path::new("/bin/busybox").exists() {
            println!("SKIPPED: /bin/busybox is missing (package busybox-static)");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        make_rootfs(&directory.path().join("bundle/rootfs"));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("shoal-test-{}-{number}", std::process::id());
        Some(Self { directory, config: plain_config(), cgroup, ids: Vec::new() })
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.bundle().join("rootfs")
    }

    /// A place on the host beside the bundle.
    pub(crate) fn host(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn cgroup_of(&self, id: &str) -> String {
        format!("/{}/{id}", self.cgroup)
    }

    pub(crate) fn set_args(&mut self, arguments: &[&str]) {
        self.config["process"]["args"] = json!(arguments);
    }

    pub(crate) fn set_script(&mut self, script: &str) {
        self.set_args(&["sh", "-c", script]);
    }

    pub(crate) fn add_mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    pub(crate) fn namespaces(&mut self) -> &mut Vec<Value> {
        self.config["linux"]["namespaces"].as_array_mut().unwrap()
    }

    fn write_config(&mut self, id: &str) {
        self.config["linux"]["cgroupsPath"] = json!(self.cgroup_of(id));
        let text = serde_json::to_vec(&self.config).unwrap();
        fs::write(self.bundle().join("config.json"), text).unwrap();
    }

    /// Prepares a command of a runtime for a container of this bench.
    pub(crate) fn command<S: AsRef<OsStr>>(&mut self, runtime: Runtime, arguments: &[S]) -> Command {
        let root = self.directory.path().join(format!("state-{runtime:?}"));
        let mut command = match runtime {
            Runtime::Ours => Command::new(env!("CARGO_BIN_EXE_node-runtime")),
            Runtime::Runc => Command::new("runc"),
            Runtime::Crun => {
                // It refuses hosts where cgroup v2 stands beside v1 and has controllers.
                let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec crun \"$@\"";
                let mut command = Command::new("unshare");
                command.args(["-m", "sh", "-c", script, "crun"]);
                command
            }
        };
        command.arg("--root").arg(root).args(arguments).current_dir(self.bundle()).stdin(self.null_device());
        command
    }

    /// A null device of this bench: crun gives what is its stdin to the container's user, and the machine's own would stay his.
    fn null_device(&self) -> Stdio {
        let node = self.directory.path().join("null");
        if !node.exists() {
            let device = rustix::fs::makedev(1, 3);
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &node,
                rustix::fs::FileType::CharacterDevice,
                0o666.into(),
                device,
            )
            .expect("a device node");
        }
        // Not to be opened where temporary files lie on a file system without devices.
        fs::File::open(&node).map_or_else(|_| Stdio::null(), Stdio::from)
    }

    /// Runs the configuration to its end.
    pub(crate) fn run(&mut self, runtime: Runtime) -> Output {
        let id = format!("run{}", self.ids.len());
        self.ids.push((runtime, id.clone()));
        self.write_config(&id);
        self.command(runtime, &["run", "--bundle", ".", &id]).output().unwrap()
    }

    /// Runs the configuration to its end with this runtime and returns what it printed; fails loudly if it failed.
    pub(crate) fn run_ok(&mut self, runtime: Runtime) -> String {
        let output = self.run(runtime);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{runtime:?}: {output:?}");
        text
    }

    /// Makes a container that waits for its start, with this runtime.
    pub(crate) fn create(&mut self, id: &str) -> Output {
        self.ids.push((Runtime::Ours, id.to_owned()));
        self.write_config(id);
        let log = fs::File::create(self.host(&format!("{id}.out"))).unwrap();
        let mut command = self.command(Runtime::Ours, &["create", "--bundle", ".", id]);
        // The container keeps stdout and stderr: a pipe would never end.
        let status = command.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap();
        let text = fs::read(self.host(&format!("{id}.out"))).unwrap();
        Output { status, stdout: text.clone(), stderr: text }
    }

    /// Runs a command of this runtime.
    pub(crate) fn ours(&mut self, arguments: &[&str]) -> Output {
        self.command(Runtime::Ours, arguments).output().unwrap()
    }

    pub(crate) fn ours_ok(&mut self, arguments: &[&str]) -> String {
        let output = self.ours(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes and starts a container that sleeps.
    pub(crate) fn start_sleeper(&mut self, id: &str) {
        self.set_args(&["sleep", "1000"]);
        let created = self.create(id);
        assert!(created.status.success(), "{created:?}");
        self.ours_ok(&["start", id]);
    }

    pub(crate) fn status(&mut self, id: &str) -> Value {
        serde_json::from_str(&self.ours_ok(&["state", id])).unwrap()
    }

    /// The state of a container's init process as the host sees it.
    pub(crate) fn pid(&mut self, id: &str) -> i32 {
        i32::try_from(self.status(id)["pid"].as_i64().unwrap()).unwrap()
    }

    /// Starts a command of this runtime and leaves it running, with a pipe to its stdin.
    pub(crate) fn spawn(&mut self, arguments: &[&str]) -> Child {
        let mut command = self.command(Runtime::Ours, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Reads a file of a container's cgroup.
    pub(crate) fn cgroup_file(&self, id: &str, controller: &str, file: &str) -> Option<String> {
        let below = self.cgroup_of(id);
        let root = Path::new("/sys/fs/cgroup");
        [root.join(controller), root.to_path_buf()]
            .into_iter()
            .find_map(|mount| fs::read_to_string(mount.join(below.trim_start_matches('/')).join(file)).ok())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for (runtime, id) in std::mem::take(&mut self.ids) {
            let _ = self.command(runtime, &["delete", "--force", &id]).output();
        }
        let left = find_cgroups(&self.cgroup);
        for directory in left.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
        if std::thread::panicking() {
            return;
        }
        let children: Vec<_> = left.iter().filter(|path| !path.ends_with(&self.cgroup)).collect();
        assert!(children.is_empty(), "cgroups are left: {children:?}");
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let here = self.directory.path().to_string_lossy().into_owned();
        assert!(!table.contains(&here), "mounts are left: {table}");
    }
}

/// Finds a cgroup and all below it in every hierarchy, parents first.
fn find_cgroups(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending: Vec<PathBuf> = vec![Path::new("/sys/fs/cgroup").join(name)];
    if let Ok(hierarchies) = fs::read_dir("/sys/fs/cgroup") {
        pending.extend(hierarchies.flatten().map(|hierarchy| hierarchy.path().join(name)));
    }
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap().flatten();
            pending.extend(
                entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()),
            );
            found.push(path);
        }
    }
    found
}

/// Waits until a condition holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::yield_now();
    }
}

fn make_rootfs(root: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/user", "data"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox") {
        let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(applet));
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
    fs::File::create(root.join("etc/passwd")).unwrap().write_all(passwd.as_bytes()).unwrap();
}

/// Capabilities that Docker gives by default.
pub(crate) const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A configuration like Docker's for `docker run busybox`.
fn plain_config() -> Value {
    let sets = json!({ "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES });
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "COLOR=blue"],
            "cwd": "/",
            "capabilities": sets,
            "noNewPrivileges": false,
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "bench",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["ro", "nosuid", "noexec", "nodev"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "mount" }, { "type": "network" }, { "type": "uts" }, { "type": "pid" }, { "type": "ipc" },
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/proc/none"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": default_rules(),
            },
        },
    })
}

/// The rules of the default profile for these capabilities, in the plain form.
fn default_rules() -> Value {
    use node_runtime::seccomp::profile::{KernelVersion, Profile};
    let capabilities = CAPABILITIES.iter().map(|name| serde_json::from_value(json!(name)).unwrap()).collect();
    let profile = Profile::default_profile().unwrap();
    let resolved = profile.resolve(&capabilities, KernelVersion::running().unwrap()).unwrap();
    serde_json::to_value(resolved.syscalls()).unwrap()
}
