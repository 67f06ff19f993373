//! A cluster in a file, and a cluster from it on another machine.

use manager::ClusterError;
use manager::api::membership::Rotation;
use manager::backup::restore;
use manager::ca::Credentials;
use manager::node::ManagerNode;
use shoal_types::cluster::settings::ClusterSpec;

use crate::world::{World, eventually, ports, request, tokens, told};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_goes_on_from_its_backup_at_another_address() {
    let world = World::new();
    let one = world.init("one").await;
    let two = world.join("two", &one).await;
    let worker = world.worker("worker", &one).await;
    let spec = shoal_types::cluster::secret::ConfigSpec {
        name: "kept".to_owned(),
        labels: Default::default(),
        data: b"x".to_vec(),
        templated: false,
    };
    let kept = ports(&two).configs.create(spec).await.unwrap();
    let text = two.backup().await.unwrap();
    let (before, tokens_before) = one.inspect().await.unwrap();
    one.stop().await;
    two.stop().await;
    let config = world.config("three");
    let restored = restore(&text, None, &config).await.unwrap();
    assert_eq!(restored.cluster, before.id);
    let again = restore(&text, None, &config).await.unwrap_err();
    assert!(again.to_string().contains("is not empty"), "{again}");
    let credentials = Credentials::load(&config.certificates(), None).unwrap().unwrap();
    let three = ManagerNode::start(config, credentials).await.unwrap();
    eventually("it leads", || async { three.inspect().await.is_ok() }).await;
    let (after, tokens_after) = three.inspect().await.unwrap();
    assert_eq!((after.id, after.trust_root, tokens_after), (before.id, before.trust_root, tokens_before));
    assert_eq!(ports(&three).configs.inspect("kept").await.unwrap().id, kept);
    let nodes = ports(&three).nodes.list(Default::default()).await.unwrap();
    assert_eq!(nodes.len(), 4, "the three that were, and the one that is");
    // A worker that is told where it is finds its cluster there.
    let peer = shoal_types::protocol::ManagerPeer { node: three.node_id(), address: three.address() };
    worker.learn_managers(&[peer]);
    let mut session = worker.open_session(request("worker")).await.unwrap();
    told(&mut session, |message| message.managers == [peer]).await;
    drop(session);
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backup_of_a_locked_cluster_opens_with_its_key_only() {
    let world = World::new();
    let one = world.init_with("one", ClusterSpec { autolock: true, ..ClusterSpec::default() }).await;
    let key = one.unlock_key().await.unwrap();
    let (cluster, _) = one.inspect().await.unwrap();
    let text = one.backup().await.unwrap();
    assert!(!text.contains(&tokens(&one).await.worker));
    let rotation = Rotation { unlock_key: true, ..Rotation::default() };
    one.update(cluster.meta.version, cluster.spec, rotation).await.unwrap();
    let later = one.unlock_key().await.unwrap();
    let config = world.config("two");
    assert!(matches!(restore(&text, None, &config).await, Err(ClusterError::Locked)));
    assert!(matches!(restore(&text, Some(&later), &config).await, Err(ClusterError::WrongUnlockKey)));
    let damaged = text.replacen("sealed", "selaed", 1);
    assert!(restore(&damaged, Some(&key), &config).await.is_err());
    restore(&text, Some(&key), &config).await.unwrap();
    assert!(Credentials::is_locked(&config.certificates()));
    assert!(Credentials::load(&config.certificates(), Some(&key)).unwrap().is_some());
    one.stop().await;
}
