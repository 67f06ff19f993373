//! The same bundle through this runtime, runc and crun: what the container sees must be the same.
//!
//! Start reading at [`compare`]. Differences that are meant are named there, each with its reason; everything else fails.

use serde_json::{Value, json};

use crate::sight;
use crate::support::{Bench, Runtime};

/// Runs the bench's configuration with every runtime and compares what is seen, except the named sections.
fn compare(mut bench: Bench, except: &[(Runtime, &str)]) {
    bench.set_script(sight::SCRIPT);
    if bench.config["process"].get("rlimits").is_none() {
        // Programs written in Go raise their own soft limit, and runc passes that on.
        bench.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 500, "hard": 600 }]);
    }
    let ours = sight::parse(&bench.run_ok(Runtime::Ours));
    assert!(ours.len() > 15, "{ours:?}");
    for runtime in Runtime::all().into_iter().filter(|runtime| *runtime != Runtime::Ours) {
        let theirs = sight::parse(&bench.run_ok(runtime));
        for (section, lines) in &ours {
            if except.contains(&(runtime, section)) {
                continue;
            }
            let left = normal(section, lines, runtime);
            let right = normal(section, &theirs[section], runtime);
            assert_eq!(left, right, "section {section} differs from {runtime:?}");
        }
    }
}

/// Takes out what may differ.
fn normal(section: &str, lines: &[String], runtime: Runtime) -> Vec<String> {
    let mut lines = lines.to_vec();
    match section {
        // The covers of hidden paths: ours is the host's null device and one shared empty directory. The root of the
        // cgroup tmpfs is read-only here as the options say; the others leave it or differ in size.
        "mounts" => lines.retain(|line| {
            let covers = [
                "/proc/keys",
                "/proc/timer_list",
                "/proc/kcore",
                "/proc/acpi",
                "/sys/firmware",
                "/sys/fs/cgroup ",
            ];
            !covers.iter().any(|cover| line.starts_with(cover))
        }),
        // crun leaves out /dev/core; all agree on the rest.
        "links" | "devices" => {
            lines.retain(|line| !line.starts_with("/dev/core") && !line.starts_with("/dev/console"));
        }
        // crun joins only the hierarchies that it uses.
        "cgroup" if runtime == Runtime::Crun => {
            lines.retain(|line| line.contains(":memory:") || line.contains(":pids:"));
        }
        _ => {}
    }
    lines
}

/// crun gives the container's own /dev/null to a user whose stdin it is.
const USER: [(Runtime, &str); 1] = [(Runtime::Crun, "devices")];

/// crun, seen as it is started here (without the v2 hierarchy in sight), differs in these sections everywhere.
const CRUN: [(Runtime, &str); 2] = [(Runtime::Crun, "mounts"), (Runtime::Crun, "session")];

fn with(changes: impl FnOnce(&mut Bench), except: &[(Runtime, &str)]) {
    let Some(mut bench) = Bench::new() else { return };
    changes(&mut bench);
    let except: Vec<_> = CRUN.iter().chain(except).copied().collect();
    compare(bench, &except);
}

#[test]
fn a_plain_container_sees_what_it_sees_elsewhere() {
    with(|_| {}, &[]);
}

#[test]
fn a_user_with_groups_and_a_umask_is_the_same_user() {
    with(
        |bench| {
            let user = json!({ "uid": 1000, "gid": 1000, "umask": 63, "additionalGids": [5, 2000] });
            bench.config["process"]["user"] = user;
            bench.config["process"]["cwd"] = json!("/made/for/it");
        },
        &USER,
    );
}

#[test]
fn capabilities_go_to_the_sets_that_name_them() {
    with(
        |bench| {
            bench.config["process"]["capabilities"] = json!({
                "bounding": ["CAP_CHOWN", "CAP_NET_RAW", "CAP_KILL"],
                "permitted": ["CAP_CHOWN", "CAP_NET_RAW"],
                "effective": ["CAP_CHOWN"],
                "inheritable": ["CAP_NET_RAW", "CAP_CHOWN"],
                "ambient": ["CAP_NET_RAW"],
            });
            bench.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        },
        &USER,
    );
}

#[test]
fn without_new_privileges_and_capabilities_nothing_is_left() {
    with(
        |bench| {
            bench.config["process"]["noNewPrivileges"] = json!(true);
            bench.config["process"].as_object_mut().unwrap().remove("capabilities");
        },
        &[],
    );
}

#[test]
fn limits_and_score_are_set() {
    with(
        |bench| {
            bench.config["process"]["rlimits"] = json!([
                { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
                { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
                { "type": "RLIMIT_NPROC", "soft": 500, "hard": 600 },
            ]);
            bench.config["process"]["oomScoreAdj"] = json!(500);
        },
        &[],
    );
}

#[test]
fn a_read_only_root_is_read_only() {
    with(|bench| bench.config["root"]["readonly"] = json!(true), &[]);
}

#[test]
fn kernel_parameters_of_the_namespaces_are_set() {
    with(
        |bench| {
            bench.config["linux"]["sysctl"] =
                json!({ "net.ipv4.ip_forward": "1", "kernel.shmmax": "123456" });
        },
        &[],
    );
}

#[test]
fn a_cgroup_namespace_hides_the_path() {
    with(
        |bench| bench.namespaces().push(json!({ "type": "cgroup" })),
        // crun makes the namespace before it has joined the hierarchies that it does not use.
        &[(Runtime::Crun, "cgroup")],
    );
}

#[test]
fn a_user_namespace_maps_ids() {
    with(
        |bench| {
            bench.namespaces().push(json!({ "type": "user" }));
            let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
            bench.config["linux"]["uidMappings"] = mapping.clone();
            bench.config["linux"]["gidMappings"] = mapping;
            // The mapped root needs a way to its root file system.
            let chown = std::process::Command::new("chown")
                .arg("-hR")
                .arg("100000:100000")
                .arg(bench.rootfs())
                .status();
            assert!(chown.unwrap().success());
            let open = std::process::Command::new("chmod").arg("755").arg(bench.host("")).status();
            assert!(open.unwrap().success());
        },
        // The others leave the root of the message queues to the host's group, or to its user as well.
        &[(Runtime::Runc, "devices"), (Runtime::Crun, "devices"), (Runtime::Crun, "nodes")],
    );
}

#[test]
fn devices_of_the_configuration_exist_and_work() {
    with(
        |bench| {
            bench.config["linux"]["devices"] = json!([
                { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4 },
                { "path": "/dev/deep/loop", "type": "b", "major": 7, "minor": 0, "fileMode": 0o600, "uid": 0, "gid": 0 },
            ]);
            let rules = bench.config["linux"]["resources"]["devices"].as_array_mut().unwrap();
            rules.push(json!({ "allow": true, "type": "c", "major": 1, "minor": 2, "access": "r" }));
        },
        &[],
    );
}

fn bind(bench: &mut Bench, destination: &str, options: &[&str]) {
    let source = bench.host("source");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::write(source.join("file"), "content").unwrap();
    let mount: Value =
        json!({ "destination": destination, "type": "bind", "source": source, "options": options });
    bench.add_mount(mount);
}

#[test]
fn bind_mounts_have_their_options() {
    with(
        |bench| {
            bind(bench, "/bound/ro", &["rbind", "ro", "nosuid", "rprivate"]);
            bind(bench, "/bound/rw", &["bind", "nodev", "noexec", "noatime"]);
            let file = bench.host("source/file");
            bench.add_mount(json!({ "destination": "/etc/file", "type": "bind", "source": file, "options": ["bind", "ro"] }));
        },
        &[],
    );
}

#[test]
fn file_systems_in_memory_have_their_options() {
    with(
        |bench| {
            bench.add_mount(json!({ "destination": "/scratch", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "nodev", "mode=1770", "size=100k", "uid=7"] }));
            bench.add_mount(
                json!({ "destination": "/sealed", "type": "tmpfs", "source": "tmpfs", "options": ["ro"] }),
            );
        },
        &[],
    );
}
