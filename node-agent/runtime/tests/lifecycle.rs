//! The OCI command line: verbs, states, texts, exec, terminals, hooks.

use std::fs;
use std::io::Read as _;

use serde_json::json;

use crate::support::{Bench, Runtime, wait_until};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[test]
fn a_container_goes_through_its_states() {
    let Some(mut bench) = Bench::new() else { return };
    bench.set_script("echo started >/data/mark; exec sleep 1000");
    assert!(bench.create("c").status.success());
    assert_eq!(bench.status("c")["status"], "created");
    assert!(!bench.rootfs().join("data/mark").exists(), "the program ran before its start");
    bench.ours_ok(&["start", "c"]);
    assert_eq!(bench.status("c")["status"], "running");
    assert!(!bench.ours(&["start", "c"]).status.success(), "started twice");
    let mark = bench.rootfs().join("data/mark");
    wait_until("the program runs", || mark.exists());
    bench.ours_ok(&["pause", "c"]);
    assert_eq!(bench.status("c")["status"], "paused");
    assert!(!bench.ours(&["exec", "c", "true"]).status.success(), "exec in a paused container");
    bench.ours_ok(&["resume", "c"]);
    assert!(!bench.ours(&["delete", "c"]).status.success(), "deleted while running");
    bench.ours_ok(&["kill", "c", "KILL"]);
    wait_until("the container has stopped", || bench.status("c")["status"] == "stopped");
    assert!(!bench.ours(&["kill", "c", "TERM"]).status.success(), "killed when stopped");
    bench.ours_ok(&["delete", "c"]);
    assert!(text(&bench.ours(&["state", "c"]).stderr).contains("does not exist"));
    bench.ours_ok(&["delete", "--force", "c"]);
}

#[test]
fn a_name_is_taken_once() {
    let Some(mut bench) = Bench::new() else { return };
    bench.start_sleeper("c");
    let second = bench.create("c");
    assert!(!second.status.success());
    assert!(text(&second.stderr).contains("container with id exists"));
    assert_eq!(bench.status("c")["status"], "running");
}

#[test]
fn the_exit_status_of_run_is_the_programs() {
    let Some(mut bench) = Bench::new() else { return };
    for (script, status) in [("exit 7", 7), ("kill -9 $$", 137), ("true", 0)] {
        // As the first process of its namespace a program does not die by its own signals: in a shell below it does.
        bench.set_script(&format!("sh -c '{script}'; exit $?"));
        assert_eq!(bench.run(Runtime::Ours).status.code(), Some(status), "{script}");
    }
}

#[test]
fn programs_that_cannot_run_fail_at_create_with_runcs_text() {
    let Some(mut bench) = Bench::new() else { return };
    fs::write(bench.rootfs().join("plain"), "x").unwrap();
    for (program, message) in [
        ("nope", r#"exec: "nope": executable file not found in $PATH"#),
        ("/nope", r#"exec: "/nope": stat /nope: no such file or directory"#),
        ("/plain", r#"exec: "/plain": permission denied"#),
        ("/", r#"exec: "/": is a directory"#),
        ("/plain/x", r#"exec: "/plain/x": stat /plain/x: not a directory"#),
    ] {
        bench.set_args(&[program]);
        let output = bench.create("c");
        assert!(!output.status.success());
        assert_eq!(text(&output.stderr), message);
    }
}

#[test]
fn a_program_that_the_kernel_refuses_fails_at_start() {
    let Some(mut bench) = Bench::new() else { return };
    let program = bench.rootfs().join("bin/bad");
    for (content, message) in [
        ("#!/no/interpreter\n", "exec /bin/bad: no such file or directory"),
        ("\x7fELF", "exec /bin/bad: exec format error"),
    ] {
        fs::write(&program, content).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        bench.set_args(&["bad"]);
        assert!(bench.create("c").status.success());
        assert_eq!(text(&bench.ours(&["start", "c"]).stderr), message);
        wait_until("the container has stopped", || bench.status("c")["status"] == "stopped");
        bench.ours_ok(&["delete", "c"]);
    }
}

#[test]
fn a_program_that_the_user_may_not_execute_is_denied() {
    let Some(mut bench) = Bench::new() else { return };
    let program = bench.rootfs().join("bin/private");
    fs::copy("/bin/busybox", &program).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    bench.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    bench.set_args(&["/bin/private", "true"]);
    assert_eq!(text(&bench.create("c").stderr), r#"exec: "/bin/private": permission denied"#);
}

#[test]
fn exec_joins_the_container_in_every_way() {
    let Some(mut bench) = Bench::new() else { return };
    bench.namespaces().push(json!({ "type": "cgroup" }));
    bench.start_sleeper("c");
    let script = "for n in mnt uts ipc net pid cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; hostname";
    let init = bench.ours_ok(&["exec", "c", "sh", "-c", &script.replace("self", "1")]);
    let own = bench.ours_ok(&["exec", "c", "sh", "-c", script]);
    assert_eq!(init, own);
    let pids = bench.ours_ok(&["exec", "c", "ps"]);
    assert!(pids.contains("sleep 1000"), "{pids}");
    assert_eq!(bench.ours(&["exec", "c", "sh", "-c", "exit 9"]).status.code(), Some(9));
    let failed = bench.ours(&["exec", "c", "nope"]);
    assert_eq!(text(&failed.stderr), r#"exec: "nope": executable file not found in $PATH"#);
    let user = bench.ours_ok(&[
        "exec",
        "--user",
        "1000:7",
        "--env",
        "A=b",
        "--cwd",
        "/tmp",
        "c",
        "sh",
        "-c",
        "id -u; id -g; echo $A $HOME; pwd",
    ]);
    assert_eq!(user, "1000\n7\nb /home/user\n/tmp\n");
}

#[test]
fn terminals_are_the_containers_own() {
    let Some(mut bench) = Bench::new() else { return };
    bench.start_sleeper("c");
    let seen = bench.ours_ok(&[
        "exec",
        "--tty",
        "c",
        "sh",
        "-c",
        "tty; stat -c %u /dev/pts/0; [ -t 0 ] && [ -t 2 ] && echo yes",
    ]);
    assert_eq!(seen.replace('\r', ""), "/dev/pts/0\n0\nyes\n");
    bench.config["process"]["terminal"] = json!(true);
    bench.config["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
    bench.set_script(
        "stty size; tty; stat -c '%F' /dev/console; echo to-console >/dev/console; ps -o pid,tty | sed -n 2p",
    );
    let seen = bench.run_ok(Runtime::Ours).replace('\r', "");
    assert!(seen.starts_with("33 77\n/dev/pts/0\ncharacter special file\nto-console\n"), "{seen}");
}

#[test]
fn hooks_run_at_their_stages_with_the_state() {
    let Some(mut bench) = Bench::new() else { return };
    let trace = bench.host("trace");
    let hook = |stage: &str| {
        let script = format!(
            "echo {stage} $(cat | tr -d '\\n' | sed 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/') >>{}",
            trace.display()
        );
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }])
    };
    let inside =
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", "cat >/data/start-state"], "timeout": 10 }]);
    bench.config["hooks"] = json!({
        "prestart": hook("prestart"), "createRuntime": hook("createRuntime"), "createContainer": hook("createContainer"),
        "startContainer": inside, "poststart": hook("poststart"), "poststop": hook("poststop"),
    });
    bench.set_args(&["sleep", "1000"]);
    assert!(bench.create("c").status.success());
    let expected = "prestart creating\ncreateRuntime creating\ncreateContainer creating\n";
    assert_eq!(fs::read_to_string(&trace).unwrap(), expected);
    bench.ours_ok(&["start", "c"]);
    assert_eq!(fs::read_to_string(&trace).unwrap(), format!("{expected}poststart running\n"));
    let state: serde_json::Value =
        serde_json::from_slice(&fs::read(bench.rootfs().join("data/start-state")).unwrap()).unwrap();
    assert_eq!((state["status"].as_str(), state["id"].as_str()), (Some("created"), Some("c")));
    assert_eq!(state["pid"].as_i64().unwrap(), i64::from(bench.pid("c")));
    bench.ours_ok(&["delete", "--force", "c"]);
    assert!(fs::read_to_string(&trace).unwrap().ends_with("poststop stopped\n"));
}

#[test]
fn a_failing_or_endless_hook_ends_the_container() {
    let Some(mut bench) = Bench::new() else { return };
    bench.set_args(&["sleep", "1000"]);
    let cases = [
        (
            json!({ "path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"] }),
            "exit status 3, output: why",
        ),
        (json!({ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 }), "timed out"),
        (json!({ "path": "/no/such/hook" }), "exit status 127"),
    ];
    for (hook, message) in cases {
        bench.config["hooks"] = json!({ "createRuntime": [hook] });
        let output = bench.create("c");
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(message), "{output:?}");
        assert!(!bench.ours(&["state", "c"]).status.success(), "a container is left");
    }
}

#[test]
fn a_foreground_run_passes_signals_on() {
    let Some(mut bench) = Bench::new() else { return };
    bench.set_script("trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done");
    fs::write(bench.bundle().join("config.json"), serde_json::to_vec(&bench.config).unwrap()).unwrap();
    bench.config["linux"]["cgroupsPath"] = json!(bench.cgroup_of("fg"));
    fs::write(bench.bundle().join("config.json"), serde_json::to_vec(&bench.config).unwrap()).unwrap();
    let mut child = bench.spawn(&["run", "--bundle", ".", "fg"]);
    let mut stdout = child.stdout.take().unwrap();
    let mut ready = [0_u8; 6];
    stdout.read_exact(&mut ready).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("got it\n", Some(5)));
}

#[test]
fn preserved_descriptors_arrive_and_others_do_not() {
    let Some(mut bench) = Bench::new() else { return };
    bench.set_script("cat <&3; ls /proc/self/fd | wc -l");
    bench.config["linux"]["cgroupsPath"] = json!(bench.cgroup_of("p"));
    fs::write(bench.bundle().join("config.json"), serde_json::to_vec(&bench.config).unwrap()).unwrap();
    fs::write(bench.host("given"), "given\n").unwrap();
    let ours = env!("CARGO_BIN_EXE_node-runtime");
    let script = format!(
        "exec 3<{given} 4</ 5</etc; exec {ours} --root {root} run --preserve-fds 1 --bundle {bundle} p",
        given = bench.host("given").display(),
        root = bench.host("state-Ours").display(),
        bundle = bench.bundle().display(),
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    // 0 to 3, and the one that ls has opened.
    assert_eq!(text(&output.stdout), "given\n5", "{output:?}");
}

#[test]
fn a_paused_container_can_be_deleted_by_force() {
    let Some(mut bench) = Bench::new() else { return };
    bench.start_sleeper("c");
    bench.ours_ok(&["pause", "c"]);
    bench.ours_ok(&["delete", "--force", "c"]);
    assert!(!bench.ours(&["state", "c"]).status.success());
}

#[test]
fn a_cgroup_in_use_is_not_taken_over() {
    let Some(mut bench) = Bench::new() else { return };
    bench.start_sleeper("c");
    bench.config["linux"]["cgroupsPath"] = json!(bench.cgroup_of("c"));
    fs::write(bench.bundle().join("config.json"), serde_json::to_vec(&bench.config).unwrap()).unwrap();
    let output = bench.ours(&["create", "--bundle", ".", "other"]);
    assert!(text(&output.stderr).contains("cgroup is not empty: 1 process(es)"), "{output:?}");
    assert_eq!(bench.status("c")["status"], "running");
}

#[test]
fn a_later_mount_of_the_host_reaches_a_slave_and_not_a_private_bind() {
    let Some(mut bench) = Bench::new() else { return };
    let source = bench.host("source");
    fs::create_dir_all(&source).unwrap();
    for (destination, propagation) in [("/slave", "rslave"), ("/private", "rprivate")] {
        bench.add_mount(json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind", propagation] }));
    }
    bench.config["linux"]["rootfsPropagation"] = json!("rslave");
    bench.config["linux"]["cgroupsPath"] = json!(bench.cgroup_of("c"));
    bench.set_args(&["sleep", "1000"]);
    fs::write(bench.bundle().join("config.json"), serde_json::to_vec(&bench.config).unwrap()).unwrap();
    // In a mount namespace of its own, so that the host's is never touched.
    let script = "mount -t tmpfs one $SOURCE && mount --make-shared $SOURCE && $OURS run --detach --bundle . c </dev/null >/dev/null 2>&1 \
        && mkdir $SOURCE/late && mount -t tmpfs two $SOURCE/late && touch $SOURCE/late/seen \
        && $OURS exec c ls /slave/late /private/late; $OURS delete --force c";
    let ours =
        format!("{} --root {}", env!("CARGO_BIN_EXE_node-runtime"), bench.host("state-Ours").display());
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .current_dir(bench.bundle())
        .env("OURS", ours)
        .env("SOURCE", &source)
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "/private/late:\n\n/slave/late:\nseen", "{output:?}");
}

#[test]
fn a_second_container_joins_the_namespaces_of_the_first() {
    let Some(mut bench) = Bench::new() else { return };
    bench.namespaces().push(json!({ "type": "user" }));
    let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    bench.config["linux"]["uidMappings"] = mapping.clone();
    bench.config["linux"]["gidMappings"] = mapping;
    std::process::Command::new("chown").arg("-hR").arg("100000:100000").arg(bench.rootfs()).status().unwrap();
    fs::set_permissions(bench.host(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bench.start_sleeper("first");
    let pid = bench.pid("first");
    for namespace in bench.namespaces() {
        let kind = namespace["type"].as_str().unwrap().to_owned();
        let file = if kind == "network" { "net" } else { &kind };
        if kind != "mount" && kind != "uts" {
            namespace["path"] = json!(format!("/proc/{pid}/ns/{file}"));
        }
    }
    let show = "for n in user net ipc pid uts mnt; do readlink /proc/self/ns/$n; done";
    let first = bench.ours_ok(&["exec", "first", "sh", "-c", show]);
    bench.set_script(&format!("{show}; echo $$; ps | grep -c 'sleep 1000'"));
    let second = bench.run_ok(Runtime::Ours);
    let (first, second): (Vec<_>, Vec<_>) = (first.lines().collect(), second.lines().collect());
    assert_eq!(first[..4], second[..4], "user, net, ipc and pid are shared");
    assert_ne!(first[4], second[4], "uts is its own");
    assert_ne!(first[5], second[5], "mnt is its own");
    assert_ne!(second[6], "1", "it is not the first process of the joined pid namespace");
}

#[test]
fn a_time_namespace_has_its_offsets() {
    let Some(mut bench) = Bench::new() else { return };
    if !std::path::Path::new("/proc/self/ns/time").exists() {
        println!("SKIPPED: this kernel has no time namespaces");
        return;
    }
    bench.namespaces().push(json!({ "type": "time" }));
    bench.config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000_000, "nanosecs": 5 } });
    bench.set_script("cut -d. -f1 /proc/uptime");
    let uptime: u64 = bench.run_ok(Runtime::Ours).trim().parse().unwrap();
    assert!(uptime >= 1_000_000_000, "{uptime}");
}

#[test]
fn an_idmapped_mount_shows_other_owners() {
    let Some(mut bench) = Bench::new() else { return };
    let source = bench.host("source");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    let mapping = json!([{ "containerID": 0, "hostID": 5000, "size": 10 }]);
    bench.add_mount(
        json!({ "destination": "/mapped", "type": "bind", "source": source, "options": ["bind", "idmap"],
        "uidMappings": mapping, "gidMappings": mapping }),
    );
    bench.set_script("stat -c %u:%g /mapped/file");
    let output = bench.run(Runtime::Ours);
    if text(&output.stderr).contains("attributes of the mount") {
        println!("SKIPPED: the file system of the temporary directory cannot be idmapped");
        return;
    }
    assert_eq!(text(&output.stdout), "5000:5000", "{output:?}");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(source.join("file")).unwrap()), 0);
}

#[test]
fn what_an_image_holds_is_copied_into_a_tmpfs_that_asks_for_it() {
    let Some(mut bench) = Bench::new() else { return };
    fs::write(bench.rootfs().join("data/file"), "kept").unwrap();
    bench.add_mount(
        json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }),
    );
    bench.set_script("cat /data/file; echo changed >/data/file");
    assert_eq!(bench.run_ok(Runtime::Ours), "kept");
    assert_eq!(fs::read_to_string(bench.rootfs().join("data/file")).unwrap(), "kept");
}

#[test]
fn what_is_not_supported_is_refused_with_its_name() {
    let Some(mut bench) = Bench::new() else { return };
    bench.config["linux"]["intelRdt"] = json!({ "closID": "x" });
    assert!(text(&bench.create("c").stderr).contains("linux.intelRdt"));
    bench.config["linux"].as_object_mut().unwrap().remove("intelRdt");
    bench.namespaces().retain(|namespace| namespace["type"] != "mount");
    assert!(text(&bench.create("c").stderr).contains("mount namespace"));
    let output = bench.ours(&["--systemd-cgroup", "list"]);
    assert!(text(&output.stderr).contains("cgroupfs"), "{output:?}");
}

#[test]
fn a_killed_runtime_leaves_nothing_that_runs() {
    let Some(mut bench) = Bench::new() else { return };
    // The hook stops the creation halfway; the runtime is killed there.
    let mark = bench.host("in-hook");
    let script = format!("echo >{}; exec sleep 1000", mark.display());
    bench.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    bench.config["linux"]["cgroupsPath"] = json!(bench.cgroup_of("c"));
    fs::write(bench.bundle().join("config.json"), serde_json::to_vec(&bench.config).unwrap()).unwrap();
    let mut child = bench.spawn(&["create", "--bundle", ".", "c"]);
    wait_until("the hook runs", || mark.exists());
    let inside = bench.cgroup_file("c", "pids", "cgroup.procs").unwrap();
    assert!(!inside.trim().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the half-made container has ended", || {
        bench.cgroup_file("c", "pids", "cgroup.procs").is_none_or(|pids| pids.trim().is_empty())
    });
    // The hook itself is the host's process and outlives its runtime; it is found by its parent's mark.
    let processes = fs::read_dir("/proc").unwrap().flatten();
    for process in processes {
        let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        if line == "sleep\x001000\x00"
            && fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == bench.bundle())
        {
            let pid = process.file_name().to_string_lossy().parse().unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
    let cgroup = node_runtime::cgroup::Cgroup::at(std::path::Path::new(&bench.cgroup_of("c"))).unwrap();
    cgroup.remove().unwrap();
    bench.ours_ok(&["delete", "--force", "c"]);
}
