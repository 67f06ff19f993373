//! Whatever is sent, the answer is an answer, and what is refused has changed nothing.
//!
//! Start reading at [`sound`]: requests that change something, one for each operation that can. `wrong` makes each of them
//! wrong in every way that the description of the API knows of; `random` sends what nobody would think of. What the engine
//! refuses, once it has been asked, is tested with the engine.
#![cfg(test)]

mod random;
mod wrong;

use std::sync::Arc;

use api_compat::{Api, ApiState, DaemonInfo};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::client::{self, Answer};
use crate::cluster::FakeCluster;
use crate::fake::Fake;
use crate::objects;

/// The id of the one command that there is.
const EXEC: &str = "0909090909090909090909090909090909090909090909090909090909090909";

/// A daemon that can be changed in every way: a manager of a cluster, with experimental features.
struct World {
    api: Api,
    node: Arc<Fake>,
    cluster: Arc<FakeCluster>,
}

impl World {
    fn new() -> Self {
        let node = Fake::with(vec![objects::running("one"), objects::created("two")]);
        let cluster = Arc::new(FakeCluster::default());
        let api = Api::new(ApiState {
            node: node.node(),
            cluster: cluster.ports(),
            builder: Arc::new(builder::Unsupported),
            daemon: DaemonInfo { experimental: true, ..DaemonInfo::default() },
        });
        Self { api, node, cluster }
    }

    /// What has been changed since this was last asked.
    fn take_changes(&self) -> Vec<String> {
        [self.node.take_changes(), self.cluster.take_changes()].concat()
    }

    /// Sends what may be wrong. The daemon has not failed, and if it has refused, it has changed nothing.
    async fn try_out<B>(&self, request: Request<B>, what: &str) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<api_compat::BodyError>,
    {
        let place = format!("{} {}: {what}", request.method(), request.uri());
        let answer = client::send(&self.api, request).await;
        let is_fault = answer.status >= 500 && answer.status != 501 && answer.status != 503;
        assert!(!is_fault, "{place}: {} {}", answer.status, answer.text());
        let changes = self.take_changes();
        if answer.status >= 400 {
            assert!(changes.is_empty(), "{place}: {} {}, but {changes:?}", answer.status, answer.text());
        }
        answer
    }
}

/// A request that changes something.
struct Sound {
    method: &'static str,
    target: String,
    body: Sent,
}

/// What is sent with a request.
enum Sent {
    Nothing,
    Json(Value),
    Archive,
}

impl Sound {
    /// The path, without a query.
    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The body as JSON, if it is.
    fn json(&self) -> Option<&Value> {
        match &self.body {
            Sent::Json(value) => Some(value),
            Sent::Nothing | Sent::Archive => None,
        }
    }

    /// The head of the request, up to the length of its body.
    fn head(&self) -> http::request::Builder {
        self.head_to(&self.target)
    }

    fn head_to(&self, target: &str) -> http::request::Builder {
        let request = Request::builder().method(self.method).uri(target);
        match self.body {
            Sent::Nothing => request,
            Sent::Json(_) => request.header("content-type", "application/json"),
            Sent::Archive => request.header("content-type", "application/x-tar"),
        }
    }

    /// The whole request, for another path or query.
    fn request(&self, target: &str) -> Request<Full<Bytes>> {
        let body = self.bytes();
        self.head_to(target).header("content-length", body.len()).body(Full::from(body)).unwrap()
    }

    /// The bytes of the body.
    fn bytes(&self) -> Vec<u8> {
        match &self.body {
            Sent::Nothing => Vec::new(),
            Sent::Json(value) => serde_json::to_vec(value).unwrap(),
            Sent::Archive => vec![0; 1024],
        }
    }
}

/// Requests that change something: one for each operation that can.
fn sound() -> Vec<Sound> {
    let mut all = of_containers();
    all.extend(of_images_networks_and_volumes());
    all.extend(of_the_cluster());
    all
}

fn plain(method: &'static str, target: impl Into<String>) -> Sound {
    Sound { method, target: target.into(), body: Sent::Nothing }
}

fn with_json(target: impl Into<String>, body: Value) -> Sound {
    Sound { method: "POST", target: target.into(), body: Sent::Json(body) }
}

fn of_containers() -> Vec<Sound> {
    let mut all: Vec<Sound> = ["kill", "pause", "restart", "start", "stop", "unpause"]
        .iter()
        .map(|verb| plain("POST", format!("/containers/one/{verb}")))
        .collect();
    let archive =
        Sound { method: "PUT", target: "/containers/one/archive?path=/".into(), body: Sent::Archive };
    all.extend([
        archive,
        plain("POST", "/containers/one/rename?name=other"),
        plain("POST", "/containers/one/resize?h=24&w=80"),
        plain("POST", "/containers/prune"),
        plain("DELETE", "/containers/one?force=1"),
        plain("DELETE", "/containers/one/checkpoints/first"),
        plain("POST", format!("/exec/{EXEC}/resize?h=24&w=80")),
        with_json("/containers/one/checkpoints", json!({"CheckpointID": "first"})),
        with_json("/containers/one/exec", json!({"Cmd": ["id"], "Env": ["A=b"], "User": "1"})),
        with_json(
            "/containers/one/update",
            json!({"Memory": 7_000_000, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}),
        ),
        with_json("/commit?container=one&repo=new", json!({"Cmd": ["id"]})),
        with_json(format!("/exec/{EXEC}/start"), json!({"Detach": true})),
        with_json(
            "/containers/create?name=new",
            json!({
                "Image": "busybox",
                "Cmd": ["id"],
                "Env": ["A=b"],
                "HostConfig": {"Memory": 7_000_000, "Binds": ["/a:/b"]},
                "NetworkingConfig": {"EndpointsConfig": {"bridge": {}}},
            }),
        ),
    ]);
    all
}

fn of_images_networks_and_volumes() -> Vec<Sound> {
    vec![
        plain("POST", "/images/create?fromImage=busybox&tag=latest"),
        plain("POST", "/images/prune"),
        plain("POST", "/images/busybox/push?tag=latest"),
        plain("POST", "/images/busybox/tag?repo=other&tag=latest"),
        plain("DELETE", "/images/busybox"),
        plain("POST", "/networks/prune"),
        plain("DELETE", "/networks/bridge"),
        with_json(
            "/networks/create",
            json!({"Name": "n", "Driver": "bridge", "IPAM": {"Config": [{"Subnet": "10.1.0.0/16"}]}}),
        ),
        with_json("/networks/net/connect", json!({"Container": "one", "EndpointConfig": {"Aliases": ["a"]}})),
        with_json("/networks/bridge/disconnect", json!({"Container": "one"})),
        plain("POST", "/volumes/prune"),
        plain("DELETE", "/volumes/vol"),
        with_json("/volumes/create", json!({"Name": "vol", "Driver": "local", "Labels": {"a": "b"}})),
    ]
}

fn of_the_cluster() -> Vec<Sound> {
    let service = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "nginx"}}});
    let node = json!({"Role": "manager", "Availability": "active"});
    vec![
        with_json("/swarm/init", json!({"ListenAddr": "0.0.0.0:2377"})),
        with_json("/swarm/join", json!({"RemoteAddrs": ["192.0.2.1:2377"], "JoinToken": "t"})),
        with_json("/swarm/unlock", json!({"UnlockKey": "k"})),
        with_json("/swarm/update?version=10", json!({"Name": "default"})),
        plain("POST", "/swarm/leave?force=1"),
        with_json("/nodes/self/update?version=9", node),
        plain("DELETE", "/nodes/self?force=1"),
        with_json("/services/create", service.clone()),
        with_json("/services/web/update?version=21", service),
        plain("DELETE", "/services/web"),
        with_json("/secrets/create", json!({"Name": "key", "Data": "aGk="})),
        with_json("/secrets/key/update?version=12", json!({"Name": "key", "Labels": {"a": "b"}})),
        plain("DELETE", "/secrets/key"),
        with_json("/configs/create", json!({"Name": "conf", "Data": "aGk="})),
        with_json("/configs/conf/update?version=13", json!({"Name": "conf", "Labels": {"a": "b"}})),
        plain("DELETE", "/configs/conf"),
    ]
}
