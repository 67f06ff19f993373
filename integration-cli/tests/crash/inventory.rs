//! What a daemon has on its machine, as the kernel and the file system see it: to be the same before and after.
//!
//! Start reading at [`take`]. Looks at nothing that the daemon says of itself but the names of its objects.

use std::collections::BTreeSet;

use integration_cli::{OwnDaemon, guard, leftovers};

/// Everything that a container, a network or a volume could leave: processes, cgroups, mounts, interfaces, pinned
/// namespaces, firewall rules and elements, listening sockets, directories of the daemon, objects.
pub(crate) fn take(d: &OwnDaemon) -> BTreeSet<String> {
    let machine = d.daemon().machine();
    let mut found = BTreeSet::new();
    // The daemon and its helper run; shims and containers do not.
    let is_daemon = |left: &String| left.starts_with("process ") && !left.contains(" shim ");
    found.extend(leftovers::on(machine).into_iter().filter(|left| !is_daemon(left)));
    found.extend(
        guard::groups(machine.name())
            .into_iter()
            .filter(|group| !group.ends_with(machine.name()))
            .map(|group| format!("cgroup {}", group.display())),
    );
    let mut add = |what: &str, script: &str| {
        found.extend(d.host(script).ok().lines().map(|line| format!("{what} {line}")));
    };
    let root = machine.root().display();
    add("mount", "cut -d' ' -f5 /proc/self/mountinfo");
    add("interface", "ip -o link | cut -d: -f2");
    // Whether the last container has gone already is no matter of the route.
    add("route", "{ ip route; ip -6 route show type unicast; } | sed 's/ linkdown//'");
    add("rule", "nft -s list ruleset | grep -v '^table' | sed 's/packets [0-9]* bytes [0-9]*//'");
    add("socket", "ss -Hltun | awk '{print $1, $5}'");
    // What a daemon made of an image stays with the image; everything that holds an id of a container does not.
    add(
        "directory",
        &format!(
            "cd {root} && find data exec -mindepth 2 -maxdepth 4 \
             -not -path 'data/db/*' -not -path '*/trash/*' -not -name '*.log' | LC_ALL=C sort"
        ),
    );
    for (what, list) in
        [("container", "ps -aq"), ("network", "network ls -q --no-trunc"), ("volume", "volume ls -q")]
    {
        found.extend(d.docker(list).ok().lines().map(|line| format!("{what} {line}")));
    }
    found
}
