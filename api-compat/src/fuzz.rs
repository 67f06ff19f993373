//! What is tried with input from nowhere: bodies, filters, queries, and the frames that go back.
//!
//! Start reading at [`create_bodies`]. The bodies are run by the tests with changed seeds, and by libFuzzer
//! (integration-cli/fuzz/libfuzzer); each panics when something is wrong. What handlers do with hostile requests as a whole is
//! tests/hostile.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use node_agent::api::streams::{LogBatch, LogEntry, LogSource};
use node_agent::containers::host::CgroupVersion;
use serde_json::{Map, Value};
use shoal_types::NetworkId;
use shoal_types::network::{Network, NetworkSpec};

use crate::convert::requested::Requested;
use crate::convert::task_spec::Defaults;
use crate::error::ApiError;
use crate::extract::{Query, parse_integer, parse_unix_time, shape};
use crate::filters::{Filters, parse_go_duration};
use crate::model::container_create::ContainerCreate;
use crate::model::network::NetworkCreate;
use crate::model::service::ServiceSpec;
use crate::model::volume::VolumeCreate;
use crate::stream::logs::{Frames, LineHead, LogWriter};
use crate::version::ApiVersion;
use crate::{compat, convert, json};

/// Versions between which what a body means has changed.
const MINORS: [u16; 7] = [24, 29, 40, 41, 44, 52, 56];

/// Bodies to begin with for [`create_bodies`]: of containers, networks, volumes and services.
pub const CREATE_BODIES: &[&[u8]] = &[
    br#"{"Image":"busybox","Cmd":["a"],"Entrypoint":"b","Env":["A=1","B"],"Labels":{"b":"c"},"ExposedPorts":{"80/tcp":{},"90-95/udp":{}},"Volumes":{"/v":{}},"Healthcheck":{"Test":["CMD","x"],"Interval":1000000000},"StopTimeout":-1,"User":"1:2"}"#,
    br#"{"Image":"x","HostConfig":{"Binds":["/a:/b:ro,z","v:/c:nocopy"],"PortBindings":{"80/tcp":[{"HostIp":"::1","HostPort":"8080-8090"},{"HostPort":""}]},"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},"NetworkMode":"container:x","PidMode":"host","Memory":7000000,"NanoCpus":1500000000,"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}],"Tmpfs":{"/t":"rw,size=64m,mode=1777"},"Dns":["1.2.3.4"],"ExtraHosts":["a:host-gateway"]}}"#,
    br#"{"Image":"x","HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"Propagation":"rslave","CreateMountpoint":true}},{"Type":"volume","Source":"v","Target":"/w","VolumeOptions":{"Subpath":"a/b","DriverConfig":{"Name":"local","Options":{"o":"p"}}}},{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1,"Mode":511,"Options":[["exec"],["uid","5"]]}},{"Type":"image","Source":"i","Target":"/i"}],"SecurityOpt":["no-new-privileges","seccomp=unconfined","label=type:x"],"CapAdd":["ALL"],"Devices":[{"PathOnHost":"/dev/null","PathInContainer":"/dev/x","CgroupPermissions":"rwm"}],"DeviceRequests":[{"Driver":"cdi","DeviceIDs":["a/b=c"]}],"LogConfig":{"Type":"local","Config":{"max-size":"1m"}},"Sysctls":{"net.ipv4.ip_forward":"1"},"BlkioWeightDevice":[{"Path":"/dev/a","Weight":10}]}}"#,
    br#"{"Image":"x","NetworkingConfig":{"EndpointsConfig":{"n":{"IPAMConfig":{"IPv4Address":"10.0.0.5","IPv6Address":"fd00::5","LinkLocalIPs":["169.254.1.1"]},"Links":["a:b"],"Aliases":["c"],"MacAddress":"02:42:ac:11:00:02","DriverOpts":{"a":"b"},"GwPriority":5}}}}"#,
    br#"{"Name":"n","CheckDuplicate":true,"Driver":"bridge","EnableIPv6":true,"IPAM":{"Driver":"default","Options":{"a":"b"},"Config":[{"Subnet":"10.1.0.0/16","IPRange":"10.1.2.0/24","Gateway":"10.1.0.1","AuxiliaryAddresses":{"h":"10.1.0.5"}},{"Subnet":"fd00::/64"}]},"Internal":true,"Options":{"com.docker.network.bridge.name":"b"},"Labels":{"l":"m"}}"#,
    br#"{"Name":"c","Scope":"swarm","ConfigOnly":true,"ConfigFrom":{"Network":"d"},"EnableIPv4":false,"Attachable":true,"Ingress":true}"#,
    br#"{"Name":"v","Driver":"local","DriverOpts":{"type":"tmpfs","o":"size=1m"},"Labels":{"a":"b"},"ClusterVolumeSpec":{"Group":"g"}}"#,
    br#"{"Name":"s","Labels":{"a":"b"},"TaskTemplate":{"ContainerSpec":{"Image":"i:t","Command":["a"],"Args":["b"],"Hostname":"{{.Node.Hostname}}","Env":["A=b"],"Mounts":[{"Type":"volume","Source":"v","Target":"/v","ReadOnly":true}],"Healthcheck":{"Test":["CMD-SHELL","x"],"Interval":1000000000,"Retries":3},"Secrets":[{"File":{"Name":"f","UID":"0","GID":"0","Mode":292},"SecretID":"0123456789abcdefghijklmno","SecretName":"x"}],"DNSConfig":{"Nameservers":["1.1.1.1"]},"StopGracePeriod":5000000000,"Privileges":{"Seccomp":{"Mode":"unconfined"}}},"Resources":{"Limits":{"NanoCPUs":5,"MemoryBytes":7,"Pids":3},"Reservations":{"GenericResources":[{"DiscreteResourceSpec":{"Kind":"gpu","Value":2}}]}},"RestartPolicy":{"Condition":"on-failure","Delay":5,"MaxAttempts":2,"Window":9},"Placement":{"Constraints":["node.role==manager"],"Preferences":[{"Spread":{"SpreadDescriptor":"node.labels.a"}}],"MaxReplicas":2},"Networks":[{"Target":"n","Aliases":["x"]}],"LogDriver":{"Name":"json-file","Options":{"a":"b"}},"ForceUpdate":1}}"#,
    br#"{"Name":"t","TaskTemplate":{"ContainerSpec":{"Image":"i"}},"Mode":{"Replicated":{"Replicas":3}},"UpdateConfig":{"Parallelism":2,"Delay":1,"FailureAction":"rollback","Monitor":7,"MaxFailureRatio":0.5,"Order":"start-first"},"RollbackConfig":{"Order":"stop-first"},"EndpointSpec":{"Mode":"vip","Ports":[{"Protocol":"udp","TargetPort":53,"PublishedPort":5353,"PublishMode":"host"}]}}"#,
];

/// As a wish for a container, a network, a volume or a service, a body is refused as the client's fault, or becomes what the
/// engine takes, which can be told and is understood again as the same.
pub fn create_bodies(input: &[u8]) {
    let Ok(value) = json::parse(input) else { return };
    for minor in MINORS {
        let version = ApiVersion::new(1, minor);
        for made in [
            container(&value, version).err(),
            network(&value, version).err(),
            volume(&value).err(),
            service(&value, version).err(),
        ] {
            let Some(error) = made else { continue };
            let status = error.status();
            assert!(status.is_client_error() || status.as_u16() == 501, "{status} {}", error.message());
            assert!(!error.message().is_empty(), "{status}");
        }
    }
}

fn container(value: &Value, version: ApiVersion) -> Result<(), ApiError> {
    let Some(mut create) = ContainerCreate::from_json(value)? else { return Ok(()) };
    let host = if version.is_below(41) { CgroupVersion::V1 } else { CgroupVersion::V2 };
    compat::container_create::upgrade(&mut create, version, host)?;
    let mut spec = convert::container_create::spec(&create, None)?;
    compat::container_create::upgrade_spec(&mut spec, version);
    let kept = Requested::of(&create);
    let text = kept.to_text().unwrap_or_default();
    assert_eq!(Requested::from_text(&text), kept, "{text}");
    Ok(())
}

fn network(value: &Value, version: ApiVersion) -> Result<(), ApiError> {
    let mut create: NetworkCreate = shape(value)?;
    compat::networks::create(&mut create, version);
    // What nobody has said is told with its default, so the first telling may add to it; the second must not.
    let told = network_as_told(convert::network::spec(create)?);
    assert!(told.is_ok(), "{told:?}");
    if let Ok(told) = told {
        assert_eq!(network_as_told(told.clone()), Ok(told));
    }
    Ok(())
}

/// What a network becomes that is made as this one is shown.
fn network_as_told(spec: NetworkSpec) -> Result<NetworkSpec, ApiError> {
    let network = Network { id: NetworkId::new("n"), spec, created: Timestamp::UNIX_EPOCH };
    let shown = serde_json::to_value(convert::network::shown(&network)).unwrap_or_default();
    convert::network::spec(shape(&shown)?)
}

fn volume(value: &Value) -> Result<(), ApiError> {
    let create: VolumeCreate = shape(value)?;
    let create = VolumeCreate { cluster_volume_spec: None, ..create };
    let told = serde_json::to_value(&create).unwrap_or_default();
    assert_eq!(shape(&told), Ok(create.clone()), "{told}");
    convert::volume::spec(create);
    Ok(())
}

fn service(value: &Value, version: ApiVersion) -> Result<(), ApiError> {
    let mut asked: ServiceSpec = shape(value)?;
    compat::service::asked(&mut asked, version);
    let spec = convert::service::spec(asked)?;
    if let Err(reason) = node_agent::worker::check_templates(&spec) {
        assert!(!reason.is_empty());
    }
    for defaults in [Defaults::Omitted, Defaults::Inserted] {
        let told = serde_json::to_value(convert::service::shown_spec(&spec, defaults)).unwrap_or_default();
        let again = shape(&told).and_then(convert::service::spec);
        assert!(again.is_ok(), "{again:?} of {told}");
        // Defaults that are inserted are asked for from then on.
        if defaults == Defaults::Omitted {
            assert_eq!(again.as_ref(), Ok(&spec), "{told}");
        }
    }
    Ok(())
}

/// Filters and queries to begin with for [`filters`].
pub const FILTERS: &[&[u8]] = &[
    br#"{"label":["a=b","c"],"label!":{"d":true},"dangling":["true"],"until":["1h30m"],"name":["^x$"]}"#,
    br#"{"dangling":{"0":true},"since":["2026-11-21T08:44:02.371720248Z"],"until":["1700000000.5"],"before":null}"#,
    b"all=1&limit=-1&since=1700000000.000000001&filters=%7B%22id%22%3A%5B%22a%22%5D%7D;x=1&t=%c3%a9",
    b"1.5h\n-10m3us\n9223372036854775807ns\n0\n2026-11-21T08\n+1s",
];

/// Filters, queries, durations and times are read or refused as the client's fault; filters that are read can be written in
/// both of their forms, and are read again as the same.
pub fn filters(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let written = Query::parse(&format!("filters={}", encoded(&text)));
    for query in [&Query::parse(&text), &written] {
        assert_fault(query.integer("limit"));
        // Both truths are fine; that they are told is what is tried.
        let _ = (query.flag("all"), query.flag_unless_absent("all"), query.texts("t"));
        match Filters::any(query) {
            Ok(filters) => try_filters(&filters, query.text("filters")),
            Err(error) => assert!(error.status().is_client_error(), "{error:?}"),
        }
    }
    for line in text.lines() {
        assert_fault(parse_unix_time(line));
        // Neither form has to be one.
        let _ = (parse_go_duration(line), parse_integer(line), ApiVersion::parse_lenient(line));
    }
}

fn try_filters(filters: &Filters, text: &str) {
    let Ok(Value::Object(map)) = serde_json::from_str(text) else {
        assert_eq!(filters, &Filters::default(), "{text:?}");
        return;
    };
    let (mut as_lists, mut as_sets) = (Map::new(), Map::new());
    for name in map.keys() {
        assert_eq!(filters.has(name), !filters.get(name).is_empty(), "{name} of {text:?}");
        assert_fault(filters.truth(name));
        assert_fault(filters.each(name, parse_integer));
        assert_eq!(filters.pairs(name).len(), filters.get(name).len());
        let set: Map<String, Value> =
            filters.get(name).into_iter().map(|value| (value, Value::Bool(true))).collect();
        as_lists.insert(name.clone(), filters.get(name).into());
        as_sets.insert(name.clone(), set.into());
    }
    for written in [Value::from(as_lists).to_string(), Value::from(as_sets).to_string()] {
        let again = Filters::any(&Query::parse(&format!("filters={}", encoded(&written))));
        assert_eq!(again.as_ref(), Ok(filters), "{written}");
    }
    assert_fault(filters.until(Timestamp::UNIX_EPOCH));
    assert_fault(filters.earliest_until(Timestamp::MAX));
    assert_eq!(filters.labels().required.len(), filters.get("label").len());
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn assert_fault<T>(read: Result<T, ApiError>) {
    if let Err(error) = read {
        assert!(error.status().is_client_error() && !error.message().is_empty(), "{error:?}");
    }
}

/// Logs to begin with for [`stdcopy`]: the first byte chooses how, then each entry's first byte tells its stream and length.
pub const LOGS: &[&[u8]] = &[
    b"\0\x05hello\x86world\n\x00",
    b"\x07\x03a\nb\x83\xff\xfe\xfd",
    b"\x02\x44abcd\x44efgh\x44",
    b"\x1b",
    b"\x04\x02x\n\x81y",
];

/// Length of the head of a frame.
const HEAD: usize = 8;

/// Whatever a log holds, the frames of a client hold all of it, in order, stream by stream, and nothing else; with a terminal
/// there are no frames, and the bytes are those of the log.
pub fn stdcopy(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let head = LineHead { timestamps: choice & 1 != 0, details: choice & 8 != 0 };
    let frames = if choice & 2 != 0 { Frames::Joined } else { Frames::PerEntry };
    let is_terminal = choice & 4 != 0;
    let place = if choice & 16 != 0 { Place::Apart } else { Place::Together };
    let batch = batch_of(rest, place);
    let written = LogWriter::new(is_terminal, frames, head).write(&batch);
    if is_terminal {
        if head == LineHead::default() {
            assert_eq!(written, of_source(&batch, None));
        }
        return;
    }
    let (mut streams, mut n_frames) = (BTreeMap::<u8, Vec<u8>>::new(), 0);
    let mut rest = &written[..];
    while !rest.is_empty() {
        let (head, after) = rest.split_at_checked(HEAD).unwrap_or((rest, &[]));
        let [stream @ 1..=2, 0, 0, 0, a, b, c, d] = *head else {
            assert!(head.is_empty(), "{head:?} is no head of a frame");
            return;
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        assert!(length <= after.len(), "a frame of {length} bytes, of which {} are there", after.len());
        let (content, after) = after.split_at(length);
        streams.entry(stream).or_default().extend_from_slice(content);
        (rest, n_frames) = (after, n_frames + 1);
    }
    match frames {
        Frames::PerEntry => assert_eq!(n_frames, batch.entries.len()),
        Frames::Joined => assert!(n_frames <= batch.entries.len()),
    }
    for (stream, source) in [(1, LogSource::Stdout), (2, LogSource::Stderr)] {
        let found = streams.remove(&stream).unwrap_or_default();
        let expected = of_source(&batch, Some(source));
        if head == LineHead::default() {
            assert_eq!(found, expected);
        } else {
            assert!(found.len() >= expected.len());
        }
    }
}

/// What a log holds of one stream, or of both.
fn of_source(batch: &LogBatch, source: Option<LogSource>) -> Vec<u8> {
    let entries = batch.entries.iter().filter(|entry| source.is_none_or(|source| entry.source == source));
    entries.flat_map(|entry| batch.data.get(entry.start..entry.end).unwrap_or_default()).copied().collect()
}

/// Entries whose bytes follow each other, as a reader of a log hands them on, or lie apart.
fn batch_of(bytes: &[u8], place: Place) -> LogBatch {
    let attributes: Arc<[(String, String)]> = Arc::new([("k".to_owned(), "a b,c=d".to_owned())]);
    let (mut batch, mut data, mut rest) = (LogBatch::default(), Vec::new(), bytes);
    while let Some((&first, after)) = rest.split_first() {
        let (line, after) = after.split_at(usize::from(first & 0x7f).min(after.len()));
        if place == Place::Apart {
            data.push(first);
        }
        let start = data.len();
        // Long enough, at times, for a frame to be full.
        data.extend_from_slice(&line.repeat(if first & 0x40 == 0 { 1 } else { 100 }));
        let source = if first & 0x80 == 0 { LogSource::Stdout } else { LogSource::Stderr };
        let time = Timestamp::from_second(i64::from(first)).unwrap_or(Timestamp::UNIX_EPOCH);
        let attributes = Arc::clone(&attributes);
        batch.entries.push(LogEntry { start, end: data.len(), source, time, attributes });
        rest = after;
    }
    LogBatch { data: data.into(), ..batch }
}

/// Where the bytes of entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Each behind the one before.
    Together,
    /// With something between.
    Apart,
}

#[cfg(test)]
fuzz_harness::explored! {
    bodies_are_taken_or_refused: create_bodies(CREATE_BODIES);
    filters_are_taken_or_refused: filters(FILTERS);
    frames_hold_the_log: stdcopy(LOGS);
}
