//! `test vm`: the core cases on a stock Debian kernel, with cgroup v2, AppArmor and everything as modules.
//!
//! Start reading at [`smoke`]. QEMU emulates the machine (no hardware virtualisation is assumed), with this machine's root shared
//! read-only under an overlay in memory: nothing that the guest writes reaches it. A boot takes 15 to 60 seconds and programs run
//! ten to twenty times slower than natively. [`pair`] has two of them at one cable.

mod pair;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::dist::{self, target_directory};
use crate::{call, read, root, setup};

/// Memory of the guest in MiB.
const MEMORY: &str = "3072";
/// Seconds after which the guest has failed.
const LIMIT: &str = "3000";
/// Modules that the guest needs before it can mount its root, in loading order.
const BOOT_MODULES: &[&str] = &[
    "virtio",
    "virtio_ring",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "netfs",
    "fscache",
    "9pnet",
    "9p",
    "9pnet_virtio",
    "overlay",
    "virtio_net",
];
/// Modules that the daemon needs and that nothing loads by itself in the guest.
const MODULES: &[&str] = &[
    "br_netfilter",
    "veth",
    "vxlan",
    "nf_tables",
    "nft_chain_nat",
    "nft_fib_inet",
    "nft_numgen",
    "nft_masq",
    "nft_ct",
    "overlay",
    "tun",
    "macvlan",
];

/// What is worth a slow machine: where the kernel's own ways differ (cgroups, security modules, mounts, packet filters, what CRIU
/// and crun know), and the path that everybody takes. Parts of the names of cases.
const CORE: &[&str] = &[
    "containers::run::",
    "daemon::userns::",
    "networks::bridge::",
    "networks::publish::",
    "process::checkpoint::",
    "process::limits::",
    "process::namespaces::",
    "process::security::",
    "volumes::binds::",
];

/// Runs the core cases of integration-cli in the guest, or those whose names have one of the words of `SHOAL_VM_CASES` in them,
/// on the release binary, or on the one that `SHOAL_TEST_DAEMON` names.
pub(crate) fn smoke() -> Result<()> {
    setup::for_vm()?;
    let daemon = match std::env::var_os("SHOAL_TEST_DAEMON") {
        Some(given) => PathBuf::from(given),
        None => dist::build()?,
    };
    let cases = std::env::var("SHOAL_VM_CASES").unwrap_or_else(|_| CORE.join(" "));
    call("cargo", &["test", "--package", "integration-cli", "--locked", "--no-run"])?;
    let suite = suite_binary()?;
    let script = format!(
        "SHOAL_TEST_DAEMON='{}' SHOAL_TEST_ROOT=/var/lib/shoal-test '{}' --test-threads=2 {}",
        daemon.display(),
        suite.display(),
        cases
    );
    let alone = Guest { name: "vm", network: vec!["-nic".to_owned(), "none".to_owned()], memory: MEMORY };
    alone.run(&["sh", "-c", &script])
}

pub(crate) use pair::smoke as pair_smoke;

/// The newest test binary of integration-cli.
fn suite_binary() -> Result<PathBuf> {
    let built = read(
        "cargo",
        &["test", "--package", "integration-cli", "--locked", "--no-run", "--message-format=json"],
    )?;
    let messages = built.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let executable = messages
        .filter(|message| message["target"]["name"] == "main")
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.collect::<Vec<_>>().pop().context("cargo does not say where the suite is")
}

/// A machine to boot.
struct Guest {
    /// Its directory below the target directory.
    name: &'static str,
    /// What QEMU is told of its network.
    network: Vec<String>,
    /// MiB.
    memory: &'static str,
}

impl Guest {
    /// Boots, runs a command as root, and fails when the command does.
    fn run(&self, command: &[&str]) -> Result<()> {
        let work = target_directory()?.join("vm").join(self.name);
        std::fs::create_dir_all(&work)?;
        let kernel = fetch_kernel(&target_directory()?.join("vm"))?;
        write_initrd(&work, &kernel)?;
        write_guest_script(&work, &kernel, command)?;
        let at = |path: &Path| path.display().to_string();
        let (image, initrd) = (at(&kernel.image), at(&work.join("initrd")));
        let output = work.join("console.log");
        let mut arguments = vec![
            LIMIT,
            "qemu-system-x86_64",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            self.memory,
            "-nographic",
            "-no-reboot",
            "-kernel",
            &image,
            "-initrd",
            &initrd,
            "-virtfs",
            "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
            "-append",
            "console=ttyS0 panic=1 quiet loglevel=1 net.ifnames=0 systemd.unified_cgroup_hierarchy=1",
        ];
        arguments.extend(self.network.iter().map(String::as_str));
        let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
        let shell = format!(
            "timeout {} </dev/null 2>&1 | stdbuf -oL tr -d '\\r' | tee '{}'",
            quoted.join(" "),
            at(&output)
        );
        call("sh", &["-c", &shell])?;
        let console = std::fs::read_to_string(&output)?;
        match console.lines().rev().find_map(|line| line.strip_prefix("vm: exit ")) {
            Some("0") => Ok(()),
            Some(code) => {
                bail!("the command failed in the guest with {code}; the console is in {}", output.display())
            }
            None => bail!("the guest did not finish; the console is in {}", output.display()),
        }
    }
}

/// A kernel with its modules.
struct Kernel {
    image: PathBuf,
    modules: PathBuf,
}

/// Takes Debian's kernel out of its package.
fn fetch_kernel(work: &Path) -> Result<Kernel> {
    let unpacked = work.join("kernel");
    if !unpacked.join("boot").exists() {
        let script = format!(
            "set -e; cd '{}'; package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \\(linux-image-[0-9].*\\)/\\1/p' \
             | head -n 1); apt-get download -qq \"$package\"; dpkg -x \"$package\"_*.deb kernel; rm \"$package\"_*.deb",
            work.display()
        );
        call("sh", &["-c", &script])?;
    }
    let versions = std::fs::read_dir(unpacked.join("lib/modules"))?;
    let version = versions.flatten().next().context("the kernel package has no modules")?.file_name();
    let version = version.to_string_lossy().into_owned();
    let modules = unpacked.join("lib/modules").join(&version);
    if !modules.join("modules.dep").exists() {
        call("depmod", &["-b", &unpacked.display().to_string(), &version])?;
    }
    Ok(Kernel { image: unpacked.join("boot").join(format!("vmlinuz-{version}")), modules })
}

/// Makes the first file system of the guest: busybox, the modules that find the root, and a script that mounts it.
fn write_initrd(work: &Path, kernel: &Kernel) -> Result<()> {
    let tree = work.join("initrd.d");
    if tree.exists() {
        std::fs::remove_dir_all(&tree)?;
    }
    for directory in ["bin", "m", "proc", "sys", "dev"] {
        std::fs::create_dir_all(tree.join(directory))?;
    }
    let busybox = setup::find("busybox").context("busybox is missing")?;
    std::fs::copy(busybox, tree.join("bin/busybox"))?;
    for (number, module) in (10..).zip(BOOT_MODULES) {
        let found =
            read("find", &[&kernel.modules.display().to_string(), "-name", &format!("{module}.ko*")])?;
        // Some are built into the kernel.
        if let Some(path) = found.lines().next() {
            std::fs::copy(path, tree.join(format!("m/{number}-{module}.ko")))?;
        }
    }
    let guest = work.join("guest.sh");
    let init = format!(
        r#"#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t sysfs sysfs /sys; $B mount -t devtmpfs dev /dev
for round in 1 2 3; do for module in /m/*.ko; do $B insmod $module 2>/dev/null; done; done
$B mkdir -p /ro /rw /root.new
$B mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 host /ro || {{ $B echo "9p mount failed"; $B poweroff -f; }}
$B mount -t tmpfs -o size=80% tmpfs /rw; $B mkdir -p /rw/u /rw/w
$B mount -t overlay -o lowerdir=/ro,upperdir=/rw/u,workdir=/rw/w overlay /root.new
for directory in proc sys dev; do $B mkdir -p /root.new/$directory; $B mount --move /$directory /root.new/$directory; done
exec $B switch_root /root.new /bin/bash {}
"#,
        guest.display()
    );
    std::fs::write(tree.join("init"), init)?;
    let script = format!(
        "chmod +x '{tree}/init' && cd '{tree}' && find . | cpio -o -H newc 2>/dev/null | gzip -1 >'{work}/initrd'",
        tree = tree.display(),
        work = work.display()
    );
    call("sh", &["-c", &script])
}

/// What the guest does once it has its root: mount what a stock host has, run the command, say how it ended.
fn write_guest_script(work: &Path, kernel: &Kernel, command: &[&str]) -> Result<()> {
    let quoted: Vec<String> =
        command.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    let modules = kernel.modules.parent().context("modules without a directory")?;
    let script = format!(
        r#"export PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
mount -t proc proc /proc 2>/dev/null; mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts devpts /dev/pts; for at in /dev/shm /tmp /run /var/tmp; do mount -t tmpfs tmpfs $at; done
mkdir -p /var/lib/shoal-test && mount -t tmpfs tmpfs /var/lib/shoal-test
mount -t cgroup2 cgroup2 /sys/fs/cgroup; mount -t securityfs securityfs /sys/kernel/security 2>/dev/null
echo "+cpu +io +memory +pids +cpuset" >/sys/fs/cgroup/cgroup.subtree_control
mkdir -p /lib/modules; mount --bind '{modules}' /lib/modules
for module in {wanted}; do modprobe -q $module; done
ip link set lo up; sysctl -qw net.ipv4.ip_forward=1; hostname vm
cd '{root}'; echo; echo "vm: up in $(cut -d' ' -f1 /proc/uptime) s, kernel $(uname -r), controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
{command}
echo "vm: exit $?"; sync; echo o >/proc/sysrq-trigger; sleep 30
"#,
        modules = modules.display(),
        wanted = MODULES.join(" "),
        root = root()?.display(),
        command = quoted.join(" ")
    );
    Ok(std::fs::write(work.join("guest.sh"), script)?)
}
