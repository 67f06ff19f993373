//! What a machine needs before anything can be built, run or tested, and installing it.
//!
//! Start reading at [`for_run`] and [`for_tests`]. Packages are Debian's; on another distribution the missing programs are named
//! and nothing is installed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::dist::target_directory;
use crate::{call, read};

/// A program that is needed, and the package that has it.
type Need = (&'static str, &'static str);

/// A C compiler, because ring and zstd have parts in C.
const TO_BUILD: &[Need] = &[("cc", "gcc"), ("ld", "binutils"), ("make", "make")];

/// To make the image that needs no registry, and to look at the network.
const TO_RUN: &[Need] = &[("busybox", "busybox-static"), ("tar", "tar"), ("ps", "procps")];

/// References, peers and tools of the tests.
const TO_TEST: &[Need] = &[
    ("dockerd", "docker.io"),
    ("runc", "runc"),
    ("crun", "crun"),
    ("criu", "criu"),
    ("docker-registry", "docker-registry"),
    ("docker-compose", "docker-compose"),
    ("skopeo", "skopeo"),
    ("htpasswd", "apache2-utils"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("busybox", "busybox-static"),
    ("setpriv", "util-linux"),
    ("socat", "socat"),
    ("wget", "wget"),
    ("faketime", "faketime"),
];

/// Installs what building and running needs.
pub(crate) fn for_run() -> Result<()> {
    install(&[TO_BUILD, TO_RUN, to_confine()].concat())
}

/// What compiles profiles, where the kernel wants them.
fn to_confine() -> &'static [Need] {
    match std::fs::read_to_string("/sys/module/apparmor/parameters/enabled") {
        Ok(text) if text.starts_with('Y') => &[("apparmor_parser", "apparmor")],
        _ => &[],
    }
}

/// Installs what the tests need.
pub(crate) fn for_tests() -> Result<()> {
    install(&[TO_BUILD, TO_RUN, TO_TEST].concat())
}

/// Installs what the clients' suites are written in.
pub(crate) fn for_clients() -> Result<()> {
    install(&[
        ("python3", "python3-venv"),
        ("node", "nodejs"),
        ("npm", "npm"),
        ("unshare", "util-linux"),
        ("debootstrap", "debootstrap"),
    ])
}

/// Installs what makes requests from a description of an API.
pub(crate) fn for_schema() -> Result<()> {
    install(&[("python3", "python3-venv"), ("busybox", "busybox-static"), ("unshare", "util-linux")])
}

/// Installs what measuring beside dockerd needs.
pub(crate) fn for_bench() -> Result<()> {
    install(&[
        ("dockerd", "docker.io"),
        ("docker-registry", "docker-registry"),
        ("busybox", "busybox-static"),
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
        ("tar", "tar"),
        ("gzip", "gzip"),
    ])
}

/// Installs what booting a guest needs.
pub(crate) fn for_vm() -> Result<()> {
    install(&[
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("cpio", "cpio"),
        ("depmod", "kmod"),
        ("busybox", "busybox-static"),
        ("apparmor_parser", "apparmor"),
        ("runc", "runc"),
        ("crun", "crun"),
        ("criu", "criu"),
    ])
}

/// Fails, with what to do, unless we are root.
pub(crate) fn require_root() -> Result<()> {
    if read("id", &["-u"])?.trim() == "0" {
        return Ok(());
    }
    bail!("containers need root: run `sudo make run` (rootless mode is not supported yet)")
}

/// The stock docker client: the one in PATH, else Debian's, taken out of its package without installing the daemon.
pub(crate) fn docker_client() -> Result<PathBuf> {
    if let Some(found) = find("docker") {
        return Ok(found);
    }
    let directory = target_directory()?.join("tools");
    let client = directory.join("usr/bin/docker");
    if !client.exists() {
        std::fs::create_dir_all(&directory)?;
        let at = directory.display().to_string();
        call("sh", &["-c", &format!("cd '{at}' && apt-get download -qq docker.io && dpkg -x docker.io_*.deb . && rm docker.io_*.deb")])
            .context("get the docker client; any docker CLI in PATH will do as well")?;
    }
    Ok(client)
}

fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<Need> = needs.iter().copied().filter(|(program, _)| find(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    if find("apt-get").is_none() {
        let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
        bail!("these programs are missing: {}; install them with your package manager", programs.join(", "));
    }
    require_root().with_context(|| format!("install {}", packages.join(" ")))?;
    eprintln!("installing {}", packages.join(" "));
    let _guard = ServiceGuard::raise()?;
    call("apt-get", &["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(packages);
    call("env", &[&["DEBIAN_FRONTEND=noninteractive", "apt-get"], arguments.as_slice()].concat())
}

/// Keeps packages from starting their services: tests start what they need, where they need it.
struct ServiceGuard {
    path: Option<&'static Path>,
}

impl ServiceGuard {
    /// Debian's packages ask this program before they start anything (invoke-rc.d(8)).
    fn raise() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = Path::new("/usr/sbin/policy-rc.d");
        if path.exists() {
            return Ok(Self { path: None });
        }
        std::fs::write(path, "#!/bin/sh\nexit 101\n")?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { path: Some(path) })
    }
}

impl Drop for ServiceGuard {
    fn drop(&mut self) {
        if let Some(path) = self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Looks a program up in PATH and where Debian puts those of root.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories =
        std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from));
    directories.map(|directory| directory.join(program)).find(|candidate| candidate.is_file())
}
