//! Containers whose ids are others on the host (`--userns-remap`).
//!
//! What holds under every runtime is a function of a daemon; `under_crun.rs` asks the same of crun, which does the mapping itself.

pub(super) mod under_crun;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use integration_cli::{Container, DaemonOptions, OwnDaemon, Test, cases};

cases![
    ids_inside_are_others_outside,
    what_is_the_hosts_cannot_be_shared,
    files_go_in_and_out_with_the_ids_of_the_container,
    the_network_belongs_to_the_container,
    streams_can_be_opened_anew,
    namespaces_of_other_containers_can_be_joined,
    other_runtimes_remap_too,
    remapped_containers_survive_the_daemon,
    who_is_unknown_is_refused,
];

const RUNC: &str = "/usr/sbin/runc";
/// First id of the host that containers get, for users and groups alike.
const FIRST: u32 = 300_000;
const ACCOUNTS: [(&str, &str); 4] = [
    ("passwd", "root:x:0:0:root:/root:/bin/sh\nmapped:x:7777:7777::/:/bin/false\n"),
    ("group", "root:x:0:\nmapped:x:7777:\n"),
    ("subuid", "mapped:300000:65536\n"),
    ("subgid", "mapped:300000:65536\n"),
];

/// A daemon that remaps, on a machine that has granted ids to a user.
fn remapping(t: &Test, user: &str) -> DaemonOptions {
    let directory = t.directory("accounts");
    for (name, text) in ACCOUNTS {
        if !Path::new("/etc").join(name).exists() {
            integration_cli::skip(&format!("needs /etc/{name} to put another one over it"));
        }
        std::fs::write(directory.join(name), text).unwrap();
    }
    let mounts = format!(
        "for f in passwd group subuid subgid; do mount --bind {}/$f /etc/$f || exit 1; done; exec \"$@\"",
        directory.display()
    );
    let wrapper = ["sh", "-c", &mounts, "sh"].map(str::to_owned).to_vec();
    DaemonOptions { wrapper, ..DaemonOptions::flags(&format!("--userns-remap {user}")) }
}

/// A daemon that remaps, whose containers are made by a program.
fn remapping_under(t: &Test, program: &str) -> DaemonOptions {
    let options = remapping(t, "mapped");
    let runtime = format!("--add-runtime other={program} --default-runtime other");
    DaemonOptions { flags: [DaemonOptions::flags(&runtime).flags, options.flags].concat(), ..options }
}

fn start(t: &Test) -> OwnDaemon {
    t.own_daemon(&remapping(t, "mapped"))
}

fn pid(d: &OwnDaemon, container: &Container) -> u64 {
    d.inspect(container)["State"]["Pid"].as_u64().unwrap()
}

fn ids_inside_are_others_outside(t: &Test) {
    check_ids(&start(t));
}

fn check_ids(d: &OwnDaemon) {
    let info = d.get("/info").expect(200).json();
    let options = info["SecurityOptions"].as_array().unwrap();
    assert!(options.iter().any(|option| option == "name=userns"), "{info}");
    assert!(info["DockerRootDir"].as_str().unwrap().ends_with("/300000.300000"), "{info}");
    let shown = d
        .run("busybox sh -c 'id -u; cat /proc/self/uid_map; stat -c %u:%g / /etc /bin/busybox /etc/hosts'")
        .ok();
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "300000", "65536", "0:0", "0:0", "0:0", "0:0"]);

    let container = d.start("-v kept:/data --tmpfs /memory --shm-size 1m -w /made/here busybox park");
    let shown = d.shell(&container, "touch /data/mine /memory/x && chown 5:6 /data/mine && stat -c %u:%g /data /memory /made /made/here /data/mine && rm /etc/hostname 2>/dev/null; echo x >/made/here/y && id -u");
    assert_eq!(shown, "0:0\n0:0\n0:0\n0:0\n5:6\n0");
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid(d, &container))).unwrap();
    let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    assert_eq!(uid.split_whitespace().nth(1), Some("300000"));
    let volume = d.docker("volume inspect -f {{.Mountpoint}} kept").ok();
    let owner = |path: &Path| std::fs::metadata(path).map(|file| (file.uid(), file.gid())).unwrap();
    assert_eq!(owner(Path::new(&volume)), (FIRST, FIRST));
    assert_eq!(owner(&Path::new(&volume).join("mine")), (FIRST + 5, FIRST + 6));
    d.docker(&format!("rm -f {container}")).ok();
}

fn what_is_the_hosts_cannot_be_shared(t: &Test) {
    check_what_is_the_hosts(&start(t));
}

fn check_what_is_the_hosts(d: &OwnDaemon) {
    let cases = [
        (
            "--privileged",
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        ),
        ("--network host", "cannot share the host's network namespace when user namespaces are enabled"),
        ("--pid host", "cannot share the host PID namespace when user namespaces are enabled"),
    ];
    for (options, text) in cases {
        d.run(&format!("{options} busybox true")).fails_saying(125, text);
        let shown = d.run(&format!("--userns host {options} busybox sh -c 'cat /proc/self/uid_map'")).ok();
        assert!(shown.split_whitespace().eq(["0", "0", "4294967295"]), "{options}: {shown}");
    }
    let container = d.docker("create --userns host busybox").ok();
    let described = d.get(&format!("/containers/{container}/json")).expect(200).json();
    assert_eq!(described["HostConfig"]["UsernsMode"], "host");
    d.docker(&format!("rm {container}")).ok();
}

fn owner_in_archive(d: &OwnDaemon, container: &Container, path: &str) -> (u32, u32) {
    owner_in_header(&d.get(&format!("/containers/{container}/archive?path={path}")).expect(200).body)
}

/// User and group of the first entry of an archive.
fn owner_in_header(archive: &[u8]) -> (u32, u32) {
    let number = |field: &[u8]| {
        let text = std::str::from_utf8(field).unwrap().trim_matches(['\0', ' ']);
        u32::from_str_radix(text, 8).unwrap()
    };
    if archive[156] == b'x' {
        // Attributes that the header of the entry has no room for stand before it.
        let n_blocks = number(&archive[124..136]).div_ceil(512) as usize;
        return owner_in_header(&archive[512 * (1 + n_blocks)..]);
    }
    (number(&archive[108..116]), number(&archive[116..124]))
}

fn files_go_in_and_out_with_the_ids_of_the_container(t: &Test) {
    check_files(t, &start(t));
}

fn check_files(t: &Test, d: &OwnDaemon) {
    let directory = t.directory("files");
    std::fs::write(directory.join("sent"), "text").unwrap();
    let container = d.start("-v kept:/data --tmpfs /memory busybox park");
    d.shell(&container, "echo a >/made && chown 7:8 /made && echo b >/data/made && chown 9:10 /data/made");
    for place in ["/", "/data/", "/memory/"] {
        d.docker(&format!("cp {} {container}:{place}sent", directory.join("sent").display())).ok();
        assert_eq!(d.shell(&container, &format!("stat -c %u:%g {place}sent")), "0:0", "{place}");
    }
    assert_eq!(owner_in_archive(d, &container, "/made"), (7, 8));
    assert_eq!(owner_in_archive(d, &container, "/data/made"), (9, 10));
    d.docker(&format!("commit {container} committed")).ok();
    assert_eq!(d.run("committed stat -c %u:%g /made /sent /bin/busybox").ok(), "7:8\n0:0\n0:0");
    d.docker(&format!("stop -t 0 {container}")).ok();
    assert_eq!(owner_in_archive(d, &container, "/made"), (7, 8), "of a stopped one");
    assert_eq!(owner_in_archive(d, &container, "/data/made"), (9, 10), "of a stopped one");
    d.docker(&format!("cp {} {container}:/etc/sent", directory.join("sent").display())).ok();
    assert_eq!(owner_in_archive(d, &container, "/etc/sent"), (0, 0));
    let exported = d.get(&format!("/containers/{container}/export")).expect(200).body;
    assert_eq!(owner_in_header(&exported), (0, 0), "the first entry is root's");
    d.docker(&format!("rm {container}")).ok();
}

fn the_network_belongs_to_the_container(t: &Test) {
    check_network(&start(t));
}

fn check_network(d: &OwnDaemon) {
    d.run("--cap-add NET_ADMIN busybox ip link set lo down").ok();
    d.run("--network none busybox ls /sys/class/net").ok();
    d.docker("network create other").ok();
    let container = d.start("-p 8080 --network other busybox park");
    d.run(&format!("--network other busybox ping -c 1 {container}")).ok();
    d.docker(&format!("network connect bridge {container}")).ok();
    assert!(d.shell(&container, "ip -o link").contains("eth1"));
    d.docker(&format!("rm -f {container}")).ok();
    d.docker("network rm other").ok();
}

fn streams_can_be_opened_anew(t: &Test) {
    check_streams(&start(t));
}

fn check_streams(d: &OwnDaemon) {
    assert_eq!(d.run("busybox sh -c 'echo out >/dev/stdout'").ok(), "out");
    assert_eq!(d.run("--user 1001 busybox sh -c 'echo out >/dev/stdout'").ok(), "out");
    let container = d.start("busybox park");
    assert_eq!(d.docker(&format!("exec {container} sh -c 'echo ex >/dev/stdout'")).ok(), "ex");
    assert_eq!(d.docker(&format!("exec -u 1001 {container} id -u")).ok(), "1001");
    d.docker(&format!("rm -f {container}")).ok();
}

fn namespaces_of_other_containers_can_be_joined(t: &Test) {
    check_namespaces(&start(t));
}

fn check_namespaces(d: &OwnDaemon) {
    let container = d.start("--ipc shareable busybox park");
    for joined in ["--network", "--pid", "--ipc"] {
        let shown = d.run(&format!("{joined} container:{container} busybox id -u")).ok();
        assert_eq!(shown, "0", "{joined}");
    }
    d.docker(&format!("rm -f {container}")).ok();
}

fn other_runtimes_remap_too(t: &Test) {
    if !Path::new(RUNC).exists() {
        integration_cli::skip("needs runc");
    }
    let d = t.own_daemon(&remapping_under(t, RUNC));
    let run = "busybox sh -c 'id -u; cat /proc/self/uid_map; echo out >/dev/stdout'";
    let shown = d.run(run).ok();
    assert!(shown.split_whitespace().eq(["0", "0", "300000", "65536", "out"]), "{shown}");
    let container = d.start("busybox park");
    assert_eq!(d.exec(&container, "id -u").ok(), "0");
    d.docker(&format!("rm -f {container}")).ok();
}

fn remapped_containers_survive_the_daemon(t: &Test) {
    check_survival(t, remapping(t, "mapped:mapped"));
}

fn check_survival(t: &Test, options: DaemonOptions) {
    let survival = DaemonOptions { flags: [super::surviving().flags, options.flags].concat(), ..options };
    let d = t.own_daemon(&survival);
    let container = d.start("busybox park");
    let before = pid(&d, &container);
    super::restart(&d, &survival);
    assert_eq!(pid(&d, &container), before);
    assert_eq!(d.docker(&format!("exec {container} id -u")).ok(), "0");
    d.docker(&format!("restart -t 0 {container}")).ok();
    assert_eq!(d.docker(&format!("exec {container} id -u")).ok(), "0");
    d.docker(&format!("rm -f {container}")).ok();
}

fn who_is_unknown_is_refused(t: &Test) {
    let outcome = t.refuse_to_start(&remapping(t, "banana"));
    assert_ne!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("Error during uid lookup for \"banana\""), "{outcome:?}");
    let outcome = t.refuse_to_start(&remapping(t, "a:b:c"));
    let text = "Invalid user/group specification in --userns-remap: \"a:b:c\"";
    assert!(outcome.stderr.contains(text), "{outcome:?}");
}
