//! Known ways out of a container, one test for each class, named after the flaw that made it known.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use serde_json::json;

use crate::support::{Bench, Runtime, wait_until};

fn message(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// CVE-2024-21626: a working directory, or a descriptor, that leads to the host.
#[test]
fn no_descriptor_of_the_host_is_a_way_out() {
    let Some(mut bench) = Bench::new() else { return };
    for descriptor in 3..20 {
        bench.config["process"]["cwd"] = json!(format!("/proc/self/fd/{descriptor}"));
        bench.set_args(&["pwd"]);
        let output = bench.run(Runtime::Ours);
        assert!(!output.status.success(), "cwd by descriptor {descriptor}: {output:?}");
    }
    bench.config["process"]["cwd"] = json!("/");
    bench.start_sleeper("c");
    for descriptor in 3..20 {
        let cwd = format!("/proc/self/fd/{descriptor}");
        let output = bench.ours(&["exec", "--cwd", &cwd, "c", "sh", "-c", "pwd; ls -d data bin/busybox"]);
        // The one that does lead somewhere is the container's own root.
        let is_own_root =
            output.stdout == b"/\nbin/busybox\ndata\n" || output.stdout == b"/\ndata\nbin/busybox\n";
        assert!(!output.status.success() || is_own_root, "exec, cwd by descriptor {descriptor}: {output:?}");
    }
}

#[test]
fn descriptors_that_the_caller_forgot_to_close_do_not_arrive() {
    let Some(mut bench) = Bench::new() else { return };
    bench.set_args(&["ls", "/proc/self/fd"]);
    bench.config["linux"]["cgroupsPath"] = json!(bench.cgroup_of("f"));
    fs::write(bench.bundle().join("config.json"), serde_json::to_vec(&bench.config).unwrap()).unwrap();
    let ours = env!("CARGO_BIN_EXE_node-runtime");
    let script = format!(
        "exec 3</ 4</etc 9<>/tmp; exec {ours} --root {} run --bundle {} f",
        bench.host("state-Ours").display(),
        bench.bundle().display()
    );
    let script = script.replace(" 9<>/tmp", " 9</root");
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n2\n3\n", "{output:?}");
}

/// CVE-2019-5736: writing to the runtime's binary through /proc/<pid>/exe.
#[test]
fn the_runtimes_binary_cannot_be_written_from_inside() {
    let Some(mut bench) = Bench::new() else { return };
    let binary = Path::new(env!("CARGO_BIN_EXE_node-runtime"));
    let before = fs::metadata(binary).unwrap();
    // Full rights, as far as this machine has them: only the seal is between the container and the file.
    let all: Vec<String> = ["SYS_ADMIN", "SYS_PTRACE", "DAC_OVERRIDE", "DAC_READ_SEARCH"]
        .map(|name| format!("CAP_{name}"))
        .into();
    bench.config["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    bench.config["linux"].as_object_mut().unwrap().remove("seccomp");
    // The dynamically linked program needs the host's libraries inside.
    for directory in ["/lib", "/lib64", "/usr/lib"] {
        if Path::new(directory).exists() {
            bench.add_mount(json!({ "destination": directory, "type": "bind", "source": directory, "options": ["rbind", "ro"] }));
        }
    }
    bench.start_sleeper("c");
    // The runtime, executed inside by way of itself, reads stdin and so stays.
    let mut inside = bench.spawn(&["exec", "c", "/proc/self/exe", "update", "--resources", "-", "x"]);
    // The brackets keep the search from finding itself, or a subshell of it.
    let find = "for p in /proc/[0-9]*; do grep -q -a '[r]esources' $p/cmdline && echo $p; done | head -n 1";
    let mut victim = String::new();
    wait_until("the runtime runs inside", || {
        victim = bench.ours_ok(&["exec", "c", "sh", "-c", find]).trim().to_owned();
        !victim.is_empty()
    });
    let attack = format!("readlink {victim}/exe; echo x >>{victim}/exe");
    let output = bench.ours(&["exec", "c", "sh", "-c", &attack]);
    assert!(message(&output).contains("Read-only file system"), "{output:?}");
    drop(inside.stdin.take());
    inside.wait().unwrap();
    let after = fs::metadata(binary).unwrap();
    assert_eq!((before.size(), before.mtime()), (after.size(), after.mtime()));
}

/// Mount points that are links to the host.
#[test]
fn a_mount_point_behind_a_link_stays_inside() {
    let Some(mut bench) = Bench::new() else { return };
    let outside = bench.host("outside");
    fs::create_dir_all(&outside).unwrap();
    symlink(&outside, bench.rootfs().join("link")).unwrap();
    symlink("../../../../../../../../..", bench.rootfs().join("up")).unwrap();
    let source = bench.host("source");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("secret"), "x").unwrap();
    for destination in ["/link/a", "/up/b", "/../../c"] {
        bench.add_mount(
            json!({ "destination": destination, "type": "bind", "source": source, "options": ["bind"] }),
        );
    }
    bench.set_script("cat /b/secret /c/secret; ls -d /link/a");
    let seen = bench.run_ok(Runtime::Ours);
    assert!(seen.starts_with("xx"), "{seen}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
}

/// CVE-2025-31133: a /dev/null of the image under which a masked path is the host's.
#[test]
fn masks_do_not_trust_the_images_null_device() {
    let Some(mut bench) = Bench::new() else { return };
    let dev = bench.host("dev");
    fs::create_dir_all(&dev).unwrap();
    symlink("/proc/sys/kernel/core_pattern", dev.join("null")).unwrap();
    for name in ["zero", "full", "random", "urandom", "tty", "ptmx", "console"] {
        symlink("/proc/sys/kernel/core_pattern", dev.join(name)).unwrap();
    }
    let mounts = bench.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    mounts.push(json!({ "destination": "/dev", "type": "bind", "source": dev, "options": ["bind", "rw"] }));
    bench.set_script("stat -L -c '%F %t:%T' /proc/keys; cat /proc/keys; (echo x >/proc/keys) 2>&1; grep /proc/keys /proc/mounts");
    let seen = bench.run_ok(Runtime::Ours);
    assert!(seen.starts_with("character special file 1:3\n"), "{seen}");
    assert!(!seen.contains(" proc "), "{seen}");
}

/// The same with a plain /dev of the image, which the runtime fills.
#[test]
fn device_nodes_that_the_image_has_replaced_are_refused() {
    let Some(mut bench) = Bench::new() else { return };
    let mounts = bench.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    symlink("/proc/sys/kernel/core_pattern", bench.rootfs().join("dev/null")).unwrap();
    let output = bench.run(Runtime::Ours);
    assert!(message(&output).contains("\"/dev/null\" exists and is another device or file"), "{output:?}");
}

/// CVE-2025-52565: a /dev/console, or a /dev/pts, that leads elsewhere.
#[test]
fn a_console_that_is_a_link_does_not_choose_where_the_terminal_goes() {
    let Some(mut bench) = Bench::new() else { return };
    bench.config["process"]["terminal"] = json!(true);
    let mounts = bench.config["mounts"].as_array_mut().unwrap();
    mounts
        .retain(|mount| !matches!(mount["destination"].as_str(), Some("/dev" | "/dev/mqueue" | "/dev/shm")));
    symlink("/proc/sys/kernel/core_pattern", bench.rootfs().join("dev/console")).unwrap();
    bench.set_script("grep -c core_pattern /proc/mounts; stat -c %F /dev/console");
    let seen = bench.run_ok(Runtime::Ours).replace('\r', "");
    assert_eq!(seen, "0\ncharacter special file\n");
    let mounts = bench.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/dev/pts");
    fs::create_dir_all(bench.rootfs().join("dev/pts")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", bench.rootfs().join("dev/pts/ptmx")).unwrap();
    assert!(!bench.run(Runtime::Ours).status.success(), "a terminal without a devpts");
    fs::remove_file(bench.rootfs().join("dev/pts/ptmx")).unwrap();
    fs::write(bench.rootfs().join("dev/pts/ptmx"), "").unwrap();
    let output = bench.run(Runtime::Ours);
    assert!(message(&output).contains("not a devpts multiplexer"), "{output:?}");
}

/// CVE-2025-52881: mounts that redirect what the runtime writes to procfs.
#[test]
fn what_the_runtime_writes_to_procfs_cannot_be_redirected() {
    let Some(mut bench) = Bench::new() else { return };
    let source = bench.host("source");
    fs::create_dir_all(&source).unwrap();
    bench.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    symlink("/proc/self", bench.rootfs().join("self")).unwrap();
    symlink("/proc/sys", bench.rootfs().join("sysctls")).unwrap();
    for destination in ["/proc/self/attr", "/proc/sys/net", "/self/attr", "/sysctls/net", "/tmp/../proc/sys"]
    {
        bench.add_mount(
            json!({ "destination": destination, "type": "bind", "source": source, "options": ["bind"] }),
        );
        let output = bench.run(Runtime::Ours);
        assert!(
            message(&output).contains("cannot be mounted because it is inside /proc"),
            "{destination}: {output:?}"
        );
        bench.config["mounts"].as_array_mut().unwrap().pop();
    }
    bench.set_args(&["cat", "/proc/sys/net/ipv4/ip_forward"]);
    assert_eq!(bench.run_ok(Runtime::Ours), "1\n");
}

#[test]
fn procfs_is_only_mounted_on_an_ordinary_directory() {
    let Some(mut bench) = Bench::new() else { return };
    fs::remove_dir(bench.rootfs().join("proc")).unwrap();
    symlink("/tmp", bench.rootfs().join("proc")).unwrap();
    let output = bench.run(Runtime::Ours);
    assert!(message(&output).contains("must be mounted on ordinary directory"), "{output:?}");
}

/// Flaws of several runtimes: an exec with more rights than the container.
#[test]
fn an_exec_is_as_confined_as_the_container() {
    let Some(mut bench) = Bench::new() else { return };
    bench.config["process"]["noNewPrivileges"] = json!(true);
    bench.start_sleeper("c");
    let read = |file: &str| format!("grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/{file}/status");
    let init = bench.ours_ok(&["exec", "c", "sh", "-c", &read("1")]);
    let own = bench.ours_ok(&["exec", "c", "sh", "-c", &read("self")]);
    assert_eq!(init, own);
    assert!(own.contains("Seccomp:\t2"), "{own}");
    assert!(own.contains("NoNewPrivs:\t1"), "{own}");
    let denied = bench.ours(&["exec", "c", "mount", "-t", "tmpfs", "x", "/tmp"]);
    assert!(!denied.status.success());
    let written = bench.ours(&["exec", "c", "sh", "-c", "echo x >/proc/sys/kernel/hostname"]);
    assert!(message(&written).contains("Read-only file system"), "{written:?}");
}

/// A process of the container must not trace or inspect the runtime's clone before it is executed.
#[test]
fn the_waiting_process_is_not_dumpable() {
    let Some(mut bench) = Bench::new() else { return };
    bench.namespaces().push(json!({ "type": "user" }));
    let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    bench.config["linux"]["uidMappings"] = mapping.clone();
    bench.config["linux"]["gidMappings"] = mapping;
    std::process::Command::new("chown").arg("-hR").arg("100000:100000").arg(bench.rootfs()).status().unwrap();
    fs::set_permissions(bench.host(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bench.set_args(&["sleep", "1000"]);
    let created = bench.create("c");
    assert!(created.status.success(), "{created:?}");
    let pid = bench.pid("c");
    // The kernel gives the files of a process that is not dumpable to the host's root.
    let owner = |pid: i32| fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid();
    assert_eq!(owner(pid), 0);
    bench.ours_ok(&["start", "c"]);
    wait_until("the program has been executed", || owner(pid) == 100_000);
}

#[test]
fn mounts_of_the_container_never_show_on_the_host() {
    let Some(mut bench) = Bench::new() else { return };
    let source = bench.host("source");
    fs::create_dir_all(&source).unwrap();
    for (destination, propagation) in [("/shared", "rshared"), ("/slave", "rslave"), ("/private", "rprivate")]
    {
        bench.add_mount(json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind", propagation] }));
    }
    bench.start_sleeper("c");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let here = bench.bundle();
    assert!(!table.contains(&*here.to_string_lossy()), "{table}");
    let inside = fs::read_to_string(format!("/proc/{}/mountinfo", bench.pid("c"))).unwrap();
    assert!(inside.lines().count() < 40, "mounts of the host are left inside: {inside}");
}

#[test]
fn limits_that_the_host_refuses_are_warnings() {
    let Some(mut bench) = Bench::new() else { return };
    bench.config["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_NOFILE", "soft": 1_000_000_000_u64, "hard": 1_000_000_000_u64 }]);
    bench.config["process"]["oomScoreAdj"] = json!(-900);
    bench.config["linux"]["cgroupsPath"] = json!(bench.cgroup_of("w"));
    bench.set_script("ulimit -n; cat /proc/self/oom_score_adj");
    fs::write(bench.bundle().join("config.json"), serde_json::to_vec(&bench.config).unwrap()).unwrap();
    let log = bench.host("log");
    let log_text = log.to_string_lossy().into_owned();
    bench.ours_ok(&["--log", &log_text, "--log-format", "json", "run", "--bundle", ".", "w"]);
    let text = fs::read_to_string(&log).unwrap();
    let holds_resource = fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| {
        let mask = line.strip_prefix("CapEff:\t").and_then(|mask| u64::from_str_radix(mask, 16).ok());
        mask.is_some_and(|mask| mask & 1 << 24 != 0)
    });
    if !holds_resource {
        assert!(text.contains("RLIMIT_NOFILE of 1000000000 is above"), "{text}");
        assert!(text.contains("OOM score adjustment of -900"), "{text}");
    }
    let _ = std::io::stdout().flush();
}
