//! System call filters: the default profile, none, and one of the user's own.

use integration_cli::images::with_program;
use integration_cli::{DaemonOptions, Test, cases};
use serde_json::{Value, json};

cases![
    the_default_profile_blocks_what_it_should,
    the_default_profile_allows_ordinary_calls,
    unconfined_blocks_nothing,
    capabilities_open_the_calls_that_need_them,
    a_custom_profile_is_obeyed,
    exec_is_under_the_same_filter,
    the_daemon_may_have_a_profile_of_its_own,
    a_broken_profile_is_refused,
];

/// Calls that fail with another error, or not at all, when no filter is there.
const PROBES: &str =
    "add_key:0,0,0,0,0 keyctl:-1 request_key:0,0,0,0 userfaultfd:-1 perf_event_open unshare:268435456";

fn image(t: &Test) -> String {
    let image = t.name("prober");
    t.load(&[with_program(&format!("{image}:latest"), &t.prober())]);
    image
}

fn probe(t: &Test, options: &str, image: &str, calls: &str) -> Vec<String> {
    t.run(&format!("{options} {image} prober {calls}")).ok().lines().map(str::to_owned).collect()
}

fn the_default_profile_blocks_what_it_should(t: &Test) {
    let image = image(t);
    let answers = probe(t, "", &image, PROBES);
    assert_eq!(answers.len(), 6);
    assert!(answers.iter().all(|answer| answer.ends_with(" EPERM")), "{answers:?}");
    // A C library falls back to clone only when clone3 seems not to exist.
    let answers = probe(t, "", &image, "clone3:0,0 personality:262144 bpf:-1");
    assert_eq!(answers, ["clone3 ENOSYS", "personality EPERM", "bpf EPERM"]);
    assert_eq!(t.run("busybox grep Seccomp: /proc/self/status").ok(), "Seccomp:\t2");
}

fn the_default_profile_allows_ordinary_calls(t: &Test) {
    let image = image(t);
    let answers = probe(t, "", &image, "personality:0 socket:2,1,0 socket:16,3,0 ptrace:0,0,0,0 chroot:0");
    assert_eq!(answers[0], "personality = 0");
    assert!(answers[1].starts_with("socket = ") && answers[2].starts_with("socket = "), "{answers:?}");
    assert_eq!(answers[3], "ptrace = 0");
    assert_eq!(answers[4], "chroot EFAULT");
}

fn unconfined_blocks_nothing(t: &Test) {
    let image = image(t);
    let answers = probe(t, "--security-opt seccomp=unconfined", &image, PROBES);
    // The last two may be refused by the kernel's own settings, which is not the filter's doing.
    assert_eq!(
        answers[..4],
        ["add_key EFAULT", "keyctl EOPNOTSUPP", "request_key EFAULT", "userfaultfd EINVAL"]
    );
    assert_eq!(answers[5], "unshare = 0");
    let shown = t.run("--security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status").ok();
    assert_eq!(shown, "Seccomp:\t0");
}

fn capabilities_open_the_calls_that_need_them(t: &Test) {
    let image = image(t);
    let calls = "mount:0,0,0,0,0 sethostname:0,-1 unshare:268435456";
    assert_eq!(probe(t, "", &image, calls), ["mount EPERM", "sethostname EPERM", "unshare EPERM"]);
    let answers = probe(t, "--cap-add SYS_ADMIN", &image, calls);
    assert_eq!(answers, ["mount EFAULT", "sethostname EINVAL", "unshare = 0"]);
}

fn custom(t: &Test, errno: u32) -> String {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno},
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
        ],
    });
    let file = t.directory("profile").join("profile.json");
    std::fs::write(&file, profile.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

fn a_custom_profile_is_obeyed(t: &Test) {
    let image = image(t);
    let profile = custom(t, 1);
    let option = format!("--security-opt seccomp={profile}");
    let outcome = t.run(&format!("{option} {image} mkdir /made"));
    assert!(outcome.code == 1 && outcome.stderr.contains("Operation not permitted"), "{outcome:?}");
    assert_eq!(
        probe(t, &option, &image, "personality:0 personality:8 keyctl:-1"),
        ["personality = 0", "personality EPERM", "keyctl EOPNOTSUPP"]
    );
    // The client sends the profile itself, not its path.
    let container = t.create(&format!("{option} busybox true"));
    let sent = t.inspect(&container)["HostConfig"]["SecurityOpt"][0].as_str().unwrap().to_owned();
    let sent: Value = serde_json::from_str(sent.strip_prefix("seccomp=").unwrap()).unwrap();
    assert_eq!(sent["defaultAction"], "SCMP_ACT_ALLOW");
    if t.api_at_least(1, 42) {
        let outcome = t.run(&format!("--security-opt seccomp={} {image} mkdir /made", custom(t, 38)));
        assert!(outcome.stderr.contains("not implemented"), "{outcome:?}");
    }
}

fn exec_is_under_the_same_filter(t: &Test) {
    let image = image(t);
    let container = t.start(&format!("{image} park"));
    assert_eq!(t.exec(&container, "prober keyctl:-1 add_key:0,0,0,0,0").ok(), "keyctl EPERM\nadd_key EPERM");
    assert_eq!(t.shell(&container, "grep Seccomp: /proc/self/status"), "Seccomp:\t2");
}

fn the_daemon_may_have_a_profile_of_its_own(t: &Test) {
    let profile = custom(t, 1);
    let d = t.own_daemon(&DaemonOptions::flags(&format!("--seccomp-profile {profile}")));
    let outcome = d.run("busybox mkdir /made");
    assert!(outcome.code == 1 && outcome.stderr.contains("Operation not permitted"), "{outcome:?}");
    assert_eq!(d.run("--security-opt seccomp=unconfined busybox mkdir /made").code, 0);
    let security = d.get("/info").expect(200).json()["SecurityOptions"].to_string();
    assert!(security.contains("name=seccomp,profile="), "{security}");
}

fn a_broken_profile_is_refused(t: &Test) {
    let file = t.directory("profile").join("broken.json");
    std::fs::write(&file, "{broken").unwrap();
    assert_eq!(t.run(&format!("--security-opt seccomp={} busybox true", file.display())).code, 125);
    let unknown = json!({"defaultAction": "SCMP_ACT_BANANA"}).to_string();
    let body = json!({"Image": "busybox", "HostConfig": {"SecurityOpt": [format!("seccomp={unknown}")]}});
    let reply = t.create_raw(&body);
    if reply.status == 201 {
        let id = reply.json()["Id"].as_str().unwrap().to_owned();
        assert!(t.post(&format!("/containers/{id}/start")).status >= 400);
    }
}
