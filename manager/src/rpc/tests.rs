//! A listener and clients over loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shoal_types::cluster::node::NodeRole;
use shoal_types::{ClusterId, ErrorKind, NodeId};
use tokio::sync::mpsc;

use super::client::{CallAs, RpcClient};
use super::lines::{JsonLines, encode_line};
use super::server::{Call, Listener, Reply, Service};
use super::tls;
use crate::ca::authority::{Authority, Subject, generate_request};
use crate::ca::{Credentials, Issued};
use crate::error::ClusterError;

const LIMIT: Duration = Duration::from_secs(60);

/// Answers who calls; `/count` counts to what was asked; `/refuse` refuses.
struct Echo;

#[async_trait]
impl Service for Echo {
    async fn serve(&self, call: Call) -> Result<Reply, ClusterError> {
        match call.path.as_str() {
            "/who" => Reply::json(&call.peer.certificate.map(|certificate| certificate.node)),
            "/count" => {
                let up_to: u32 = call.json().await?;
                let (to, pieces) = mpsc::channel(1);
                tokio::spawn(async move {
                    for value in 0..up_to {
                        if to.send(encode_line(&value).unwrap()).await.is_err() {
                            return;
                        }
                    }
                });
                Ok(Reply::Stream(pieces))
            }
            _ => Err(ClusterError::refused(ErrorKind::Forbidden, "not here")),
        }
    }
}

struct World {
    authority: Root,
    cluster: ClusterId,
    _dir: tempfile::TempDir,
    listener: Listener,
    address: SocketAddr,
}

impl World {
    async fn new() -> Self {
        let (certificate, key) = Authority::generate().unwrap();
        let authority = Root::from_pem(&certificate, &key);
        let dir = tempfile::tempdir().unwrap();
        let cluster = ClusterId::random();
        let manager = credentials(&authority, dir.path(), cluster, NodeRole::Manager);
        let (listener, socket) = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        listener.serve(socket, manager, Arc::new(Echo));
        let address = listener.address();
        Self { authority, cluster, _dir: dir, listener, address }
    }
}

/// An authority and its certificate.
struct Root {
    authority: Authority,
    certificate: String,
}

impl Root {
    fn from_pem(certificate: &str, key: &str) -> Self {
        let authority = Authority::from_pem(certificate, key).unwrap();
        Self { authority, certificate: certificate.to_owned() }
    }
}

fn credentials(root: &Root, dir: &std::path::Path, cluster: ClusterId, role: NodeRole) -> Arc<Credentials> {
    let (key, request) = generate_request().unwrap();
    let subject = Subject { node: NodeId::random(), role, cluster };
    let certificate = root.authority.issue(&request, subject, Duration::from_secs(7200)).unwrap();
    let issued = Issued { certificate, key, trust_root: root.certificate.clone() };
    Credentials::create(&dir.join(subject.node.to_string()), issued).unwrap()
}

#[tokio::test]
async fn a_node_is_known_by_its_certificate_and_nobody_by_none() {
    let world = World::new().await;
    let worker = credentials(&world.authority, world._dir.path(), world.cluster, NodeRole::Worker);
    let client = RpcClient::new(CallAs::Node(Arc::clone(&worker)));
    let who: Option<NodeId> = client.call(world.address, "/who", &(), LIMIT).await.unwrap();
    assert_eq!(who, Some(worker.node_id()));
    let anybody = tls::anonymous_client(&world.authority.certificate).unwrap();
    let client = RpcClient::new(CallAs::Anybody(anybody));
    let who: Option<NodeId> = client.call(world.address, "/who", &(), LIMIT).await.unwrap();
    assert_eq!(who, None);
    world.listener.stop().await;
}

#[tokio::test]
async fn neither_side_believes_another_authority() {
    let world = World::new().await;
    let (certificate, key) = Authority::generate().unwrap();
    let other = Root::from_pem(&certificate, &key);
    // Trusts the other authority and is certified by it.
    let stranger = credentials(&other, world._dir.path(), world.cluster, NodeRole::Manager);
    let client = RpcClient::new(CallAs::Node(Arc::clone(&stranger)));
    let refused = client.call::<_, Option<NodeId>>(world.address, "/who", &(), LIMIT).await;
    assert!(matches!(refused, Err(ClusterError::Unreachable(_))), "{refused:?}");
    // Trusts the right one but is certified by the other.
    stranger.trust(world.authority.certificate.clone()).await.unwrap();
    let refused = client.call::<_, Option<NodeId>>(world.address, "/who", &(), LIMIT).await;
    assert!(matches!(refused, Err(ClusterError::Unreachable(_))), "{refused:?}");
    world.listener.stop().await;
}

#[tokio::test]
async fn a_worker_cannot_pose_as_a_manager() {
    let world = World::new().await;
    let worker = credentials(&world.authority, world._dir.path(), world.cluster, NodeRole::Worker);
    let (listener, socket) = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    listener.serve(socket, Arc::clone(&worker), Arc::new(Echo));
    let client = RpcClient::new(CallAs::Node(worker));
    let refused = client.call::<_, Option<NodeId>>(listener.address(), "/who", &(), LIMIT).await;
    assert!(matches!(refused, Err(ClusterError::Unreachable(_))), "{refused:?}");
    listener.stop().await;
    world.listener.stop().await;
}

#[tokio::test]
async fn streams_arrive_in_order_and_end() {
    let world = World::new().await;
    let client = RpcClient::new(CallAs::Anybody(tls::unverified_client().unwrap()));
    let mut lines = JsonLines::new(client.open(world.address, "/count", &1000, LIMIT).await.unwrap());
    for expected in 0..1000u32 {
        assert_eq!(lines.next::<u32>().await.unwrap().unwrap(), expected);
    }
    assert!(lines.next::<u32>().await.is_none());
    world.listener.stop().await;
}

#[tokio::test]
async fn refusals_keep_kind_and_text_and_a_stopped_listener_is_unreachable() {
    let world = World::new().await;
    let client = RpcClient::new(CallAs::Anybody(tls::unverified_client().unwrap()));
    let refused = client.call::<_, ()>(world.address, "/refuse", &(), LIMIT).await.unwrap_err();
    assert_eq!((refused.kind(), refused.to_string().as_str()), (ErrorKind::Forbidden, "not here"));
    world.listener.stop().await;
    let gone = client.call::<_, ()>(world.address, "/who", &(), LIMIT).await.unwrap_err();
    assert!(matches!(gone, ClusterError::Unreachable(_)), "{gone:?}");
}
