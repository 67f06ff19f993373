//! The life of managers: beginning, joining, restarting, locking, leaving.

use std::time::Duration;

use manager::ClusterError;
use manager::api::membership::Rotation;
use manager::api::nodes::RemoveForce;
use manager::ca::Credentials;
use manager::node::{ManagerFate, ManagerNode};
use shoal_types::cluster::node::NodeRole;
use shoal_types::cluster::settings::ClusterSpec;

use crate::world::{LIMIT, World, eventually, ports, tokens};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_begins_with_tokens_and_survives_a_restart() {
    let world = World::new();
    let manager = world.init("one").await;
    let (cluster, tokens) = manager.inspect().await.unwrap();
    assert!(tokens.worker.starts_with("SWMTKN-1-") && tokens.worker != tokens.manager);
    assert_eq!(cluster.id, manager.credentials().cluster_id());
    assert_eq!(manager.unlock_key().await.unwrap(), "");
    let (node, address) = (manager.node_id(), manager.address());
    manager.stop().await;
    manager.stop().await;
    drop(manager);
    let config = world.config_at("one", address);
    let credentials = Credentials::load(&config.certificates(), None).unwrap().unwrap();
    assert_eq!((credentials.node_id(), credentials.role()), (node, NodeRole::Manager));
    let manager = ManagerNode::start(config, credentials).await.unwrap();
    let (again, same) = manager.inspect().await.unwrap();
    assert_eq!((again, same), (cluster, tokens));
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_answers_as_the_leader_does_and_takes_over_when_it_stops() {
    let world = World::new();
    let one = world.init("one").await;
    let two = world.join("two", &one).await;
    let three = world.join("three", &two).await;
    assert_eq!(one.managers().len(), 3);
    let (cluster, tokens) = one.inspect().await.unwrap();
    assert_eq!(three.inspect().await.unwrap(), (cluster.clone(), tokens.clone()));
    let rotation = Rotation { worker_token: true, ..Rotation::default() };
    two.update(cluster.meta.version, cluster.spec, rotation).await.unwrap();
    let (_, rotated) = three.inspect().await.unwrap();
    assert_ne!(rotated.worker, tokens.worker);
    let begun = std::time::Instant::now();
    one.stop().await;
    assert_eq!(two.inspect().await.unwrap().1, rotated);
    assert_eq!(three.inspect().await.unwrap().1, rotated);
    println!("answers went on {:?} after the leader began to stop", begun.elapsed());
    two.stop().await;
    let refused = three.inspect().await.unwrap_err();
    assert!(refused.to_string().contains("The swarm does not have a leader."), "{refused}");
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_or_another_clusters_lets_nobody_in() {
    let world = World::new();
    let manager = world.init("one").await;
    let other = world.init("other").await;
    let own = tokens(&manager).await.worker;
    let wrong = format!("{}{}", &own[..60], "0".repeat(25));
    let refused = world.enrol("a", &wrong, &[manager.address()]).await.unwrap_err();
    assert!(matches!(refused, ClusterError::WrongJoinToken), "{refused:?}");
    let refused = world.enrol("b", &tokens(&other).await.worker, &[manager.address()]).await.unwrap_err();
    assert!(refused.to_string().contains("does not match fingerprint"), "{refused}");
    let refused = world.enrol("c", "SWMTKN", &[manager.address()]).await.unwrap_err();
    assert!(matches!(refused, ClusterError::InvalidJoinToken), "{refused:?}");
    for name in ["a", "b", "c"] {
        assert!(Credentials::load(&world.config(name).certificates(), None).unwrap().is_none());
    }
    manager.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn autolock_locks_every_managers_keys_until_they_are_opened() {
    let world = World::new();
    let one = world.init("one").await;
    let two = world.join("two", &one).await;
    let (cluster, _) = one.inspect().await.unwrap();
    let spec = ClusterSpec { autolock: true, ..cluster.spec };
    one.update(cluster.meta.version, spec, Rotation::default()).await.unwrap();
    let key = two.unlock_key().await.unwrap();
    assert!(key.starts_with("SWMKEY-1-"));
    for name in ["one", "two"] {
        let certificates = world.config(name).certificates();
        eventually("both are locked", || async { Credentials::is_locked(&certificates) }).await;
    }
    let address = two.address();
    two.stop().await;
    drop(two);
    let config = world.config_at("two", address);
    assert!(matches!(Credentials::load(&config.certificates(), None), Err(ClusterError::Locked)));
    let credentials = Credentials::load(&config.certificates(), Some(&key)).unwrap().unwrap();
    let two = ManagerNode::start(config.clone(), credentials).await.unwrap();
    let (cluster, _) = two.inspect().await.unwrap();
    let spec = ClusterSpec { autolock: false, ..cluster.spec };
    two.update(cluster.meta.version, spec, Rotation::default()).await.unwrap();
    eventually("it is open again", || async { !Credentials::is_locked(&config.certificates()) }).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_at_a_new_address_is_found_there() {
    let world = World::new();
    let one = world.init("one").await;
    let two = world.join("two", &one).await;
    let three = world.join("three", &one).await;
    let (node, old) = (three.node_id(), three.address());
    three.stop().await;
    drop(three);
    let config = world.config("three");
    let credentials = Credentials::load(&config.certificates(), None).unwrap().unwrap();
    let three = ManagerNode::start(config, credentials).await.unwrap();
    assert_ne!(three.address(), old);
    eventually("the others know the new address", || async {
        two.managers().iter().any(|peer| peer.node == node && peer.address == three.address())
    })
    .await;
    for manager in [one, two, three] {
        manager.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_goes_on_alone_when_forced_with_the_same_cluster() {
    let world = World::new();
    let one = world.init("one").await;
    let two = world.join("two", &one).await;
    let before = two.inspect().await.unwrap();
    let (lost, address) = (one.node_id().to_string(), two.address());
    one.stop().await;
    two.stop().await;
    drop(two);
    let config = world.config_at("two", address);
    let credentials = Credentials::load(&config.certificates(), None).unwrap().unwrap();
    let two = ManagerNode::force_new_cluster(config, credentials).await.unwrap();
    assert_eq!(two.inspect().await.unwrap(), before);
    assert_eq!(two.managers().len(), 1);
    let nodes = ports(&two).nodes;
    eventually("the lost manager can be removed", || async {
        nodes.remove(&lost, RemoveForce::No).await.is_ok()
    })
    .await;
    assert!(nodes.inspect(&lost).await.is_err());
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_warns_of_what_it_would_cost() {
    let world = World::new();
    let one = world.init("one").await;
    let warning = one.check_leave().unwrap_err().to_string();
    assert!(
        warning.contains("Removing the last manager erases all current state of the swarm."),
        "{warning}"
    );
    let two = world.join("two", &one).await;
    let warning = one.check_leave().unwrap_err().to_string();
    assert!(warning.contains("leaves 1 managers out of 2. Without a Raft quorum"), "{warning}");
    for manager in [one, two] {
        manager.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_was_never_begun_is_refused() {
    let world = World::new();
    let one = world.init("one").await;
    let token = tokens(&one).await.manager;
    let credentials = world.enrol("two", &token, &[one.address()]).await.unwrap();
    let refused = ManagerNode::start(world.config("two"), credentials.clone()).await.unwrap_err();
    assert!(matches!(refused, ClusterError::NotBegun), "{refused:?}");
    let two = ManagerNode::join(world.config("two"), credentials, vec![one.address()]).await.unwrap();
    assert_eq!(*two.fate().borrow(), ManagerFate::Serving);
    tokio::time::timeout(LIMIT, two.stop()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), one.stop()).await.unwrap();
}
