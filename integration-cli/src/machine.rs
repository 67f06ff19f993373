//! A machine of its own for one daemon: network and mount namespace, cgroup, directory, and a neighbour outside.
//!
//! ```text
//!   outside (netns)                    inside (netns + mntns), where the daemon lives
//!   down0 198.51.100.1  <-- veth -->   up0 198.51.100.2, default route, empty /run, /opt, /etc/docker
//! ```
//! Addresses are documentation ranges and the same in every machine; machines never meet, so suites may run side by
//! side, and the namespaces of the real machine are never touched. Each namespace is held by a shell that waits for the
//! end of its standard input, so it goes when the test process goes. This module does not start daemons.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

use crate::guard::Guard;
use crate::net::{NameServer, Place};
use crate::process::{Running, command, run};

/// Address of the machine on its uplink.
pub const INSIDE: &str = "198.51.100.2";
/// Address of the neighbour: what containers see as "the internet".
pub const OUTSIDE: &str = "198.51.100.1";
/// IPv6 address of the machine on its uplink.
pub const INSIDE_V6: &str = "2001:db8:51::2";
/// Name under which the machine's /etc/hosts knows the neighbour.
pub const OUTSIDE_NAME: &str = "outside.test";

/// Prefix of every name this harness gives to directories and cgroups.
pub const NAME_PREFIX: &str = "shoal-it-";

const INSIDE_SCRIPT: &str = r#"
root=$1 outside=$2
ip link set lo up
ip link add up0 type veth peer name down0 netns "$outside"
ip addr add 198.51.100.2/24 dev up0
ip -6 addr add 2001:db8:51::2/64 dev up0 nodad || true
ip link set up0 up
nsenter --net="/proc/$outside/ns/net" sh -ec '
  ip link set lo up
  ip addr add 198.51.100.1/24 dev down0
  ip -6 addr add 2001:db8:51::1/64 dev down0 nodad || true
  ip link set down0 up'
ip route add default via 198.51.100.1
mkdir -p /etc/docker
for hidden in /run /opt /etc/docker; do mount -t tmpfs shoal-it $hidden; done
mkdir /run/lock
mount --bind "$root/resolv.conf" /etc/resolv.conf
mount --bind "$root/hosts" /etc/hosts
"#;

/// Takes away what no machine has after its power was cut: mounts below its directory, interfaces, rules, files in memory.
const POWER_CUT_SCRIPT: &str = r#"
root=$1
cut -d' ' -f5 /proc/self/mountinfo | grep "^$root/" | sort -r | while read -r point; do umount -l "$point"; done
ip -o link show | cut -d: -f2 | cut -d@ -f1 | tr -d ' ' | grep -v -x -e lo -e up0 -e lan0 |
  while read -r link; do ip link del "$link" 2>/dev/null || true; done
nft flush ruleset
sysctl -q -w net.ipv4.ip_forward=0
rm -rf "$root/exec" "$root/daemon.pid"
find /run -mindepth 1 -delete
mkdir /run/lock
"#;

/// One isolated machine. Dropping it ends every process in it and removes its directory.
#[derive(Debug)]
pub struct Machine {
    name: String,
    root: PathBuf,
    inside_pid: u32,
    outside_pid: u32,
    /// The shells that hold the namespaces; they go when these pipes close.
    holders: Mutex<Vec<Running>>,
    guard: Mutex<Guard>,
    _names: NameServer,
}

impl Machine {
    /// Makes namespaces, cgroup and directory.
    #[track_caller]
    #[must_use]
    pub fn create() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME_PREFIX}{}-{number}", std::process::id());
        let base =
            std::env::var_os("SHOAL_TEST_ROOT").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let root = base.join(&name);
        fs::create_dir_all(&root).expect("the directory of a test machine");
        let guard = Guard::watch(&name, &root);
        fs::write(root.join("resolv.conf"), format!("nameserver {OUTSIDE}\nsearch shoal.test\n")).unwrap();
        fs::write(root.join("hosts"), format!("127.0.0.1\tlocalhost\n{OUTSIDE}\t{OUTSIDE_NAME}\n")).unwrap();
        for group in cgroup_roots() {
            fs::create_dir_all(group.join(&name).join("daemon")).expect("the cgroup of a test machine");
        }
        let outside = hold(&["--net"], "", &[]);
        let arguments = [root.to_string_lossy().into_owned(), outside.pid().to_string()];
        let names = NameServer::start(Place::of_process(outside.pid()));
        let inside = hold(&["--net", "--mount", "--propagation", "private"], INSIDE_SCRIPT, &arguments);
        Self {
            name,
            root,
            inside_pid: inside.pid(),
            outside_pid: outside.pid(),
            holders: Mutex::new(vec![inside, outside]),
            guard: Mutex::new(guard),
            _names: names,
        }
    }

    /// The machine's unique name; its cgroups and its directory carry it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine's directory: daemon roots, socket, logs, files for bind mounts.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Process that holds the machine's namespaces.
    #[must_use]
    pub fn inside_pid(&self) -> u32 {
        self.inside_pid
    }

    /// Process that holds the neighbour's network namespace.
    #[must_use]
    pub fn outside_pid(&self) -> u32 {
        self.outside_pid
    }

    /// A command that runs on this machine, beside the daemon.
    #[must_use]
    pub fn inside(&self, program: &str) -> Command {
        let pid = self.inside_pid;
        let mut command = command("nsenter");
        command.arg(format!("--net=/proc/{pid}/ns/net")).arg(format!("--mount=/proc/{pid}/ns/mnt"));
        command.arg("--").arg(program);
        command
    }

    /// A command that runs on the neighbour.
    #[must_use]
    pub fn outside(&self, program: &str) -> Command {
        let mut command = command("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.outside_pid)).arg("--").arg(program);
        command
    }

    /// A command that starts `program` on this machine as its daemon: in the machine's cgroup, same process id.
    #[must_use]
    pub fn daemon(&self, program: &Path) -> Command {
        let pid = self.inside_pid;
        let join: String = cgroup_roots()
            .iter()
            .map(|group| format!("echo $$ > {}/{}/daemon/cgroup.procs; ", group.display(), self.name))
            .collect();
        let mut command = command("sh");
        command
            .arg("-ec")
            .arg(format!("{join}exec nsenter --net=/proc/{pid}/ns/net --mount=/proc/{pid}/ns/mnt -- \"$@\""));
        command.arg("sh").arg(program);
        command
    }

    /// A path as the daemon sees it, seen from here: for files under the machine's own /etc/docker or /run.
    #[must_use]
    pub fn path_inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.inside_pid))
    }

    /// Cuts the power: every process ends without a word, and what the kernel and /run held is gone. The disk stays.
    #[track_caller]
    pub fn lose_power(&self) {
        crate::condition::eventually("nothing runs any more", || {
            let running = crate::guard::members(&self.name);
            running.iter().filter_map(|pid| Pid::from_raw(*pid)).for_each(|pid| {
                let _ = kill_process(pid, Signal::KILL);
            });
            running.is_empty().then_some(())
        });
        for group in crate::guard::groups(&self.name).iter().filter(|group| !group.ends_with("daemon")) {
            // The machine's own has the daemon's below it.
            let _ = fs::remove_dir(group);
        }
        let mut shell = self.inside("sh");
        shell.args(["-ec", POWER_CUT_SCRIPT, "sh"]).arg(&self.root);
        run(shell, b"").ok();
    }

    /// Ends every process that is left and removes cgroups and directory; what was in the way is returned.
    #[must_use]
    pub fn destroy(&self) -> Vec<String> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.guard.lock().unwrap_or_else(PoisonError::into_inner).purge()
    }
}

/// Where control groups hang: the v2 tree, alone or beside v1 hierarchies.
#[must_use]
pub fn cgroup_roots() -> Vec<PathBuf> {
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    vec![if hybrid.is_dir() { hybrid.to_owned() } else { PathBuf::from("/sys/fs/cgroup") }]
}

/// Every directory in which a cgroup of some hierarchy may lie.
#[must_use]
pub fn cgroup_hierarchies() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        return vec![top.to_owned()];
    }
    let entries = fs::read_dir(top).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    let mut found: Vec<PathBuf> = entries.unwrap_or_default();
    // Joint hierarchies have symlinked twins (cpu -> cpu,cpuacct); one of them is enough.
    found.retain(|path| path.is_dir() && !path.is_symlink());
    found
}

/// Namespaces that a shell holds until the test process or the handle goes; `script` prepares them.
pub(crate) fn hold(namespaces: &[&str], script: &str, arguments: &[String]) -> Running {
    let mut command = command("unshare");
    command.args(namespaces).arg("--").arg("sh").arg("-ec");
    command.arg(format!("{script}\necho ready\nread forever || true")).arg("sh").args(arguments);
    let mut holder = Running::start(command);
    holder.wait_for("ready");
    holder
}
