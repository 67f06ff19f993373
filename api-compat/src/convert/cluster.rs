//! The cluster, its settings, and joining it.
//!
//! Start reading at [`info`] and [`spec`]; what a request for a new cluster means is [`init`]. Settings that are zero take
//! swarm's defaults, so a client that sends back what it was shown changes nothing.

use std::time::Duration;

use manager::api::membership::{InitRequest, JoinRequest, SigningAuthority};
use shoal_types::cluster::Meta;
use shoal_types::cluster::node::{Availability, TlsInfo as Trust};
use shoal_types::cluster::settings::{Cluster, ClusterSpec, ExternalAuthority, JoinTokens, RaftSettings};
use shoal_types::container::spec::LoggingSpec;

use crate::error::ApiError;
use crate::model::bytes::Base64;
use crate::model::cluster::{
    CaConfig, ClusterInfo, DispatcherConfig, Driver, EncryptionConfig, ExternalCa, JoinTokens as ShownTokens,
    ObjectVersion, OrchestrationConfig, RaftConfig, Swarm, SwarmInit, SwarmJoin, SwarmSpec, TaskDefaults,
    TlsInfo,
};

/// The only name that a cluster has.
const NAME: &str = "default";
/// Shortest life of a node certificate.
const MIN_CERTIFICATE_LIFE: Duration = Duration::from_secs(3600);
/// Ports that the data path may have.
const DATA_PATH_PORTS: std::ops::RangeInclusive<u32> = 1024..=49151;
/// Longest prefix of a network that is cut from the pools.
const MAX_SUBNET_SIZE: u32 = 29;

/// A refusal of an object's content, in the words in which swarm's managers pass theirs on.
pub(super) fn rejected(text: &str) -> ApiError {
    ApiError::invalid(format!("rpc error: code = InvalidArgument desc = {text}"))
}

/// Version of an object.
pub(super) fn version(meta: &Meta) -> ObjectVersion {
    ObjectVersion { index: meta.version }
}

/// Nanoseconds as Docker shows a duration.
pub(super) fn nanoseconds(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

/// A duration that Docker tells in nanoseconds; `fault` is what is said of a negative one.
pub(super) fn duration(nanoseconds: i64, fault: &str) -> Result<Duration, ApiError> {
    u64::try_from(nanoseconds).map(Duration::from_nanos).map_err(|_| rejected(fault))
}

/// The log driver that a request names.
pub(super) fn logging(driver: Driver) -> LoggingSpec {
    LoggingSpec { driver: driver.name, options: driver.options }
}

/// A log driver as Docker shows it.
pub(super) fn shown_logging(logging: &LoggingSpec) -> Driver {
    Driver { name: logging.driver.clone(), options: logging.options.clone() }
}

/// Whom somebody trusts, as Docker shows it.
pub(super) fn shown_trust(trust: &Trust) -> TlsInfo {
    TlsInfo {
        trust_root: trust.trust_root.clone(),
        cert_issuer_subject: Base64(trust.issuer_subject.clone()),
        cert_issuer_public_key: Base64(trust.issuer_public_key.clone()),
    }
}

/// The cluster as managers show it.
pub(crate) fn swarm(cluster: &Cluster, tokens: JoinTokens) -> Swarm {
    Swarm { info: info(cluster), join_tokens: ShownTokens { worker: tokens.worker, manager: tokens.manager } }
}

/// The cluster without what lets machines join it.
pub(crate) fn info(cluster: &Cluster) -> ClusterInfo {
    ClusterInfo {
        id: cluster.id.to_string(),
        version: version(&cluster.meta),
        created_at: cluster.meta.created.into(),
        updated_at: cluster.meta.updated.into(),
        spec: shown_spec(&cluster.spec),
        tls_info: TlsInfo {
            trust_root: cluster.trust_root.clone(),
            cert_issuer_subject: Base64(cluster.issuer_subject.clone()),
            cert_issuer_public_key: Base64(cluster.issuer_public_key.clone()),
        },
        root_rotation_in_progress: cluster.is_rotating,
        default_addr_pool: cluster.address_pools.iter().map(ToString::to_string).collect(),
        subnet_size: cluster.subnet_size,
        data_path_port: cluster.data_path_port,
    }
}

fn shown_spec(spec: &ClusterSpec) -> SwarmSpec {
    SwarmSpec {
        name: spec.name.clone(),
        labels: spec.labels.clone(),
        orchestration: OrchestrationConfig { task_history_retention_limit: Some(spec.task_history) },
        raft: RaftConfig {
            snapshot_interval: spec.raft.snapshot_interval,
            keep_old_snapshots: Some(spec.raft.keep_old_snapshots),
            log_entries_for_slow_followers: spec.raft.entries_for_slow_followers,
            election_tick: spec.raft.election_tick,
            heartbeat_tick: spec.raft.heartbeat_tick,
        },
        dispatcher: DispatcherConfig { heartbeat_period: nanoseconds(spec.heartbeat) },
        ca_config: CaConfig {
            node_cert_expiry: nanoseconds(spec.certificate_life),
            external_cas: spec.external_authorities.iter().map(shown_authority).collect(),
            // Never shown: who sends back what it was shown would wish for this certificate again, without its key.
            signing_ca_cert: String::new(),
            signing_ca_key: String::new(),
            force_rotate: spec.rotate_authority,
        },
        task_defaults: TaskDefaults { log_driver: spec.task_logging.as_ref().map(shown_logging) },
        encryption_config: EncryptionConfig { auto_lock_managers: spec.autolock },
    }
}

fn shown_authority(authority: &ExternalAuthority) -> ExternalCa {
    ExternalCa {
        protocol: authority.protocol.clone(),
        url: authority.url.clone(),
        options: authority.options.clone(),
        ca_cert: authority.certificate.clone(),
    }
}

/// The settings that a request describes, and what the cluster shall sign with if it says so.
pub(crate) fn spec(asked: SwarmSpec) -> Result<(ClusterSpec, Option<SigningAuthority>), ApiError> {
    let default = ClusterSpec::default();
    let ca = asked.ca_config;
    if ca.signing_ca_cert.is_empty() && !ca.signing_ca_key.is_empty() {
        return Err(rejected("if a signing CA key is provided, the signing CA cert must also be provided"));
    }
    let certificate_life = match ca.node_cert_expiry {
        0 => default.certificate_life,
        life => duration(life, TOO_SHORT_A_LIFE)?,
    };
    if certificate_life < MIN_CERTIFICATE_LIFE {
        return Err(rejected(TOO_SHORT_A_LIFE));
    }
    let heartbeat = match asked.dispatcher.heartbeat_period {
        0 => default.heartbeat,
        period => duration(period, "heartbeat time period cannot be a negative duration")?,
    };
    let spec = ClusterSpec {
        name: asked.name,
        labels: asked.labels,
        task_history: asked.orchestration.task_history_retention_limit.unwrap_or(default.task_history),
        raft: raft(&asked.raft),
        heartbeat,
        certificate_life,
        external_authorities: ca.external_cas.into_iter().map(authority).collect::<Result<_, _>>()?,
        rotate_authority: ca.force_rotate,
        autolock: asked.encryption_config.auto_lock_managers,
        task_logging: asked.task_defaults.log_driver.map(logging),
    };
    let signing = SigningAuthority { certificate: ca.signing_ca_cert, key: ca.signing_ca_key };
    Ok((spec, Some(signing).filter(|signing| !signing.certificate.is_empty())))
}

/// What is said of certificates that would have to be renewed all the time.
const TOO_SHORT_A_LIFE: &str = "minimum certificate expiry time is: 1h0m0s";

fn raft(asked: &RaftConfig) -> RaftSettings {
    let default = RaftSettings::default();
    let or = |asked: u64, default: u64| if asked == 0 { default } else { asked };
    RaftSettings {
        snapshot_interval: or(asked.snapshot_interval, default.snapshot_interval),
        keep_old_snapshots: asked.keep_old_snapshots.unwrap_or(default.keep_old_snapshots),
        entries_for_slow_followers: or(
            asked.log_entries_for_slow_followers,
            default.entries_for_slow_followers,
        ),
        election_tick: if asked.election_tick == 0 { default.election_tick } else { asked.election_tick },
        heartbeat_tick: if asked.heartbeat_tick == 0 { default.heartbeat_tick } else { asked.heartbeat_tick },
    }
}

fn authority(asked: ExternalCa) -> Result<ExternalAuthority, ApiError> {
    if !asked.protocol.eq_ignore_ascii_case("cfssl") {
        return Err(ApiError::invalid(format!("invalid protocol: {:?}", asked.protocol)));
    }
    Ok(ExternalAuthority {
        protocol: "cfssl".to_owned(),
        url: asked.url,
        certificate: asked.ca_cert,
        options: asked.options,
    })
}

/// The settings that an update describes.
pub(crate) fn updated_spec(asked: SwarmSpec) -> Result<(ClusterSpec, Option<SigningAuthority>), ApiError> {
    spec(named(asked)?)
}

/// The settings with the only name that a cluster has; it need not be said.
fn named(asked: SwarmSpec) -> Result<SwarmSpec, ApiError> {
    match asked.name.as_str() {
        "" | NAME => Ok(SwarmSpec { name: NAME.to_owned(), ..asked }),
        _ => Err(ApiError::invalid("swarm spec must be named \"default\"")),
    }
}

/// The new cluster that a request describes.
pub(crate) fn init(mut asked: SwarmInit) -> Result<InitRequest, ApiError> {
    asked.spec = named(asked.spec)?;
    asked.spec.encryption_config.auto_lock_managers |= asked.auto_lock_managers;
    if asked.data_path_port != 0 && !DATA_PATH_PORTS.contains(&asked.data_path_port) {
        return Err(ApiError::invalid(format!(
            "Datapath port number is not in valid range (1024-49151) : {}",
            asked.data_path_port
        )));
    }
    let (address_pools, subnet_size) = pools(&asked)?;
    let (spec, signing) = spec(asked.spec)?;
    Ok(InitRequest {
        listen: asked.listen_addr,
        advertise: asked.advertise_addr,
        data_path: asked.data_path_addr,
        data_path_port: u16::try_from(asked.data_path_port).unwrap_or_default(),
        address_pools,
        subnet_size,
        force_new_cluster: asked.force_new_cluster,
        spec,
        signing,
        availability: availability(&asked.availability)?,
    })
}

/// The pools that networks are cut from, and how large the pieces are.
fn pools(asked: &SwarmInit) -> Result<(Vec<ipnet::IpNet>, u8), ApiError> {
    let size = u8::try_from(asked.subnet_size).ok().filter(|_| asked.subnet_size <= MAX_SUBNET_SIZE);
    let size =
        size.ok_or_else(|| ApiError::invalid(format!("subnet size is out of range: {}", asked.subnet_size)))?;
    let mut pools: Vec<ipnet::IpNet> = Vec::new();
    for written in asked.default_addr_pool.iter().flatten() {
        let pool: ipnet::IpNet =
            written.parse().map_err(|_| ApiError::invalid(format!("invalid CIDR address: {written}")))?;
        let pool = pool.trunc();
        if size != 0 && size < pool.prefix_len() {
            return Err(ApiError::invalid(format!(
                "invalid CIDR: {written:?}. Subnet size is too small for pool: {size}"
            )));
        }
        if pools.iter().any(|other| other.contains(&pool) || pool.contains(other)) {
            return Err(ApiError::invalid(format!("{written} overlaps with another address pool")));
        }
        pools.push(pool);
    }
    Ok((pools, size))
}

/// The wish to join that a request describes.
pub(crate) fn join(asked: SwarmJoin) -> Result<JoinRequest, ApiError> {
    if asked.remote_addrs.is_empty() {
        return Err(ApiError::invalid("at least 1 RemoteAddr is required to join"));
    }
    Ok(JoinRequest {
        listen: asked.listen_addr,
        advertise: asked.advertise_addr,
        data_path: asked.data_path_addr,
        remotes: asked.remote_addrs,
        token: asked.join_token,
        availability: availability(&asked.availability)?,
    })
}

/// Reads whether a machine takes tasks; nothing said means that it does.
fn availability(written: &str) -> Result<Availability, ApiError> {
    if written.is_empty() { Ok(Availability::Active) } else { named_availability(written) }
}

/// Reads whether a machine takes tasks.
pub(super) fn named_availability(written: &str) -> Result<Availability, ApiError> {
    match written.to_ascii_lowercase().as_str() {
        "active" => Ok(Availability::Active),
        "pause" => Ok(Availability::Pause),
        "drain" => Ok(Availability::Drain),
        _ => Err(ApiError::invalid(format!("invalid Availability: {written:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shoal_types::ClusterId;

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
        crate::json::decode_value(value).unwrap()
    }

    fn cluster(spec: ClusterSpec) -> Cluster {
        let at = "2026-11-21T08:44:01Z".parse().unwrap();
        Cluster {
            id: ClusterId::from_u128(1),
            meta: Meta { version: 7, created: at, updated: at },
            spec,
            trust_root: "PEM".into(),
            issuer_subject: vec![0],
            issuer_public_key: vec![1],
            is_rotating: false,
            address_pools: vec!["10.0.0.0/8".parse().unwrap()],
            subnet_size: 24,
            data_path_port: 4789,
        }
    }

    #[test]
    fn a_bare_cluster_shows_swarms_defaults() {
        let shown = serde_json::to_value(info(&cluster(ClusterSpec::default()))).unwrap();
        assert_eq!(
            shown["Spec"],
            json!({
                "Name": "default", "Labels": {},
                "Orchestration": {"TaskHistoryRetentionLimit": 5},
                "Raft": {"SnapshotInterval": 10000, "KeepOldSnapshots": 0, "LogEntriesForSlowFollowers": 500,
                         "ElectionTick": 10, "HeartbeatTick": 1},
                "Dispatcher": {"HeartbeatPeriod": 5_000_000_000_i64},
                "CAConfig": {"NodeCertExpiry": 7_776_000_000_000_000_i64},
                "TaskDefaults": {},
                "EncryptionConfig": {"AutoLockManagers": false},
            })
        );
        assert_eq!(shown["Version"], json!({"Index": 7}));
        assert_eq!(
            shown["TLSInfo"],
            json!({"TrustRoot": "PEM", "CertIssuerSubject": "AA==", "CertIssuerPublicKey": "AQ=="})
        );
    }

    #[test]
    fn settings_that_are_shown_and_sent_back_stay_as_they_are() {
        let every = json!({
            "Name": "default", "Labels": {"a": "b"},
            "Orchestration": {"TaskHistoryRetentionLimit": 0},
            "Raft": {"SnapshotInterval": 1, "KeepOldSnapshots": 2, "LogEntriesForSlowFollowers": 3,
                     "ElectionTick": 4, "HeartbeatTick": 5},
            "Dispatcher": {"HeartbeatPeriod": 6_000_000_000_i64},
            "CAConfig": {"NodeCertExpiry": 3_600_000_000_000_i64, "ForceRotate": 8,
                         "ExternalCAs": [{"Protocol": "cfssl", "URL": "https://a", "Options": {"o": "p"}, "CACert": "C"}]},
            "TaskDefaults": {"LogDriver": {"Name": "json-file", "Options": {"max-size": "1m"}}},
            "EncryptionConfig": {"AutoLockManagers": true},
        });
        let (read_spec, _) = updated_spec(read(&every)).unwrap();
        assert_eq!(serde_json::to_value(shown_spec(&read_spec)).unwrap(), every);
        let (nothing, signing) = updated_spec(SwarmSpec::default()).unwrap();
        assert_eq!((nothing, signing), (ClusterSpec::default(), None));
    }

    #[test]
    fn certificate_and_key_to_sign_with_are_handed_over_and_never_shown() {
        let asked = json!({"Name": "default", "CAConfig": {"SigningCACert": "C", "SigningCAKey": "K"}});
        let (spec, signing) = updated_spec(read(&asked)).unwrap();
        assert_eq!(signing, Some(SigningAuthority { certificate: "C".into(), key: "K".into() }));
        let shown = serde_json::to_string(&shown_spec(&spec)).unwrap();
        assert!(!shown.contains("SigningCA"), "{shown}");
    }

    #[test]
    fn wrong_settings_are_refused_in_swarms_words() {
        let rpc = |text: &str| format!("rpc error: code = InvalidArgument desc = {text}");
        for (asked, message) in [
            (json!({"Name": "x"}), "swarm spec must be named \"default\"".to_owned()),
            (
                json!({"Name": "default", "CAConfig": {"NodeCertExpiry": 1}}),
                rpc("minimum certificate expiry time is: 1h0m0s"),
            ),
            (
                json!({"Name": "default", "Dispatcher": {"HeartbeatPeriod": -1}}),
                rpc("heartbeat time period cannot be a negative duration"),
            ),
            (
                json!({"Name": "default", "CAConfig": {"SigningCAKey": "K"}}),
                rpc("if a signing CA key is provided, the signing CA cert must also be provided"),
            ),
            (
                json!({"Name": "default", "CAConfig": {"ExternalCAs": [{"Protocol": "x"}]}}),
                "invalid protocol: \"x\"".to_owned(),
            ),
        ] {
            assert_eq!(updated_spec(read(&asked)).unwrap_err().message(), message, "{asked}");
        }
    }

    #[test]
    fn wrong_wishes_for_a_cluster_are_refused_in_dockers_words() {
        for (asked, message) in [
            (json!({"Spec": {"Name": "x"}}), "swarm spec must be named \"default\""),
            (json!({"DataPathPort": 80}), "Datapath port number is not in valid range (1024-49151) : 80"),
            (json!({"SubnetSize": 30}), "subnet size is out of range: 30"),
            (json!({"DefaultAddrPool": ["x"]}), "invalid CIDR address: x"),
            (
                json!({"DefaultAddrPool": ["10.0.0.0/16"], "SubnetSize": 8}),
                "invalid CIDR: \"10.0.0.0/16\". Subnet size is too small for pool: 8",
            ),
            (json!({"Availability": "lazy"}), "invalid Availability: \"lazy\""),
        ] {
            assert_eq!(init(read(&asked)).unwrap_err().message(), message, "{asked}");
        }
        assert_eq!(
            join(SwarmJoin::default()).unwrap_err().message(),
            "at least 1 RemoteAddr is required to join"
        );
    }

    #[test]
    fn a_wish_for_a_cluster_keeps_every_field() {
        let asked = json!({
            "ListenAddr": "l", "AdvertiseAddr": "a", "DataPathAddr": "d", "DataPathPort": 5000,
            "ForceNewCluster": true, "AutoLockManagers": true, "Availability": "drain",
            "DefaultAddrPool": ["10.1.0.0/16"], "SubnetSize": 25, "Spec": {"Labels": {"k": "v"}},
        });
        let request = init(read(&asked)).unwrap();
        assert_eq!((request.listen.as_str(), request.advertise.as_str()), ("l", "a"));
        assert_eq!((request.data_path.as_str(), request.data_path_port), ("d", 5000));
        assert_eq!((request.subnet_size, request.address_pools[0].to_string()), (25, "10.1.0.0/16".into()));
        assert_eq!(request.availability, Availability::Drain);
        assert!(request.force_new_cluster && request.spec.autolock && request.spec.labels["k"] == "v");
    }
}
