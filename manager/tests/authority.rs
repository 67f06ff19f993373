//! The cluster's authority: exchanged while nodes go on, signing from outside, and certificates that have expired.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use manager::api::membership::{Rotation, SigningAuthority};
use manager::ca::Credentials;
use manager::node::ManagerNode;
use manager::worker_client::WorkerClient;
use shoal_types::cluster::settings::{Cluster, ClusterSpec, ExternalAuthority};
use shoal_types::protocol::SessionEvent;
use tokio_util::task::AbortOnDropHandle;

use crate::cfssl::{Cfssl, authority};
use crate::world::{LIMIT, World, eventually, ports, request, tokens};

/// A node that does what the leader says of its certificate, and nothing else.
fn live(client: WorkerClient, hostname: &'static str) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let Ok(mut session) = client.open_session(request(hostname)).await else {
                // A session that is refused may be had in a while.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            while let Some(Ok(event)) = session.next().await {
                if matches!(&event, SessionEvent::Session(message) if message.renew) {
                    client.renew().await.unwrap();
                }
            }
        }
    }))
}

fn live_manager(manager: &ManagerNode, hostname: &'static str) -> AbortOnDropHandle<()> {
    live(WorkerClient::new(manager.credentials(), vec![manager.address()]), hostname)
}

async fn update(
    manager: &ManagerNode,
    edit: impl FnOnce(&mut ClusterSpec),
    signing: Option<SigningAuthority>,
) -> Result<(), manager::ClusterError> {
    let (mut cluster, _) = manager.inspect().await.unwrap();
    edit(&mut cluster.spec);
    manager.update(cluster.meta.version, cluster.spec, Rotation { signing, ..Rotation::default() }).await
}

/// Waits until the exchange is over and every node has arrived.
async fn settled(manager: &ManagerNode, before: &Cluster) -> Cluster {
    eventually("the authority is exchanged on every node", || async {
        let (now, _) = manager.inspect().await.unwrap();
        let nodes = ports(manager).nodes.list(Default::default()).await.unwrap();
        let has_arrived = |node: &shoal_types::cluster::node::Node| {
            node.description.as_ref().is_some_and(|described| {
                described.tls.trust_root == now.trust_root
                    && described.tls.issuer_public_key == now.issuer_public_key
            })
        };
        !now.is_rotating && now.trust_root != before.trust_root && nodes.iter().all(has_arrived)
    })
    .await;
    manager.inspect().await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_is_exchanged_while_nodes_go_on_and_tokens_follow() {
    let world = World::new();
    let one = world.init("one").await;
    let two = world.join("two", &one).await;
    let worker = world.worker("worker", &one).await;
    let (before, old_tokens) = one.inspect().await.unwrap();
    let _managers = (live_manager(&one, "one"), live_manager(&two, "two"));
    update(&one, |spec| spec.rotate_authority += 1, None).await.unwrap();
    let (during, _) = two.inspect().await.unwrap();
    assert!(during.is_rotating && during.trust_root == before.trust_root);
    assert_ne!(during.issuer_public_key, before.issuer_public_key, "what clients wait for");
    // It holds everything up as long as it is away; others may join meanwhile.
    let late = world.worker("late", &two).await;
    let _late = live(late, "late");
    let _worker = live(worker, "worker");
    let after = settled(&one, &before).await;
    let now = tokens(&two).await;
    assert!(now.worker != old_tokens.worker && now.worker[..60] != old_tokens.worker[..60]);
    let refused = world.enrol("stranger", &old_tokens.worker, &[one.address()]).await.unwrap_err();
    assert!(refused.to_string().contains("does not match fingerprint"), "{refused}");
    let joined = world.worker("joined", &one).await;
    let _joined = live(joined, "joined");
    // With a certificate and key of the administrator's, and back again on the way.
    let (given, other) = (authority(), authority());
    update(&two, |_| {}, Some(other.clone())).await.unwrap();
    update(&two, |_| {}, Some(given.clone())).await.unwrap();
    let last = settled(&two, &after).await;
    assert_eq!(last.trust_root, given.certificate);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_first_word_is_another_authority_makes_room_for_one_that_says_so() {
    let world = World::new();
    let one = world.init("one").await;
    let worker = world.worker("worker", &one).await;
    let (before, _) = one.inspect().await.unwrap();
    let _one = live_manager(&one, "one");
    worker.open_session(request("worker")).await.unwrap();
    update(&one, |spec| spec.rotate_authority += 1, None).await.unwrap();
    worker.renew().await.unwrap();
    // The node as it is now: with the certificate of the new authority, and trusting the former one.
    let before_the_end = Credentials::load(&world.config("worker").certificates(), None).unwrap().unwrap();
    worker.open_session(request("worker")).await.unwrap();
    eventually("the new authority has taken over", || async {
        let (now, _) = one.inspect().await.unwrap();
        !now.is_rotating && now.trust_root != before.trust_root
    })
    .await;
    let worker = WorkerClient::new(before_the_end, vec![one.address()]);
    let mut session = worker.open_session(request("worker")).await.unwrap();
    let handle = session.handle();
    let alive = async {
        while let Ok(pause) = handle.heartbeat().await {
            // A node speaks in the rhythm that it was told.
            tokio::time::sleep(pause / 2).await;
        }
    };
    let ended = async { while session.next().await.is_some() {} };
    tokio::select! {
        () = ended => {}
        () = alive => panic!("the leader has ended it"),
        // That nothing comes can only be waited for.
        () = tokio::time::sleep(LIMIT) => panic!("it goes on, and the leader knows of the former authority"),
    }
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_outside_the_cluster_signs_for_it() {
    let world = World::new();
    let one = world.init("one").await;
    let (before, _) = one.inspect().await.unwrap();
    let _one = live_manager(&one, "one");
    let outside = Cfssl::start().await;
    let certificate = outside.certificate();
    let signing = SigningAuthority { certificate: certificate.clone(), key: String::new() };
    let refused = update(&one, |_| {}, Some(signing.clone())).await.unwrap_err();
    assert!(refused.to_string().contains("at least one valid, reachable external CA"), "{refused}");
    let named = named(&outside);
    let hand_over = |spec: &mut ClusterSpec| spec.external_authorities = vec![named];
    update(&one, hand_over, Some(signing)).await.unwrap();
    let after = settled(&one, &before).await;
    assert_eq!(after.trust_root, certificate);
    let signed = outside.n_signed();
    let _worker = live(world.worker("worker", &one).await, "worker");
    assert!(outside.n_signed() > signed);
    // Back to an authority of its own: the one outside signs its certificate.
    let home = |spec: &mut ClusterSpec| spec.rotate_authority += 1;
    update(&one, home, None).await.unwrap();
    settled(&one, &after).await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_begins_with_an_authority_outside_is_handed_over_to_it_at_once() {
    let world = World::new();
    let outside = Cfssl::start().await;
    let signing = SigningAuthority { certificate: outside.certificate(), key: String::new() };
    let spec = ClusterSpec::default();
    let refused = world.try_init("nobody", spec.clone(), Some(signing.clone())).await.unwrap_err();
    assert!(refused.to_string().contains("at least one valid, reachable external CA"), "{refused}");
    let spec = ClusterSpec { external_authorities: vec![named(&outside)], ..spec };
    let one = world.try_init("one", spec, Some(signing)).await.unwrap();
    let (before, interim) = one.inspect().await.unwrap();
    assert!(before.is_rotating, "nobody has renewed yet");
    let _one = live_manager(&one, "one");
    let after = settled(&one, &before).await;
    assert_eq!(after.trust_root, outside.certificate());
    let now = tokens(&one).await;
    assert_ne!(now.worker, interim.worker, "tokens name the authority");
    let signed = outside.n_signed();
    let _worker = live(world.worker("worker", &one).await, "worker");
    assert!(outside.n_signed() > signed);
    // Who gets no certificate leaves nothing behind, however often it tries.
    let nodes = || async { ports(&one).nodes.list(Default::default()).await.unwrap().len() };
    let n_nodes = nodes().await;
    drop(outside);
    world.enrol("nobody", &now.worker, &[one.address()]).await.unwrap_err();
    assert_eq!(nodes().await, n_nodes);
    one.stop().await;
}

fn named(outside: &Cfssl) -> ExternalAuthority {
    ExternalAuthority {
        protocol: "cfssl".to_owned(),
        url: outside.url(),
        certificate: outside.certificate(),
        options: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_whose_certificates_have_expired_come_back_by_their_keys() {
    let world = World::new();
    let short = ClusterSpec { certificate_life: Duration::from_secs(1), ..ClusterSpec::default() };
    let one = world.init_with("one", short).await;
    let token = tokens(&one).await.worker;
    let worker = world.enrol("worker", &token, &[one.address()]).await.unwrap();
    update(&one, |spec| spec.certificate_life = Duration::from_secs(7200), None).await.unwrap();
    let address = one.address();
    one.stop().await;
    drop(one);
    let certificates = world.config("one").certificates();
    let is_expired = |credentials: &Arc<Credentials>| {
        let credentials = Arc::clone(credentials);
        async move { credentials.is_expired() }
    };
    let manager = Credentials::load(&certificates, None).unwrap().unwrap();
    eventually("the worker's certificate expires", || is_expired(&worker)).await;
    eventually("the manager's certificate expires", || is_expired(&manager)).await;
    let one = ManagerNode::start(world.config_at("one", address), manager).await.unwrap();
    eventually("the manager renews its own", || async { !one.credentials().is_expired() }).await;
    let client = WorkerClient::new(Arc::clone(&worker), vec![address]);
    let _live = live(client, "worker");
    eventually("the worker's certificate is renewed", || async { !worker.is_expired() }).await;
    one.stop().await;
}
