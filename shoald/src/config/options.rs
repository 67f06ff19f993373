//! Everything that can be set, in one table: name of the flag, key in the file, kind of value, and what Shoal does with it.
//!
//! Start reading at [`OPTIONS`]. Names and semantics are dockerd's; defaults that differ are in `typed.rs`. The table is also
//! the help text and the source of docs/daemon-options.md (`reference.rs`).

use std::fmt::Write as _;

/// What kind of value an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `--x`, `--x=false`; true or false.
    Bool,
    /// One text.
    Text,
    /// A whole number.
    Int,
    /// Texts: the flag is repeated, the file has an array.
    List,
    /// `key=value` pairs: the flag is repeated, the file has an object.
    Pairs,
    /// Only in the file, as it is.
    Json,
}

/// What Shoal does with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// What dockerd does.
    Yes,
    /// Nothing, because it is always so; in which words.
    Inherent(&'static str),
    /// Nothing, because it has no meaning here; why.
    Ignored(&'static str),
    /// It refuses to start, because what is asked for cannot be had; why.
    Refused(&'static str),
}

/// One thing that can be set.
#[derive(Debug, Clone, Copy)]
pub(super) struct OptionSpec {
    /// Name of the flag without dashes; empty when there is none.
    pub(super) flag: &'static str,
    /// One-letter form of the flag.
    pub(super) short: Option<char>,
    /// Key in the configuration file; empty when there is none.
    pub(super) key: &'static str,
    /// Kind of value.
    pub(super) kind: Kind,
    /// Whether SIGHUP applies a change.
    pub(super) reloads: bool,
    /// What becomes of it.
    pub(super) support: Support,
    /// One line for `--help`.
    pub(super) help: &'static str,
}

/// An option whose flag and key have the same name.
const fn same(name: &'static str, kind: Kind, help: &'static str) -> OptionSpec {
    OptionSpec { flag: name, short: None, key: name, kind, reloads: false, support: Support::Yes, help }
}

/// An option whose key differs from its flag.
const fn keyed(flag: &'static str, key: &'static str, kind: Kind, help: &'static str) -> OptionSpec {
    OptionSpec { key, ..same(flag, kind, help) }
}

/// An option that exists on the command line only.
const fn flag(name: &'static str, kind: Kind, help: &'static str) -> OptionSpec {
    OptionSpec { key: "", ..same(name, kind, help) }
}

/// An option that exists in the file only.
const fn key(name: &'static str, kind: Kind, help: &'static str) -> OptionSpec {
    OptionSpec { flag: "", ..same(name, kind, help) }
}

impl OptionSpec {
    const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    const fn reloads(self) -> Self {
        Self { reloads: true, ..self }
    }

    const fn inherent(self, why: &'static str) -> Self {
        Self { support: Support::Inherent(why), ..self }
    }

    const fn ignored(self, why: &'static str) -> Self {
        Self { support: Support::Ignored(why), ..self }
    }

    const fn refused(self, why: &'static str) -> Self {
        Self { support: Support::Refused(why), ..self }
    }

    /// The name by which messages call it: the key as dockerd has it, else the flag.
    pub(super) fn name(&self) -> &'static str {
        if self.key.is_empty() { self.flag } else { self.key }
    }
}

const NO_CONTAINERD: &str = "there is no containerd; shoald runs containers itself";
const LATER_CLUSTER: &str = "networks that span nodes are not supported yet";
const NO_RT: &str = "real-time scheduling of the parent cgroup is not set up";

use Kind::{Bool, Int, Json, List, Pairs, Text};

/// The table, sorted by name.
pub(super) const OPTIONS: &[OptionSpec] = &[
    keyed("add-runtime", "runtimes", Json, "Register an additional OCI runtime: NAME=PATH").reloads(),
    same("allow-direct-routing", Bool, "Allow remote access to published ports on container IP addresses"),
    key("allow-nondistributable-artifacts", List, "").ignored("obsolete: every layer may be pushed"),
    keyed("authorization-plugin", "authorization-plugins", List, "Authorization plugins to load").reloads(),
    same("bip", Text, "IPv4 address and prefix of the default bridge"),
    same("bip6", Text, "IPv6 address and prefix of the default bridge"),
    same("bridge", Text, "Name of the default bridge, or none").short('b'),
    same(
        "bridge-accept-fwmark",
        Text,
        "Accept packets with this firewall mark, MARK or MARK/MASK, into bridge networks",
    ),
    key("builder", Json, ""),
    keyed("cdi-spec-dir", "cdi-spec-dirs", List, "Directories of CDI specifications"),
    same("cgroup-parent", Text, "Parent cgroup of all containers"),
    flag("config-file", Text, "Configuration file (default /etc/shoal/daemon.json)"),
    same("containerd", Text, "Accepted for compatibility").ignored(NO_CONTAINERD),
    same("containerd-namespace", Text, "Accepted for compatibility").ignored(NO_CONTAINERD),
    keyed("containerd-plugins-namespace", "containerd-plugin-namespace", Text, "Accepted for compatibility")
        .ignored(NO_CONTAINERD),
    same("cpu-rt-period", Int, "Real-time period of the parent cgroup in microseconds").refused(NO_RT),
    same("cpu-rt-runtime", Int, "Real-time runtime of the parent cgroup in microseconds").refused(NO_RT),
    same("cri-containerd", Bool, "Accepted for compatibility").ignored(NO_CONTAINERD),
    same("data-root", Text, "Directory of persistent state (default /var/lib/shoal)"),
    same("debug", Bool, "Log debugging messages").short('D').reloads(),
    keyed("default-address-pool", "default-address-pools", Json, "Pool of subnets: base=CIDR,size=BITS"),
    same("default-cgroupns-mode", Text, "Cgroup namespace of containers: host or private").reloads(),
    same("default-gateway", Text, "IPv4 gateway of containers on the default bridge"),
    same("default-gateway-v6", Text, "IPv6 gateway of containers on the default bridge"),
    same("default-ipc-mode", Text, "IPC namespace of containers: shareable or private").reloads(),
    keyed("default-network-opt", "default-network-opts", Json, "Option of new networks: DRIVER=OPTION=VALUE"),
    same("default-runtime", Text, "OCI runtime of containers that name none").reloads(),
    same("default-shm-size", Text, "Size of /dev/shm in containers").reloads(),
    same("default-stop-timeout", Int, "Seconds between the stop signal and SIGKILL (default 10)").reloads(),
    keyed("default-ulimit", "default-ulimits", Json, "Limit of processes: NAME=SOFT[:HARD]"),
    key("deprecated-key-path", Text, "").ignored("obsolete"),
    same("dns", List, "Name server of containers"),
    keyed("dns-opt", "dns-opts", List, "Option of the containers' resolv.conf"),
    same("dns-search", List, "Search domain of containers"),
    keyed("exec-opt", "exec-opts", List, "Option of the runtime, such as native.cgroupdriver=cgroupfs"),
    same("exec-root", Text, "Directory of state that a reboot ends (default /run/shoal)"),
    same("experimental", Bool, "Switch experimental features on"),
    keyed("feature", "features", Json, "Feature switch: NAME[=true|false]").reloads(),
    same("firewall-backend", Text, "nftables, the only one").inherent("rules are always nftables"),
    same("fixed-cidr", Text, "Part of the default bridge's IPv4 subnet from which addresses are taken"),
    same("fixed-cidr-v6", Text, "IPv6 subnet of the default bridge"),
    same("group", Text, "Group of the unix socket (default docker)").short('G'),
    flag("help", Bool, "Print this text"),
    keyed("host", "hosts", List, "Where to listen: unix://PATH, tcp://HOST:PORT, fd://").short('H'),
    keyed("host-gateway-ip", "host-gateway-ips", List, "What host-gateway in --add-host stands for"),
    keyed("http-proxy", "http-proxy", Text, "Proxy for registries over HTTP"),
    keyed("https-proxy", "https-proxy", Text, "Proxy for registries over HTTPS"),
    same("icc", Bool, "Let containers on the default bridge talk to each other (default true)"),
    same("init", Bool, "Run an init process in containers"),
    same("init-path", Text, "Init program instead of the built-in one"),
    keyed("insecure-registry", "insecure-registries", List, "Registry to talk to without (proper) TLS")
        .reloads(),
    same("ip", Text, "Address at which ports are published (default all)"),
    same("ip-forward", Bool, "Switch IP forwarding on (default true)"),
    same("ip-forward-no-drop", Bool, "Forward foreign packets, too, after switching IP forwarding on"),
    same("ip-masq", Bool, "Masquerade packets that leave bridge networks (default true)"),
    same("ip6tables", Bool, "Install firewall rules for IPv6 (default true)"),
    same("iptables", Bool, "Install firewall rules (default true)"),
    same("ipv6", Bool, "Give the default bridge an IPv6 subnet"),
    keyed("label", "labels", List, "Label of the daemon: KEY=VALUE").reloads(),
    same("live-restore", Bool, "Accepted for compatibility")
        .reloads()
        .inherent("containers always survive the daemon"),
    same("log-driver", Text, "Log driver of containers that name none (default json-file)"),
    same("log-format", Text, "Format of the daemon's own log: text or json"),
    same("log-level", Text, "debug, info, warn, error or fatal (default info)").short('l').reloads(),
    keyed("log-opt", "log-opts", Pairs, "Option of the default log driver: KEY=VALUE"),
    same("max-concurrent-downloads", Int, "Layers that one pull fetches at a time (default 3)").reloads(),
    same("max-concurrent-uploads", Int, "Layers that one push sends at a time (default 5)").reloads(),
    same("max-download-attempts", Int, "Attempts to fetch a layer (default 5)").reloads(),
    same("metrics-addr", Text, "Where to serve metrics for Prometheus: HOST:PORT"),
    key("min-api-version", Text, ""),
    same("mtu", Int, "MTU of the default bridge"),
    same("network-control-plane-mtu", Int, "MTU of the cluster's control plane").ignored(LATER_CLUSTER),
    same("network-diagnostic-port", Int, "Accepted for compatibility").ignored("there is no diagnostic port"),
    keyed("no-proxy", "no-proxy", Text, "Hosts to reach without a proxy"),
    same("no-new-privileges", Bool, "Set no-new-privileges for containers that do not say otherwise"),
    keyed("node-generic-resource", "node-generic-resources", List, "Resource that services may ask for"),
    same("nri-opts", Json, "Accepted for compatibility").reloads().ignored("there is no NRI"),
    same("pidfile", Text, "File with the daemon's process id (default /run/shoal.pid)").short('p'),
    same("raw-logs", Bool, "Log without colours"),
    keyed("registry-mirror", "registry-mirrors", List, "Mirror of the default registry").reloads(),
    flag("restart", Bool, "").ignored("obsolete"),
    same("rootless", Bool, "Run without root").refused("rootless mode is not supported yet"),
    same("seccomp-profile", Text, "Default system call filter: builtin, unconfined or a file"),
    same("selinux-enabled", Bool, "Label containers for SELinux")
        .refused("SELinux labelling is not supported yet"),
    key("shoal", Json, ""),
    same("shutdown-timeout", Int, "Seconds that a shutdown may take (default 15)").reloads(),
    same("storage-driver", Text, "overlayfs (or overlay2, which means the same here)").short('s'),
    keyed(
        "storage-opt",
        "storage-opts",
        List,
        "Option of the storage driver: overlay2.size=SIZE limits containers that do not say (needs project quotas)",
    ),
    same("swarm-default-advertise-addr", Text, "Address that other nodes of a swarm use"),
    same("tls", Bool, "Serve TCP with TLS"),
    same("tlscacert", Text, "CA certificate that clients' certificates are checked against"),
    same("tlscert", Text, "The daemon's certificate"),
    same("tlskey", Text, "The daemon's key"),
    same("tlsverify", Bool, "Serve TCP with TLS and demand a certificate of clients"),
    same("userland-proxy", Bool, "Accepted for compatibility").ignored("ports are published by the kernel"),
    same("userland-proxy-path", Text, "Accepted for compatibility")
        .ignored("ports are published by the kernel"),
    same(
        "userns-remap",
        Text,
        "User whose subordinate ids containers run under: default, USER or USER:GROUP (names or numbers)",
    ),
    flag("validate", Bool, "Check the configuration and exit"),
    flag("version", Bool, "Print the version and exit").short('v'),
];

/// Finds an option by its flag.
pub(super) fn by_flag(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|option| option.flag == name && !option.flag.is_empty())
}

/// Finds an option by its one-letter flag.
pub(super) fn by_short(name: char) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|option| option.short == Some(name))
}

/// Finds an option by its key in the file.
pub(super) fn by_key(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|option| option.key == name && !option.key.is_empty())
}

/// The text of `--help`.
pub(super) fn usage() -> String {
    let mut text =
        "Usage:\tshoald [OPTIONS]\n\nA container engine that speaks Docker's Engine API.\n\nOptions:\n"
            .to_owned();
    for option in OPTIONS.iter().filter(|option| !option.flag.is_empty() && !option.help.is_empty()) {
        let short = option.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let value = match option.kind {
            Bool => "",
            Text => " string",
            Int => " int",
            List | Json => " list",
            Pairs => " map",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {short}{:<42}{}", format!("--{}{value}", option.flag), option.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_once() {
        let mut flags: Vec<_> =
            OPTIONS.iter().map(|option| option.flag).filter(|flag| !flag.is_empty()).collect();
        let mut keys: Vec<_> =
            OPTIONS.iter().map(|option| option.key).filter(|key| !key.is_empty()).collect();
        let mut shorts: Vec<_> = OPTIONS.iter().filter_map(|option| option.short).collect();
        let lengths = (flags.len(), keys.len(), shorts.len());
        flags.sort_unstable();
        keys.sort_unstable();
        shorts.sort_unstable();
        flags.dedup();
        keys.dedup();
        shorts.dedup();
        assert_eq!((flags.len(), keys.len(), shorts.len()), lengths);
    }

    #[test]
    fn a_reason_stands_with_everything_that_is_not_supported() {
        for option in OPTIONS {
            if let Support::Inherent(why) | Support::Ignored(why) | Support::Refused(why) = option.support {
                assert!(!why.is_empty(), "{}", option.name());
            }
        }
    }
}
