//! Groups of several members.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use shoal_types::cluster::node::NodeRole;
use shoal_types::cluster::settings::RaftSettings;
use shoal_types::{ClusterId, NodeId, ServiceId};

use super::super::{Group, GroupConfig, Leadership, Member};
use crate::ca::authority::{Authority, Subject, generate_request};
use crate::ca::{Credentials, Issued};
use crate::error::ClusterError;
use crate::fixtures;
use crate::rpc::client::{CallAs, RpcClient};
use crate::rpc::paths;
use crate::rpc::server::{Call, Listener, Reply, Service};
use crate::store::{Change, Store};

const LIMIT: Duration = Duration::from_secs(60);

/// Pairs of nodes of which the second does not hear the first.
type Cuts = Arc<Mutex<HashSet<(NodeId, NodeId)>>>;

/// Messages larger than this take [`LONG`] to a slow member: longer than a leader may be silent or unanswered.
const LARGE: u64 = 16 << 10;
const LONG: Duration = Duration::from_secs(3);

struct World {
    authority: Authority,
    trust_root: String,
    cluster: ClusterId,
    dir: tempfile::TempDir,
    cuts: Cuts,
    is_slow: bool,
    raft: RaftSettings,
}

struct MemberNode {
    group: Arc<Group>,
    listener: Listener,
    credentials: Arc<Credentials>,
    address: SocketAddr,
}

/// Answers as a manager does, unless the caller is cut off.
struct Gate {
    group: Arc<Group>,
    me: NodeId,
    cuts: Cuts,
    is_slow: bool,
}

#[async_trait]
impl Service for Gate {
    async fn serve(&self, call: Call) -> Result<Reply, ClusterError> {
        let caller = call.peer.certificate.unwrap().node;
        if self.cuts.lock().unwrap().contains(&(caller, self.me)) {
            return Err(ClusterError::Unreachable("cut".to_owned()));
        }
        if call.path == paths::HEALTH {
            return Reply::json(&self.me);
        }
        if self.is_slow && hyper::body::Body::size_hint(&call.body).lower() > LARGE {
            // The way itself, which takes its time.
            tokio::time::sleep(LONG).await;
        }
        self.group.serve(call).await.unwrap()
    }
}

impl World {
    fn new() -> Self {
        let (certificate, key) = Authority::generate().unwrap();
        Self {
            authority: Authority::from_pem(&certificate, &key).unwrap(),
            trust_root: certificate,
            cluster: ClusterId::random(),
            dir: tempfile::tempdir().unwrap(),
            cuts: Cuts::default(),
            is_slow: false,
            raft: RaftSettings::default(),
        }
    }

    fn credentials(&self) -> Arc<Credentials> {
        let (key, request) = generate_request().unwrap();
        let subject = Subject { node: NodeId::random(), role: NodeRole::Manager, cluster: self.cluster };
        let certificate = self.authority.issue(&request, subject, Duration::from_secs(7200)).unwrap();
        let issued = Issued { certificate, key, trust_root: self.trust_root.clone() };
        Credentials::create(&self.dir.path().join(subject.node.to_string()), issued).unwrap()
    }

    async fn start(&self, credentials: Arc<Credentials>, address: Option<SocketAddr>) -> MemberNode {
        let address = address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
        let (listener, socket) = Listener::bind(address).await.unwrap();
        let (node, address) = (credentials.node_id(), listener.address());
        let client = Arc::new(RpcClient::new(CallAs::Node(Arc::clone(&credentials))));
        let config = GroupConfig {
            directory: self.dir.path().join(node.to_string()).join("manager"),
            keys: credentials.store_keys().await.unwrap(),
            me: Member { node, address },
        };
        let group = Group::open(config, client).await.unwrap();
        let (cuts, is_slow) = (Arc::clone(&self.cuts), self.is_slow);
        let gate = Gate { group: Arc::clone(&group), me: node, cuts, is_slow };
        listener.serve(socket, Arc::clone(&credentials), Arc::new(gate));
        MemberNode { group, listener, credentials, address }
    }

    /// A group of so many members, the first of which leads.
    async fn group(&self, n_members: usize) -> Vec<MemberNode> {
        let mut members = vec![self.start(self.credentials(), None).await];
        let mut cluster = fixtures::cluster();
        cluster.spec.raft = self.raft;
        members[0].group.begin(vec![Change::Create(cluster.into())]).await.unwrap();
        for _ in 1..n_members {
            let joining = self.start(self.credentials(), None).await;
            let member = Member { node: joining.credentials.node_id(), address: joining.address };
            members[0].group.add_member(joining.group.id(), member).await.unwrap();
            members.push(joining);
        }
        members
    }

    /// Nothing passes between `one` and anybody else any more, or does again.
    fn isolate(&self, one: &MemberNode, members: &[MemberNode], is_cut: bool) {
        let mut cuts = self.cuts.lock().unwrap();
        let one = one.credentials.node_id();
        for other in members.iter().map(|member| member.credentials.node_id()).filter(|other| *other != one) {
            for pair in [(one, other), (other, one)] {
                if is_cut {
                    cuts.insert(pair)
                } else {
                    cuts.remove(&pair)
                };
            }
        }
    }
}

impl MemberNode {
    fn is_leading(&self) -> bool {
        matches!(*self.group.leadership().borrow(), Leadership::Here(_))
    }

    fn has(&self, service: u128) -> bool {
        self.group.snapshot().service(ServiceId::from_u128(service)).is_some()
    }

    /// As kill -9: nothing is handed over or flushed.
    async fn kill(self) -> (Arc<Credentials>, SocketAddr) {
        in_time("the listener ends", self.listener.stop()).await;
        self.group.stop.cancel();
        self.group.tasks.close();
        in_time("the member's tasks end", self.group.tasks.wait()).await;
        in_time("raft ends", self.group.raft.shutdown()).await.unwrap();
        in_time("the database is closed", self.group.disk.close()).await.unwrap();
        (self.credentials, self.address)
    }

    async fn stop(self) -> (Arc<Credentials>, SocketAddr) {
        in_time("the member ends", self.group.shut_down()).await;
        in_time("the listener ends", self.listener.stop()).await;
        (self.credentials, self.address)
    }
}

fn create(service: u128) -> Vec<Change> {
    vec![Change::Create(fixtures::service(service, 1).into())]
}

/// Nothing here may wait for ever: what does not end says what it was.
async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {LIMIT:?} in vain until {what}"),
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LIMIT, async {
        while !holds() {
            // What is waited for is looked at from outside, and has no signal.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

async fn wait_for_leader(members: &[MemberNode]) -> usize {
    let mut leader = None;
    eventually("somebody leads", || {
        leader = members.iter().position(MemberNode::is_leading);
        leader.is_some()
    })
    .await;
    leader.unwrap()
}

/// Commits with whoever leads, again until it was done once.
async fn commit(members: &[MemberNode], service: u128) -> usize {
    let committed = async {
        loop {
            let leader = wait_for_leader(members).await;
            match members[leader].group.commit(create(service)).await {
                Ok(_) | Err(ClusterError::Conflict(_)) => return leader,
                // An election tells nobody when it will have ended.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    in_time("somebody has committed", committed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_on_every_member_and_survives_a_restart_of_all() {
    let world = World::new();
    let members = world.group(3).await;
    for service in 1..=20 {
        members[0].group.commit(create(service)).await.unwrap();
    }
    for member in &members {
        eventually("every member has it", || member.has(20)).await;
    }
    let mut stopped = Vec::new();
    for member in members {
        stopped.push(member.kill().await);
    }
    let mut members = Vec::new();
    for (credentials, address) in stopped {
        members.push(world.start(credentials, Some(address)).await);
    }
    let leader = wait_for_leader(&members).await;
    members[leader].group.read_barrier().await.unwrap();
    assert!((1..=20).all(|service| members[leader].has(service)));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_leads_within_seconds_of_a_leaders_death_and_nothing_acknowledged_is_lost() {
    let world = World::new();
    let mut members = world.group(3).await;
    for service in 1..=10 {
        members[0].group.commit(create(service)).await.unwrap();
    }
    let (credentials, address) = members.remove(0).kill().await;
    let begun = std::time::Instant::now();
    commit(&members, 11).await;
    let failover = begun.elapsed();
    println!("writes went on {failover:?} after the leader's death");
    let leader = wait_for_leader(&members).await;
    assert!((1..=11).all(|service| members[leader].has(service)));
    members.push(world.start(credentials, Some(address)).await);
    eventually("the old leader has caught up", || members[2].has(11)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_majority_refuses_and_follows_when_it_returns() {
    let world = World::new();
    let members = world.group(3).await;
    world.isolate(&members[0], &members, true);
    eventually("the old leader steps back", || !members[0].is_leading()).await;
    let refused = members[0].group.commit(create(1)).await.unwrap_err();
    assert!(matches!(refused, ClusterError::NoLeader), "{refused:?}");
    assert!(members[0].group.read_barrier().await.is_err());
    commit(&members[1..], 2).await;
    world.isolate(&members[0], &members, false);
    eventually("the old leader has what was committed without it", || members[0].has(2)).await;
    assert!(!members[0].has(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_comes_and_goes_does_not_disturb_the_leader() {
    let world = World::new();
    let members = world.group(3).await;
    // A machine that does not run the others for a second makes them elect anew whatever the third does, but not every time.
    let mut undisturbed = false;
    for _ in 0..5 {
        let term = members[0].group.metrics().current_term;
        world.isolate(&members[2], &members, true);
        eventually("it hears no leader", || members[2].group.silence() > Duration::from_millis(2500)).await;
        world.isolate(&members[2], &members, false);
        eventually("it hears the leader", || members[2].group.silence() < Duration::from_millis(500)).await;
        undisturbed = members[0].group.metrics().current_term == term;
        if undisturbed {
            break;
        }
    }
    assert!(undisturbed, "its return has brought about an election every time");
    commit(&members, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_of_the_leader_costs_no_election_timeout() {
    let world = World::new();
    let mut members = world.group(3).await;
    let leader = members.remove(0);
    let begun = std::time::Instant::now();
    let stopping = tokio::spawn(leader.stop());
    eventually("another leads", || members.iter().any(MemberNode::is_leading)).await;
    println!("another led {:?} after the stop", begun.elapsed());
    commit(&members, 1).await;
    in_time("the old leader has ended", stopping).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lags_behind_the_log_is_sent_a_snapshot() {
    let raft =
        RaftSettings { snapshot_interval: 50, entries_for_slow_followers: 10, ..RaftSettings::default() };
    let world = World { raft, ..World::new() };
    let mut members = world.group(3).await;
    let (credentials, address) = members.remove(2).kill().await;
    for service in 1..=300 {
        members[0].group.commit(create(service)).await.unwrap();
    }
    eventually("the log was shortened", || {
        members[0].group.metrics().purged.is_some_and(|purged| purged.index > 200)
    })
    .await;
    let late = world.start(Arc::clone(&credentials), Some(address)).await;
    eventually("the late member has everything", || (1..=300).all(|service| late.has(service))).await;
    let (credentials, address) = late.kill().await;
    let again = world.start(credentials, Some(address)).await;
    assert!((1..=250).all(|service| again.has(service)), "and still has it after a restart");
    members.push(again);
    let newcomer = world.start(world.credentials(), None).await;
    let member = Member { node: newcomer.credentials.node_id(), address: newcomer.address };
    members[0].group.add_member(newcomer.group.id(), member).await.unwrap();
    eventually("the newcomer has everything", || (1..=300).all(|service| newcomer.has(service))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_long_to_arrive_arrives_and_costs_no_leader() {
    let mut world = World::new();
    world.is_slow = true;
    let members = world.group(3).await;
    let term = *members[0].group.leadership().borrow();
    let mut losses = members[0].group.leadership();
    let mut large = fixtures::service(1, 1);
    large.spec.labels.insert("large".into(), "x".repeat(64 << 10));
    let changes = vec![Change::Create(large.into())];
    in_time("it is committed", members[0].group.commit(changes)).await.unwrap();
    assert_eq!(*losses.borrow_and_update(), term, "it leads on");
    eventually("everybody has it", || members.iter().all(|member| member.has(1))).await;
    in_time("what follows is committed", members[0].group.commit(create(2))).await.unwrap();
    eventually("and has that", || members.iter().all(|member| member.has(2))).await;
    for member in members {
        member.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_learns_of_it_and_the_others_go_on() {
    let world = World::new();
    let members = world.group(3).await;
    let gone = members[2].credentials.node_id();
    members[0].group.remove_member(gone).await.unwrap();
    members[0].group.remove_member(gone).await.unwrap();
    assert_eq!(members[0].group.members().len(), 2);
    let mut removed = members[2].group.removed();
    tokio::time::timeout(LIMIT, removed.wait_for(|removed| *removed)).await.unwrap().unwrap();
    members[0].group.commit(create(1)).await.unwrap();
    let last = members[0].credentials.node_id();
    members[0].group.remove_member(members[1].credentials.node_id()).await.unwrap();
    let refused = members[0].group.remove_member(last).await.unwrap_err();
    assert!(refused.to_string().contains("last manager"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_of_a_lost_majority_goes_on_alone_when_forced() {
    let world = World::new();
    let mut members = world.group(3).await;
    for service in 1..=5 {
        members[0].group.commit(create(service)).await.unwrap();
    }
    eventually("the last member has it", || members[2].has(5)).await;
    let survivor = members.remove(2);
    for member in members {
        member.kill().await;
    }
    let (credentials, address) = survivor.kill().await;
    let directory = world.dir.path().join(credentials.node_id().to_string()).join("manager");
    let me = Member { node: credentials.node_id(), address };
    for _ in 0..2 {
        let keys = credentials.store_keys().await.unwrap();
        Group::make_alone(directory.clone(), keys, me.clone()).await.unwrap();
    }
    let alone = world.start(credentials, Some(address)).await;
    eventually("it leads", || alone.is_leading()).await;
    alone.group.commit(create(6)).await.unwrap();
    assert!((1..=6).all(|service| alone.has(service)));
    assert_eq!(alone.group.members().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_store_is_exchanged_while_it_is_written() {
    let world = World::new();
    let mut members = world.group(1).await;
    let member = members.remove(0);
    let group = Arc::clone(&member.group);
    let writing = tokio::spawn(async move {
        for service in 1..=100 {
            group.commit(create(service)).await.unwrap();
        }
    });
    let credentials = Arc::clone(&member.credentials);
    for _ in 0..3 {
        let keys = credentials.draw_store_key().await.unwrap();
        member.group.change_key(keys.current).await.unwrap();
        credentials.forget_former_store_key().await.unwrap();
    }
    in_time("everything is written", writing).await.unwrap();
    // As if the daemon had ended before it was carried out: what is there opens with the former key.
    credentials.draw_store_key().await.unwrap();
    let (credentials, address) = member.kill().await;
    let again = world.start(Arc::clone(&credentials), Some(address)).await;
    assert!((1..=100).all(|service| again.has(service)));
    again.group.change_key(credentials.store_keys().await.unwrap().current).await.unwrap();
    credentials.forget_former_store_key().await.unwrap();
    let (credentials, address) = again.kill().await;
    let last = world.start(credentials, Some(address)).await;
    assert!((1..=100).all(|service| last.has(service)));
}
