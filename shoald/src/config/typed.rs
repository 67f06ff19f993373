//! What the settings mean: one typed value for everything that the parts of the daemon are built from.
//!
//! Start reading at [`Config`]. Defaults stand here. Checks that need the machine (does a file exist, is an address
//! ours) are made by whoever uses the value.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use node_agent::sizes;
use node_agent::userns::IdMapping;
use serde_json::Value;
use shoal_types::container::resources::Ulimit;
use shoal_types::container::security::{CgroupMode, IpcMode, SeccompChoice};

use super::swarm::{SwarmSettings, swarm_settings};
use super::{ConfigError, Settings};

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// The configuration file, read again at SIGHUP.
    pub(crate) file: PathBuf,
    /// Where to listen, in the order given, without repetition.
    pub(crate) hosts: Vec<HostAddress>,
    /// TLS of TCP listeners.
    pub(crate) tls: TlsSettings,
    /// Group of the unix socket.
    pub(crate) group: String,
    /// File with the process id.
    pub(crate) pidfile: PathBuf,
    /// Directory of persistent state.
    pub(crate) data_root: PathBuf,
    /// Directory of state that a reboot ends.
    pub(crate) exec_root: PathBuf,
    /// Whom containers are remapped to, as it was asked for; empty is nobody.
    pub(crate) userns_remap: String,
    /// How ids in containers are those of the host; the identity until [`Config::remapped`].
    pub(crate) ids: IdMapping,
    /// How much is logged.
    pub(crate) log_level: LogLevel,
    /// In what form.
    pub(crate) log_format: LogFormat,
    /// Whether colours are left out.
    pub(crate) raw_logs: bool,
    /// Whether debugging was asked for.
    pub(crate) debug: bool,
    /// Whether experimental features are on.
    pub(crate) experimental: bool,
    /// Oldest API version that is served.
    pub(crate) min_api_version: (u16, u16),
    /// Labels of the daemon.
    pub(crate) labels: Vec<String>,
    /// Plugins that decide about requests, in the order in which they are asked.
    pub(crate) authorization_plugins: Vec<String>,
    /// Where figures are served; `None` is nowhere.
    pub(crate) metrics_address: Option<String>,
    /// Feature switches.
    pub(crate) features: BTreeMap<String, bool>,
    /// Seconds that a shutdown may take; negative is without limit.
    pub(crate) shutdown_timeout: i64,
    /// Defaults of containers.
    pub(crate) containers: ContainerDefaults,
    /// Networks.
    pub(crate) network: NetworkSettings,
    /// Registries.
    pub(crate) registries: RegistrySettings,
    /// This machine as a node of a cluster.
    pub(crate) swarm: SwarmSettings,
    /// What all of this was made of.
    settings: Settings,
    /// What was set although it means nothing here, with the reason.
    pub(crate) ignored: Vec<(&'static str, &'static str)>,
}

/// Where specifications of devices are, unless it is said otherwise.
const DEFAULT_CDI_DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Names that the built-in runtime answers to.
pub(crate) const EMBEDDED_RUNTIMES: [&str; 3] = ["io.containerd.runc.v2", "runc", "shoal"];

/// What containers get that do not say otherwise.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ContainerDefaults {
    /// OCI runtimes beside the built-in one, by name.
    pub(crate) runtimes: BTreeMap<String, RuntimeProgram>,
    /// Name of the runtime of those that name none.
    pub(crate) runtime: String,
    /// Where specifications of devices by name are; empty when they are switched off.
    pub(crate) cdi_directories: Vec<PathBuf>,
    /// Log driver.
    pub(crate) log_driver: String,
    /// Options of that log driver.
    pub(crate) log_options: BTreeMap<String, String>,
    /// Limits of the process.
    pub(crate) ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm`.
    pub(crate) shm_size: u64,
    /// IPC namespace.
    pub(crate) ipc: IpcMode,
    /// Cgroup namespace; `None` is private on cgroup v2 and the host's on v1.
    pub(crate) cgroup_namespace: Option<CgroupMode>,
    /// Parent cgroup; empty is `/docker`.
    pub(crate) cgroup_parent: String,
    /// Whether an init process runs.
    pub(crate) init: bool,
    /// Init program instead of the built-in one.
    pub(crate) init_path: Option<PathBuf>,
    /// Whether set-user-id programs gain nothing.
    pub(crate) no_new_privileges: bool,
    /// System call filter.
    pub(crate) seccomp: SeccompChoice,
    /// Seconds between the stop signal and SIGKILL.
    pub(crate) stop_timeout: i64,
    /// Bytes that may be written to the root file system; `None` is any number.
    pub(crate) size: Option<u64>,
}

/// An OCI runtime that is a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuntimeProgram {
    /// Path, or name to be found in PATH.
    pub(crate) path: String,
    /// Arguments before the command.
    pub(crate) arguments: Vec<String>,
}

/// Settings of networks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NetworkSettings {
    /// Name of the default bridge; `None` when there is to be none.
    pub(crate) bridge: Option<String>,
    /// Whether the user named it, and so makes it.
    pub(crate) is_bridge_given: bool,
    /// Address and prefix of the default bridge.
    pub(crate) bip: Option<IpNet>,
    /// The same for IPv6.
    pub(crate) bip6: Option<IpNet>,
    /// Part of its subnet from which addresses are taken.
    pub(crate) fixed_cidr: Option<IpNet>,
    /// Its IPv6 subnet.
    pub(crate) fixed_cidr_v6: Option<IpNet>,
    /// Gateway of its containers instead of the bridge.
    pub(crate) gateway: Option<IpAddr>,
    /// The same for IPv6.
    pub(crate) gateway_v6: Option<IpAddr>,
    /// Whether it has an IPv6 subnet.
    pub(crate) ipv6: bool,
    /// Whether its containers talk to each other.
    pub(crate) icc: bool,
    /// Whether outgoing packets take the host's address.
    pub(crate) masquerade: bool,
    /// Addresses at which ports are published; `None` is all of both families.
    pub(crate) publish_ip: Option<IpAddr>,
    /// MTU of the default bridge.
    pub(crate) mtu: Option<u32>,
    /// Whether IPv4 rules are written.
    pub(crate) firewall_v4: bool,
    /// Whether IPv6 rules are written.
    pub(crate) firewall_v6: bool,
    /// Whether forwarding is switched on.
    pub(crate) forwarding: bool,
    /// Whether containers may be reached at their own addresses from other machines.
    pub(crate) direct_routing: bool,
    /// Pools of subnets, base and size; empty are the built-in ones.
    pub(crate) address_pools: Vec<(IpNet, u8)>,
    /// Options of new networks by driver.
    pub(crate) default_options: BTreeMap<String, BTreeMap<String, String>>,
    /// What `host-gateway` stands for; empty is the gateway of the default bridge.
    pub(crate) host_gateway: Vec<IpAddr>,
    /// Name servers of containers; empty are the host's.
    pub(crate) dns: Vec<IpAddr>,
    /// Options of resolv.conf.
    pub(crate) dns_options: Vec<String>,
    /// Search domains.
    pub(crate) dns_search: Vec<String>,
}

/// Settings of registries.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RegistrySettings {
    /// Mirrors of the default registry.
    pub(crate) mirrors: Vec<String>,
    /// Mirrors of other registries, from the file's key `shoal`.
    pub(crate) other_mirrors: BTreeMap<String, Vec<String>>,
    /// Registries, by name or network, without (proper) TLS.
    pub(crate) insecure: Vec<String>,
    /// Layers that one pull fetches at a time.
    pub(crate) concurrent_downloads: usize,
    /// Layers that one push sends at a time.
    pub(crate) concurrent_uploads: usize,
    /// Attempts to fetch a layer.
    pub(crate) download_attempts: u32,
    /// Proxies for HTTP, HTTPS, and hosts to reach without; empty takes the environment's.
    pub(crate) proxies: (String, String, String),
}

/// Where the daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostAddress {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP address, `host:port`.
    Tcp(String),
    /// Sockets that the service manager has opened: all, or the one with this name or number.
    Inherited(String),
}

/// TLS of TCP listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    /// Whether, and how strictly.
    pub(crate) mode: TlsMode,
    /// CA that clients' certificates are checked against.
    pub(crate) ca: PathBuf,
    /// The daemon's certificate.
    pub(crate) certificate: PathBuf,
    /// The daemon's key.
    pub(crate) key: PathBuf,
}

/// Whether TCP listeners use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsMode {
    /// They do not.
    Off,
    /// They do; anybody may come.
    Server,
    /// They do; clients show a certificate.
    Mutual,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    /// Everything.
    Debug,
    /// Changes of state.
    Info,
    /// What is odd.
    Warn,
    /// What somebody must look at.
    Error,
}

/// In what form is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object for each line.
    Json,
}

impl Config {
    /// This configuration with what another one says about everything that may change while the daemon runs.
    pub(crate) fn reloaded(&self, wanted: &Self) -> Result<Self, ConfigError> {
        let next = Self::from_settings(&self.settings.reloaded(&wanted.settings), self.file.clone())?;
        Ok(next.remapped(self.ids.clone()))
    }

    /// This configuration for containers with these ids: what they own lies apart from what others own, as dockerd keeps
    /// it, so that a change of the setting finds what it had before.
    pub(crate) fn remapped(mut self, ids: IdMapping) -> Self {
        if !ids.is_identity() {
            let (uid, gid) = ids.root();
            let own = format!("{uid}.{gid}");
            self.data_root.push(&own);
            self.exec_root.push(own);
        }
        Self { ids, ..self }
    }

    /// Makes sense of settings.
    pub(super) fn from_settings(settings: &Settings, file: PathBuf) -> Result<Self, ConfigError> {
        let debug = settings.bool("debug").unwrap_or(false);
        check_storage(settings)?;
        check_exec_options(settings)?;
        Ok(Self {
            file,
            hosts: hosts(settings)?,
            tls: tls(settings),
            group: settings.get("group").and_then(Value::as_str).unwrap_or(super::DEFAULT_GROUP).to_owned(),
            pidfile: path(settings, "pidfile", "/run/shoal.pid"),
            data_root: path(settings, "data-root", "/var/lib/shoal"),
            exec_root: path(settings, "exec-root", "/run/shoal"),
            userns_remap: settings.text("userns-remap").unwrap_or_default().to_owned(),
            ids: IdMapping::default(),
            log_level: if debug { LogLevel::Debug } else { log_level(settings)? },
            log_format: match settings.text("log-format") {
                None | Some("text") => LogFormat::Text,
                Some("json") => LogFormat::Json,
                Some(other) => return Err(ConfigError::value(format!("invalid log format: {other}"))),
            },
            raw_logs: settings.bool("raw-logs").unwrap_or(false),
            debug,
            experimental: settings.bool("experimental").unwrap_or(false),
            min_api_version: min_api_version(settings)?,
            labels: labels(settings)?,
            authorization_plugins: each_once(settings.list("authorization-plugins")),
            metrics_address: settings.text("metrics-addr").filter(|a| !a.is_empty()).map(str::to_owned),
            features: features(settings)?,
            shutdown_timeout: settings.int("shutdown-timeout").unwrap_or(15),
            containers: container_defaults(settings)?,
            network: network_settings(settings)?,
            registries: registry_settings(settings)?,
            swarm: swarm_settings(settings)?,
            ignored: settings.ignored(),
            settings: settings.clone(),
        })
    }
}

fn path(settings: &Settings, name: &str, default: &str) -> PathBuf {
    PathBuf::from(settings.text(name).unwrap_or(default))
}

/// The texts without repetitions, in their order.
fn each_once(texts: Vec<String>) -> Vec<String> {
    let mut once = Vec::with_capacity(texts.len());
    for text in texts {
        if !once.contains(&text) {
            once.push(text);
        }
    }
    once
}

fn hosts(settings: &Settings) -> Result<Vec<HostAddress>, ConfigError> {
    let mut texts = settings.list("hosts");
    if texts.is_empty() {
        texts.push("unix:///run/shoal.sock".to_owned());
    }
    let is_tls = tls(settings).mode != TlsMode::Off;
    let mut hosts = Vec::new();
    for text in texts {
        let host = parse_host(text.trim(), is_tls)?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

fn parse_host(text: &str, is_tls: bool) -> Result<HostAddress, ConfigError> {
    let invalid = || ConfigError::value(format!("invalid bind address ({text})"));
    let (protocol, address) = text.split_once("://").unwrap_or(("tcp", text));
    match protocol {
        "unix" if address.is_empty() => Ok(HostAddress::Unix("/run/shoal.sock".into())),
        "unix" => Ok(HostAddress::Unix(address.into())),
        "fd" => Ok(HostAddress::Inherited(address.to_owned())),
        "tcp" => {
            let port: u16 = if is_tls { 2376 } else { 2375 };
            let address = address.trim_end_matches('/');
            let (host, given) = match address.rsplit_once(':') {
                Some((host, given)) if !given.contains(']') => (host, Some(given)),
                _ => (address, None),
            };
            let host = if host.is_empty() { "localhost" } else { host };
            let port = match given {
                Some(given) if !given.is_empty() => given.parse().map_err(|_| invalid())?,
                _ => port,
            };
            Ok(HostAddress::Tcp(format!("{host}:{port}")))
        }
        _ => Err(invalid()),
    }
}

fn tls(settings: &Settings) -> TlsSettings {
    let from_environment = std::env::var_os("DOCKER_CERT_PATH").map(PathBuf::from);
    let home = || std::env::home_dir().unwrap_or_else(|| PathBuf::from("/root")).join(".docker");
    let directory = from_environment.unwrap_or_else(home);
    let verify_by_environment = std::env::var("DOCKER_TLS_VERIFY").is_ok_and(|value| !value.is_empty());
    let is_verify = settings.bool("tlsverify").unwrap_or(verify_by_environment);
    let mode = match (is_verify, settings.bool("tls").unwrap_or(false)) {
        (true, _) => TlsMode::Mutual,
        (false, true) => TlsMode::Server,
        (false, false) => TlsMode::Off,
    };
    let file = |name: &str, default: &str| {
        settings.text(name).map_or_else(|| directory.join(default), PathBuf::from)
    };
    TlsSettings {
        mode,
        ca: file("tlscacert", "ca.pem"),
        certificate: file("tlscert", "cert.pem"),
        key: file("tlskey", "key.pem"),
    }
}

fn log_level(settings: &Settings) -> Result<LogLevel, ConfigError> {
    match settings.text("log-level").unwrap_or("info") {
        "debug" | "trace" => Ok(LogLevel::Debug),
        "info" => Ok(LogLevel::Info),
        "warn" | "warning" => Ok(LogLevel::Warn),
        "error" | "fatal" | "panic" => Ok(LogLevel::Error),
        other => Err(ConfigError::value(format!("unable to parse logging level: {other}"))),
    }
}

/// Oldest version that Shoal can speak; also the default, so that old clients keep working.
const OLDEST_API_VERSION: (u16, u16) = (1, 24);

fn min_api_version(settings: &Settings) -> Result<(u16, u16), ConfigError> {
    let from_environment = std::env::var("DOCKER_MIN_API_VERSION").ok();
    let Some(text) = settings.text("min-api-version").map(str::to_owned).or(from_environment) else {
        return Ok(OLDEST_API_VERSION);
    };
    let invalid =
        || ConfigError::value(format!("invalid minimum API version: {text}: must be at least 1.24"));
    let (major, minor) = text.split_once('.').ok_or_else(invalid)?;
    let version = (major.parse().map_err(|_| invalid())?, minor.parse().map_err(|_| invalid())?);
    if version < OLDEST_API_VERSION { Err(invalid()) } else { Ok(version) }
}

fn labels(settings: &Settings) -> Result<Vec<String>, ConfigError> {
    let labels = settings.list("labels");
    let mut by_key: BTreeMap<&str, &str> = BTreeMap::new();
    for label in &labels {
        let (key, value) = label
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| ConfigError::value(format!("bad attribute format: {label}")))?;
        if by_key.insert(key, value).is_some_and(|earlier| earlier != value) {
            return Err(ConfigError::value(format!("conflict labels for {key}={value}")));
        }
    }
    Ok(labels)
}

fn features(settings: &Settings) -> Result<BTreeMap<String, bool>, ConfigError> {
    let Some(features) = settings.get("features").and_then(Value::as_object) else {
        return Ok(BTreeMap::new());
    };
    let read_one = |(name, value): (&String, &Value)| {
        let enabled = value
            .as_bool()
            .ok_or_else(|| ConfigError::value(format!("feature {name} must be true or false")))?;
        Ok((name.clone(), enabled))
    };
    features.iter().map(read_one).collect()
}

/// Devices by name are on unless the feature is switched off, or directories are given that are none.
fn cdi_directories(settings: &Settings) -> Result<Vec<PathBuf>, ConfigError> {
    if features(settings)?.get("cdi") == Some(&false) {
        return Ok(Vec::new());
    }
    if settings.get("cdi-spec-dirs").is_none() {
        return Ok(DEFAULT_CDI_DIRECTORIES.map(PathBuf::from).into());
    }
    let given = settings.list("cdi-spec-dirs");
    Ok(given.into_iter().filter(|directory| !directory.is_empty()).map(PathBuf::from).collect())
}

fn check_storage(settings: &Settings) -> Result<(), ConfigError> {
    if let Some(driver) = settings.text("storage-driver")
        && !matches!(driver, "overlay2" | "overlayfs" | "overlay")
    {
        return Err(ConfigError::value(format!(
            "error initializing graphdriver: driver not supported: {driver}; shoald has overlayfs only"
        )));
    }
    Ok(())
}

/// How much containers may write that do not say. Keys may have any case, as in dockerd.
fn container_size(settings: &Settings) -> Result<Option<u64>, ConfigError> {
    let mut size = None;
    for option in settings.list("storage-opts") {
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| ConfigError::value(format!("Unable to parse key/value option: '{option}'")))?;
        match key.to_ascii_lowercase().as_str() {
            "overlay2.override_kernel_check" => {}
            "overlay2.size" => size = Some(bytes(value)?).filter(|size| *size > 0),
            _ => return Err(ConfigError::value(format!("overlay2: unknown option {key}"))),
        }
    }
    Ok(size)
}

fn check_exec_options(settings: &Settings) -> Result<(), ConfigError> {
    for option in settings.list("exec-opts") {
        match option.split_once('=') {
            Some(("native.cgroupdriver", "cgroupfs")) => {}
            Some(("native.cgroupdriver", "systemd")) => {
                return Err(ConfigError::value(
                    "native.cgroupdriver=systemd is not supported: shoald manages its part of the cgroup tree itself",
                ));
            }
            Some(("native.cgroupdriver", other)) => {
                return Err(ConfigError::value(format!(
                    "invalid cgroup driver: {other}. Must be cgroupfs or systemd"
                )));
            }
            _ => return Err(ConfigError::value(format!("invalid runtime option: {option}"))),
        }
    }
    Ok(())
}

fn container_defaults(settings: &Settings) -> Result<ContainerDefaults, ConfigError> {
    let runtimes = runtimes(settings)?;
    let runtime = settings.text("default-runtime").unwrap_or_default().to_owned();
    if !EMBEDDED_RUNTIMES.contains(&runtime.as_str())
        && !runtimes.contains_key(&runtime)
        && !runtime.is_empty()
    {
        return Err(ConfigError::value(format!("specified default runtime '{runtime}' does not exist")));
    }
    Ok(ContainerDefaults {
        runtime,
        runtimes,
        cdi_directories: cdi_directories(settings)?,
        log_driver: settings.text("log-driver").unwrap_or("json-file").to_owned(),
        log_options: settings.pairs("log-opts"),
        ulimits: ulimits(settings)?,
        shm_size: settings.text("default-shm-size").map_or(Ok(64 << 20), bytes)?,
        ipc: match settings.text("default-ipc-mode") {
            None | Some("private") => IpcMode::Private,
            Some("shareable") => IpcMode::Shareable,
            Some(other) => {
                return Err(ConfigError::value(format!(
                    "invalid default-ipc-mode: {other}: must be private or shareable"
                )));
            }
        },
        cgroup_namespace: match settings.text("default-cgroupns-mode") {
            None => None,
            Some("private") => Some(CgroupMode::Private),
            Some("host") => Some(CgroupMode::Host),
            Some(other) => {
                return Err(ConfigError::value(format!(
                    "invalid default cgroup namespace mode: {other}: must be private or host"
                )));
            }
        },
        cgroup_parent: settings.text("cgroup-parent").unwrap_or_default().to_owned(),
        init: settings.bool("init").unwrap_or(false),
        init_path: settings.text("init-path").map(PathBuf::from),
        no_new_privileges: settings.bool("no-new-privileges").unwrap_or(false),
        seccomp: seccomp(settings)?,
        stop_timeout: settings.int("default-stop-timeout").unwrap_or(10),
        size: container_size(settings)?,
    })
}

fn runtimes(settings: &Settings) -> Result<BTreeMap<String, RuntimeProgram>, ConfigError> {
    let Some(runtimes) = settings.get("runtimes").and_then(Value::as_object) else {
        return Ok(BTreeMap::new());
    };
    let read_one = |(name, value): (&String, &Value)| {
        let path = value.get("path").and_then(Value::as_str).unwrap_or_default();
        let kind = value.get("runtimeType").and_then(Value::as_str).unwrap_or_default();
        if path.is_empty() || !kind.is_empty() {
            return Err(ConfigError::value(format!(
                "invalid runtime {name}: needs a path to a program with the OCI command line, and no runtimeType"
            )));
        }
        let arguments = value.get("runtimeArgs").and_then(Value::as_array);
        let arguments =
            arguments.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok((name.clone(), RuntimeProgram { path: path.to_owned(), arguments }))
    };
    runtimes.iter().map(read_one).collect()
}

fn ulimits(settings: &Settings) -> Result<Vec<Ulimit>, ConfigError> {
    let Some(ulimits) = settings.get("default-ulimits").and_then(Value::as_object) else {
        return Ok(Vec::new());
    };
    let read_one = |(name, value): (&String, &Value)| {
        let number = |key: &str| value.get(key).and_then(Value::as_i64);
        let (Some(soft), Some(hard)) = (number("Soft"), number("Hard")) else {
            return Err(ConfigError::value(format!("invalid default ulimit {name}: needs Soft and Hard")));
        };
        Ok(Ulimit { name: name.clone(), soft, hard })
    };
    ulimits.iter().map(read_one).collect()
}

fn seccomp(settings: &Settings) -> Result<SeccompChoice, ConfigError> {
    match settings.text("seccomp-profile") {
        None | Some("builtin") => Ok(SeccompChoice::Builtin),
        Some("unconfined") => Ok(SeccompChoice::Unconfined),
        Some(file) => std::fs::read_to_string(Path::new(file))
            .map(SeccompChoice::Custom)
            .map_err(|error| ConfigError::value(format!("opening seccomp profile ({file}) failed: {error}"))),
    }
}

/// Reads `64m`, `1GiB`, `4096`: binary multiples.
fn bytes(text: &str) -> Result<u64, ConfigError> {
    sizes::binary(text).ok_or_else(|| ConfigError::value(format!("invalid size: '{text}'")))
}

fn network_settings(settings: &Settings) -> Result<NetworkSettings, ConfigError> {
    let on = |name: &str| settings.bool(name).unwrap_or(true);
    let bridge = match settings.text("bridge") {
        Some("none") => None,
        Some(name) => Some(name.to_owned()),
        None => Some("shoal0".to_owned()),
    };
    if settings.text("bridge").is_some() && settings.text("bip").is_some() {
        return Err(ConfigError::value(
            "You specified -b & --bip, mutually exclusive options. Please specify only one",
        ));
    }
    if !on("iptables") && !on("icc") {
        return Err(ConfigError::value(
            "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true",
        ));
    }
    Ok(NetworkSettings {
        bridge,
        is_bridge_given: settings.text("bridge").is_some(),
        bip: parsed(settings, "bip")?,
        bip6: parsed(settings, "bip6")?,
        fixed_cidr: parsed(settings, "fixed-cidr")?,
        fixed_cidr_v6: parsed(settings, "fixed-cidr-v6")?,
        gateway: parsed(settings, "default-gateway")?,
        gateway_v6: parsed(settings, "default-gateway-v6")?,
        ipv6: settings.bool("ipv6").unwrap_or(false),
        icc: on("icc"),
        masquerade: on("ip-masq"),
        publish_ip: parsed::<IpAddr>(settings, "ip")?.filter(|address| !address.is_unspecified()),
        mtu: settings
            .int("mtu")
            .filter(|mtu| *mtu != 0)
            .map(|mtu| {
                u32::try_from(mtu).map_err(|_| ConfigError::value(format!("invalid default MTU: {mtu}")))
            })
            .transpose()?,
        firewall_v4: on("iptables"),
        firewall_v6: on("ip6tables"),
        forwarding: on("ip-forward"),
        direct_routing: settings.bool("allow-direct-routing").unwrap_or(false),
        address_pools: address_pools(settings)?,
        default_options: default_network_options(settings),
        host_gateway: addresses(settings, "host-gateway-ips")?,
        dns: addresses(settings, "dns")?,
        dns_options: settings.list("dns-opts"),
        dns_search: settings.list("dns-search"),
    })
}

fn parsed<T: std::str::FromStr>(settings: &Settings, name: &str) -> Result<Option<T>, ConfigError> {
    let parse = |text: &str| text.parse().map_err(|_| ConfigError::value(format!("invalid {name}: {text}")));
    settings.text(name).map(parse).transpose()
}

fn addresses(settings: &Settings, name: &str) -> Result<Vec<IpAddr>, ConfigError> {
    let parse = |text: String| {
        text.trim().parse().map_err(|_| ConfigError::value(format!("{} is not an ip address", text.trim())))
    };
    settings.list(name).into_iter().map(parse).collect()
}

fn address_pools(settings: &Settings) -> Result<Vec<(IpNet, u8)>, ConfigError> {
    let pools = settings.get("default-address-pools").and_then(Value::as_array);
    let read_one = |pool: &Value| {
        let invalid = || ConfigError::value(format!("invalid default-address-pools: {pool}"));
        let base: IpNet = pool
            .get("base")
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok())
            .ok_or_else(invalid)?;
        let size = pool
            .get("size")
            .and_then(Value::as_u64)
            .and_then(|size| u8::try_from(size).ok())
            .ok_or_else(invalid)?;
        if size < base.prefix_len() || size > base.max_prefix_len() {
            return Err(invalid());
        }
        Ok((base.trunc(), size))
    };
    pools.into_iter().flatten().map(read_one).collect()
}

fn default_network_options(settings: &Settings) -> BTreeMap<String, BTreeMap<String, String>> {
    let drivers = settings.get("default-network-opts").and_then(Value::as_object);
    let options = |value: &Value| {
        let pairs = value.as_object().into_iter().flatten();
        pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    drivers.into_iter().flatten().map(|(driver, value)| (driver.clone(), options(value))).collect()
}

fn registry_settings(settings: &Settings) -> Result<RegistrySettings, ConfigError> {
    let count = |name: &str, default: i64| {
        let number = settings.int(name).unwrap_or(default);
        let wrong = || ConfigError::value(format!("invalid {}: {number}", name.replace('-', " ")));
        usize::try_from(number).ok().filter(|number| *number > 0).ok_or_else(wrong)
    };
    let proxy = |name: &str| settings.text(name).unwrap_or_default().to_owned();
    Ok(RegistrySettings {
        mirrors: settings.list("registry-mirrors"),
        other_mirrors: other_mirrors(settings)?,
        insecure: settings.list("insecure-registries"),
        concurrent_downloads: count("max-concurrent-downloads", 3)?,
        concurrent_uploads: count("max-concurrent-uploads", 5)?,
        download_attempts: u32::try_from(count("max-download-attempts", 5)?).unwrap_or(u32::MAX),
        proxies: (proxy("http-proxy"), proxy("https-proxy"), proxy("no-proxy")),
    })
}

/// `"shoal": {"registry-mirrors": {"quay.io": ["https://mirror"]}}`: what dockerd has no key for.
fn other_mirrors(settings: &Settings) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    let Some(ours) = settings.get("shoal") else { return Ok(BTreeMap::new()) };
    let invalid = |what: &str| ConfigError::value(format!("invalid key shoal: {what}"));
    let ours = ours.as_object().ok_or_else(|| invalid("must be an object"))?;
    if let Some(unknown) = ours.keys().find(|key| *key != "registry-mirrors") {
        return Err(invalid(&format!("unknown key {unknown}")));
    }
    let Some(mirrors) = ours.get("registry-mirrors") else { return Ok(BTreeMap::new()) };
    serde_json::from_value(mirrors.clone()).map_err(|error| invalid(&format!("registry-mirrors: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Invocation, load, read_command_line};
    use std::ffi::OsString;

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        let all = ["--config-file", "/dev/null"].iter().chain(arguments).map(OsString::from);
        let Ok(Invocation::Run(line)) = read_command_line(all) else { panic!("{arguments:?}") };
        load(&line)
    }

    #[test]
    fn listeners_are_read_in_dockers_forms() {
        let hosts = |texts: &[&str]| {
            let arguments: Vec<&str> = texts.iter().flat_map(|text| ["-H", text]).collect();
            config(&arguments).map(|config| config.hosts)
        };
        assert_eq!(hosts(&[]).unwrap(), [HostAddress::Unix("/run/shoal.sock".into())]);
        assert_eq!(
            hosts(&["unix:///a", "tcp://:1", "0.0.0.0", "tcp://[::]:5", "fd://", "unix:///a"]).unwrap(),
            [
                HostAddress::Unix("/a".into()),
                HostAddress::Tcp("localhost:1".into()),
                HostAddress::Tcp("0.0.0.0:2375".into()),
                HostAddress::Tcp("[::]:5".into()),
                HostAddress::Inherited(String::new()),
            ]
        );
        assert!(hosts(&["ssh://x"]).is_err());
        assert!(hosts(&["tcp://a:99999"]).is_err());
    }

    #[test]
    fn a_tcp_listener_with_tls_has_another_default_port() {
        let config = config(&["--tlsverify", "-H", "tcp://0.0.0.0"]).unwrap();
        assert_eq!(config.hosts, [HostAddress::Tcp("0.0.0.0:2376".into())]);
        assert_eq!(config.tls.mode, TlsMode::Mutual);
    }

    #[test]
    fn options_of_the_storage_driver_are_read_or_refused() {
        let size = |option: &str| config(&["--storage-opt", option]).map(|config| config.containers.size);
        assert_eq!(size("overlay2.size=1G"), Ok(Some(1 << 30)));
        assert_eq!(size("Overlay2.Size=0"), Ok(None));
        assert_eq!(size("overlay2.override_kernel_check=true"), Ok(None));
        let refused = |option: &str| size(option).unwrap_err().to_string();
        assert_eq!(refused("overlay2.size=1x"), "invalid size: '1x'");
        assert_eq!(refused("dm.basesize=1G"), "overlay2: unknown option dm.basesize");
        assert_eq!(refused("banana"), "Unable to parse key/value option: 'banana'");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_dockers_texts() {
        let text = |arguments: &[&str]| config(arguments).unwrap_err().to_string();
        assert_eq!(text(&["-l", "banana"]), "unable to parse logging level: banana");
        assert_eq!(
            text(&["-b", "br0", "--bip", "10.0.0.1/24"]),
            "You specified -b & --bip, mutually exclusive options. Please specify only one"
        );
        assert_eq!(text(&["--label", "x"]), "bad attribute format: x");
        assert_eq!(text(&["--dns", "nope"]), "nope is not an ip address");
        assert!(text(&["-s", "btrfs"]).contains("driver not supported"));
    }

    #[test]
    fn debug_wins_over_the_level() {
        assert_eq!(config(&["-D", "-l", "error"]).unwrap().log_level, LogLevel::Debug);
        assert_eq!(config(&["-l", "fatal"]).unwrap().log_level, LogLevel::Error);
    }
}
