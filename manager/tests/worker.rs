//! Workers and their sessions.

use std::time::Duration;

use manager::api::nodes::NodeFilter;
use manager::node::{ManagerFate, ManagerNode};
use manager::worker_client::WorkerClient;
use shoal_types::ErrorKind;
use shoal_types::cluster::node::{Node, NodeRole, NodeSpec, NodeState};
use shoal_types::cluster::settings::ClusterSpec;
use shoal_types::protocol::{SessionEvent, StatusReport};

use crate::world::{LIMIT, World, eventually, next, ports, request, told};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_says_who_the_node_is_and_what_it_shall_have() {
    let world = World::new();
    let manager = world.init("one").await;
    let worker = world.worker("worker", &manager).await;
    let mut session = worker.open_session(request("host")).await.unwrap();
    let message = told(&mut session, |_| true).await;
    assert_eq!(message.managers, manager.managers());
    assert_eq!(message.trust_root, manager.credentials().trust_root());
    let Some(SessionEvent::Assignments(first)) = next(&mut session).await else {
        panic!("the whole comes next")
    };
    assert!(first.applies_to.is_none() && first.changes.is_empty());
    let due = session.handle().heartbeat().await.unwrap();
    assert!(due > Duration::from_secs(1) && due < Duration::from_secs(2), "{due:?}");
    session.handle().report(StatusReport { tasks: Vec::new() }).await.unwrap();
    manager.stop().await;
    while next(&mut session).await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_session_of_a_node_ends_the_one_before() {
    let world = World::new();
    let manager = world.init("one").await;
    let worker = world.worker("worker", &manager).await;
    let mut old = worker.open_session(request("host")).await.unwrap();
    let new = worker.open_session(request("host")).await.unwrap();
    while next(&mut old).await.is_some() {}
    assert_eq!(old.handle().heartbeat().await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    new.handle().heartbeat().await.unwrap();
    worker.open_session(request("host")).await.unwrap();
    let limited = worker.open_session(request("host")).await.unwrap_err();
    assert!(limited.to_string().contains("exceeded rate limit count of registrations"), "{limited}");
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_finds_the_leader_through_a_follower_and_the_next_after_it_has_stopped() {
    let world = World::new();
    let one = world.init("one").await;
    let two = world.join("two", &one).await;
    let three = world.join("three", &one).await;
    let worker = world.worker("worker", &two).await;
    let mut session = worker.open_session(request("host")).await.unwrap();
    let message = told(&mut session, |message| message.managers.len() == 3).await;
    assert_eq!(message.managers.len(), 3);
    one.stop().await;
    while let Ok(Some(Ok(_))) = tokio::time::timeout(Duration::from_secs(20), session.next()).await {}
    let again = loop {
        match worker.open_session(request("host")).await {
            Ok(session) => break session,
            // An election tells nobody when it will have ended.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    again.handle().heartbeat().await.unwrap();
    two.stop().await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_renews_its_certificate_and_goes_on() {
    let world = World::new();
    let manager = world.init("one").await;
    let token = crate::world::tokens(&manager).await.worker;
    let credentials = world.enrol("worker", &token, &[manager.address()]).await.unwrap();
    let worker = WorkerClient::new(credentials.clone(), vec![manager.address()]);
    let session = worker.open_session(request("host")).await.unwrap();
    let before = credentials.certificate();
    worker.renew().await.unwrap();
    assert_ne!(credentials.certificate(), before);
    session.handle().heartbeat().await.unwrap();
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_is_down_at_once_and_one_that_is_silent_after_the_period() {
    let world = World::new();
    let spec = ClusterSpec { heartbeat: Duration::from_secs(2), ..ClusterSpec::default() };
    let manager = world.init_with("one", spec).await;
    let (leaving, silent) = (world.worker("leaving", &manager).await, world.worker("silent", &manager).await);
    let _left = leaving.open_session(request("leaving")).await.unwrap();
    let _silent = silent.open_session(request("silent")).await.unwrap();
    let nodes = ports(&manager).nodes;
    let state = async |host: &str| {
        let nodes = nodes.list(NodeFilter::default()).await.unwrap();
        let named =
            |node: &Node| node.description.as_ref().is_some_and(|described| described.hostname == host);
        nodes.into_iter().find(named).map(|node| (node.status.state, node.status.message))
    };
    assert_eq!(state("leaving").await, Some((NodeState::Ready, String::new())));
    leaving.say_goodbye().await.unwrap();
    assert_eq!(state("leaving").await.unwrap().0, NodeState::Down);
    assert_eq!(state("silent").await, Some((NodeState::Ready, String::new())));
    let begun = std::time::Instant::now();
    eventually("it is down", || async {
        state("silent").await == Some((NodeState::Down, "heartbeat failure".to_owned()))
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_follow_the_administrators_wish_into_the_managers_group_and_out_of_it() {
    let world = World::new();
    let one = world.init("one").await;
    let token = crate::world::tokens(&one).await.worker;
    let credentials = world.enrol("two", &token, &[one.address()]).await.unwrap();
    let worker = WorkerClient::new(credentials.clone(), vec![one.address()]);
    let mut session = worker.open_session(request("two")).await.unwrap();
    let nodes = ports(&one).nodes;
    let wish = async |role: NodeRole| {
        let node = nodes.inspect(&credentials.node_id().to_string()).await.unwrap();
        let spec = NodeSpec { role, ..node.spec };
        nodes.update(&node.id.to_string(), node.meta.version, spec).await
    };
    wish(NodeRole::Manager).await.unwrap();
    told(&mut session, |message| message.role == NodeRole::Manager).await;
    worker.renew().await.unwrap();
    assert_eq!(credentials.role(), NodeRole::Manager);
    let two = ManagerNode::join(world.config("two"), credentials.clone(), vec![one.address()]).await.unwrap();
    let shown = ports(&two).nodes.inspect("self").await.unwrap();
    assert!(shown.id == two.node_id() && shown.manager.is_some_and(|manager| manager.reachable));
    eventually("the store knows of its part in the group", || async { wish(NodeRole::Worker).await.is_ok() })
        .await;
    let mut fate = two.fate();
    let (message, removed) = tokio::join!(
        told(&mut session, |message| message.role == NodeRole::Worker),
        tokio::time::timeout(LIMIT, fate.wait_for(|fate| *fate == ManagerFate::Removed)),
    );
    assert_eq!(message.role, NodeRole::Worker);
    removed.unwrap().unwrap();
    two.stop().await;
    worker.renew().await.unwrap();
    assert_eq!(credentials.role(), NodeRole::Worker);
    let last = nodes.inspect("self").await.unwrap();
    let spec = NodeSpec { role: NodeRole::Worker, ..last.spec };
    let refused = nodes.update("self", last.meta.version, spec).await.unwrap_err();
    assert!(refused.to_string().contains("attempting to demote the last manager of the swarm"), "{refused}");
    one.stop().await;
}
