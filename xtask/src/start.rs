//! `start`, `stop`, `uninstall`: from a fresh machine to a running daemon, and back.
//!
//! Start reading at [`start`]. The daemon gets Docker's places under Shoal's name and touches nothing of a Docker that may be
//! installed beside it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{call, dist, read, setup};

const SOCKET: &str = "/run/shoal.sock";
const PIDFILE: &str = "/run/shoal.pid";
const LOG: &str = "/var/log/shoald.log";
const INSTALLED: &str = "/usr/local/bin/shoald";
/// Name of the image that is made here, so that the first container needs no registry.
const IMAGE: &str = "shoal/box";

/// Installs what is missing, builds, starts, makes an image, and says what to type next.
pub(crate) fn start(_: &[String]) -> Result<()> {
    setup::require_root()?;
    setup::for_run()?;
    let docker = setup::docker_client()?;
    let built = dist::build()?;
    if answers() {
        println!("shoald is already running on unix://{SOCKET}; `make stop` stops it");
    } else {
        let binary = install(&built)?;
        call(&binary.display().to_string(), &["check-config", "--quiet"])
            .context("this machine lacks something that containers need; see above")?;
        launch(&binary)?;
        wait_until_it_answers()?;
    }
    let docker = docker.display().to_string();
    if call("sh", &["-c", &format!("'{docker}' -H unix://{SOCKET} image inspect {IMAGE} >/dev/null 2>&1")])
        .is_err()
    {
        make_image(&docker)?;
    }
    print_next_steps(&docker);
    Ok(())
}

/// Stops the daemon. Its containers go on.
pub(crate) fn stop(_: &[String]) -> Result<()> {
    let Ok(pid) = std::fs::read_to_string(PIDFILE) else {
        println!("shoald is not running");
        return Ok(());
    };
    call("kill", &["-TERM", pid.trim()])?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while Path::new("/proc").join(pid.trim()).exists() {
        if Instant::now() > deadline {
            bail!("process {} does not end; look at {LOG}", pid.trim());
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    println!("shoald has stopped; containers go on and are found again by `make run`");
    Ok(())
}

/// Removes containers, networks, rules, state and the binary.
pub(crate) fn uninstall(_: &[String]) -> Result<()> {
    setup::require_root()?;
    stop(&[])?;
    let binary = Path::new(INSTALLED);
    if binary.exists() {
        call(INSTALLED, &["uninstall"])?;
        std::fs::remove_file(binary)?;
    }
    let _ = std::fs::remove_file(LOG);
    println!("shoal is gone");
    Ok(())
}

/// A running daemon must not depend on the build directory.
fn install(built: &Path) -> Result<PathBuf> {
    let fresh = format!("{INSTALLED}.new");
    std::fs::copy(built, &fresh).with_context(|| format!("copy {} to {fresh}", built.display()))?;
    std::fs::rename(&fresh, INSTALLED)?;
    Ok(PathBuf::from(INSTALLED))
}

/// Starts the daemon in a session of its own, with its log in a file.
fn launch(binary: &Path) -> Result<()> {
    let command = format!("setsid '{}' >>'{LOG}' 2>&1 </dev/null &", binary.display());
    call("sh", &["-c", &command])
}

fn wait_until_it_answers() -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !answers() {
        if Instant::now() > deadline {
            let log = read("tail", &["-n", "20", LOG]).unwrap_or_default();
            bail!("shoald does not answer on {SOCKET}; the end of {LOG}:\n{log}");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

fn answers() -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(SOCKET)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: shoal\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}

/// Makes an image of busybox, which is one static program.
fn make_image(docker: &str) -> Result<()> {
    let script = format!(
        r#"set -e
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/etc" "$work/root" "$work/tmp" "$work/var/www"
chmod 1777 "$work/tmp"
cp "$(command -v busybox)" "$work/bin/busybox"
for name in $(busybox --list); do [ "$name" = busybox ] || ln -s busybox "$work/bin/$name"; done
echo 'root:x:0:0:root:/root:/bin/sh' >"$work/etc/passwd"
echo 'root:x:0:' >"$work/etc/group"
echo '<h1>It floats.</h1>' >"$work/var/www/index.html"
tar -C "$work" -c . | '{docker}' -H unix://{SOCKET} import --change 'CMD ["sh"]' --message 'busybox of this machine' - {IMAGE} >/dev/null
"#
    );
    call("sh", &["-c", &script]).context("make the image that needs no registry")
}

fn print_next_steps(docker: &str) {
    let docker = if setup::find("docker").is_some() { "docker" } else { docker };
    println!(
        "
shoald is ready. Tell docker where it is:

    export DOCKER_HOST=unix://{SOCKET}

and try it, without any registry:

    {docker} run --rm -it {IMAGE} sh
    {docker} run -d --name web -p 8080:80 {IMAGE} httpd -f -h /var/www
    curl http://127.0.0.1:8080/
    {docker} logs web; {docker} exec web ps; {docker} rm -f web

The daemon's log is {LOG}. `make stop` stops the daemon (containers go on), `make uninstall` removes everything."
    );
}
