//! Who the process is: user, group, supplementary groups, home.

use integration_cli::{Test, cases};

cases![
    root_by_default,
    users_and_groups_are_known_by_name_and_number,
    an_unknown_user_or_group_fails_the_start,
    supplementary_groups_come_from_the_group_file_and_the_request,
    an_ordinary_user_has_no_capabilities,
    home_follows_the_user_unless_it_is_set,
];

fn root_by_default(t: &Test) {
    assert_eq!(t.run("busybox sh -c 'id -u; id -g; echo $HOME'").ok(), "0\n0\n/root");
}

fn users_and_groups_are_known_by_name_and_number(t: &Test) {
    let ids = |user: &str| t.run(&format!("--user {user} busybox sh -c 'echo $(id -u) $(id -g)'")).ok();
    assert_eq!(ids("alice"), "1001 1001");
    assert_eq!(ids("1001"), "1001 1001");
    assert_eq!(ids("alice:staff"), "1001 50");
    assert_eq!(ids("alice:50"), "1001 50");
    assert_eq!(ids("4321"), "4321 0");
    assert_eq!(ids("4321:1234"), "4321 1234");
    assert_eq!(ids("0:0"), "0 0");
}

fn an_unknown_user_or_group_fails_the_start(t: &Test) {
    let outcome = t.run("--user banana busybox true");
    outcome.fails_saying(125, "unable to find user banana: no matching entries in passwd file");
    let outcome = t.run("--user alice:banana busybox true");
    outcome.fails_saying(125, "unable to find group banana: no matching entries in group file");
}

fn supplementary_groups_come_from_the_group_file_and_the_request(t: &Test) {
    let groups = |line: &str| {
        let shown = t.run(&format!("{line} busybox id -G")).ok();
        let mut groups: Vec<u32> = shown.split(' ').map(|group| group.parse().unwrap()).collect();
        groups.sort_unstable();
        groups
    };
    assert_eq!(groups("--user alice"), [10, 1001]);
    assert_eq!(groups("--user alice --group-add staff --group-add 777"), [10, 50, 777, 1001]);
    assert_eq!(groups("--group-add 777"), [0, 777]);
    t.run("--group-add banana busybox true").fails_saying(125, "banana");
}

fn an_ordinary_user_has_no_capabilities(t: &Test) {
    let container = t.start("--user alice busybox park");
    assert_eq!(super::status_field(t, &container, "CapEff"), "0000000000000000");
    assert_eq!(super::status_field(t, &container, "CapPrm"), "0000000000000000");
    assert_eq!(super::status_field(t, &container, "CapAmb"), "0000000000000000");
    assert_eq!(super::status_field(t, &container, "CapBnd"), "00000000a80425fb");
}

fn home_follows_the_user_unless_it_is_set(t: &Test) {
    let home = |line: &str| t.run(&format!("{line} busybox sh -c 'echo $HOME'")).ok();
    assert_eq!(home("--user alice"), "/home/alice");
    assert_eq!(home("--user 4321"), "/");
    assert_eq!(home("--user alice -e HOME=/tmp"), "/tmp");
}
