//! What a new daemon finds, finishes or drops in the image store of one that died.

use super::*;
use crate::layers::{Purpose, SnapshotKey, SnapshotName};

async fn pulled() -> (Node, TestImage, String) {
    let image = image(&[vec![file("a", "1")], vec![file("b", "2")]]);
    let (_registry, reference) = registry_with("a", "v1", &image).await;
    let node = Node::new().await;
    node.pull(&reference).await.unwrap();
    (node, image, reference.familiar())
}

#[tokio::test]
async fn images_are_there_after_a_restart() {
    let (node, image, name) = pulled().await;
    let before = node.list().await;
    let node = node.reopened().await.reopened().await;
    assert_eq!(node.list().await, before);
    let resolved = node.images.resolve(&name, None).await.unwrap();
    assert_eq!(resolved.id.0, image.manifest.digest());
    assert_eq!(tree(&upper(&resolved, 0))["b"].content, b"2");
}

#[tokio::test]
async fn a_removal_that_was_cut_off_is_finished_at_boot() {
    let (node, image, _) = pulled().await;
    // The daemon dies after the commit that forgets the image, before anything is deleted.
    let id = ImageId(image.manifest.digest());
    let garbage = GarbageRecord::of(&node.images.shared.catalog(), &id).unwrap();
    let names: Vec<String> =
        node.store.load::<NameRecord>().unwrap().into_iter().map(|(key, _)| key).collect();
    let batch = Batch::new().delete::<TargetRecord>(id.to_string()).put(id.to_string(), &garbage).unwrap();
    let batch = names.into_iter().fold(batch, Batch::delete::<NameRecord>);
    node.store.commit(batch).await.unwrap();
    let node = node.reopened().await;
    node.assert_empty();
}

#[tokio::test]
async fn directories_without_a_record_and_records_without_a_directory_go_at_boot() {
    let (node, _, name) = pulled().await;
    let key = SnapshotKey::job("layer", "99");
    // Prepared and never recorded.
    let (stack, _) = node.images.snapshotter().prepare(&key, None, Purpose::Layer).unwrap();
    let lowers = node.images.resolve(&name, None).await.unwrap().layer_dirs;
    std::fs::remove_dir_all(lowers[0].parent().unwrap()).unwrap();
    let node = node.reopened().await;
    assert!(!stack.upper.exists());
    // The layer that was lost is unpacked again when it is needed.
    let resolved = node.images.resolve(&name, None).await.unwrap();
    assert_eq!(tree(&upper(&resolved, 0))["b"].content, b"2");
}

#[tokio::test]
async fn layers_that_a_power_loss_may_have_torn_are_unpacked_again_for_containers() {
    let (node, _, name) = pulled().await;
    let resolved = node.images.resolve(&name, None).await.unwrap();
    let key = SnapshotKey::container(&ContainerId::random());
    let (_, batch) = node.images.snapshotter().prepare(&key, resolved.chain, Purpose::Container).unwrap();
    node.store.commit(batch).await.unwrap();
    let torn = upper(&resolved, 0).join("b");
    std::fs::write(&torn, "torn").unwrap();
    // As if all of it had been written in another boot of the machine.
    let mut batch = Batch::new();
    for (key, record) in node.store.load::<crate::layers::SnapshotRecord>().unwrap() {
        let mut value = serde_json::to_value(&record).unwrap();
        if !value["unsynced_since_boot"].is_null() {
            value["unsynced_since_boot"] = json!("another-boot");
        }
        let record: crate::layers::SnapshotRecord = serde_json::from_value(value).unwrap();
        batch = batch.put(key, &record).unwrap();
    }
    node.store.commit(batch).await.unwrap();
    drop(resolved);
    let node = node.reopened().await;
    let stack = node.images.snapshotter().stack(&key).unwrap();
    let contents: Vec<_> = stack.lowers.iter().filter_map(|dir| std::fs::read(dir.join("b")).ok()).collect();
    assert_eq!(contents, [b"2"]);
}

#[tokio::test]
async fn an_image_whose_content_is_gone_is_dropped() {
    let (node, image, name) = pulled().await;
    node.images.shared.content.remove(image.manifest.digest()).unwrap();
    let node = node.reopened().await;
    assert!(node.list().await.is_empty());
    assert_eq!(
        node.images.resolve(&name, None).await.unwrap_err().message(),
        format!("No such image: {name}")
    );
}

#[tokio::test]
async fn a_containers_layer_keeps_those_below_until_it_goes() {
    let (node, image, name) = pulled().await;
    let resolved = node.images.resolve(&name, None).await.unwrap();
    let key = SnapshotKey::container(&ContainerId::random());
    let (_, batch) = node.images.snapshotter().prepare(&key, resolved.chain, Purpose::Container).unwrap();
    node.store.commit(batch).await.unwrap();
    drop(resolved);
    node.remove(&image.manifest.digest().to_string(), true).await.unwrap();
    assert_eq!(node.images.shared.snapshots.list().len(), 3);
    let batch = node.images.snapshotter().remove(&SnapshotName::Active(key)).unwrap();
    node.store.commit(batch).await.unwrap();
    node.images.shared.collect_all().await.unwrap();
    node.assert_empty();
}
