//! Making containers.

use super::*;
use shoal_types::ErrorKind;

#[tokio::test]
async fn a_missing_image_is_the_only_not_found() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let nothing = ContainerSpec { image: "nope:1".to_owned(), ..ContainerSpec::default() };
    let error = create(&engine, "web", nothing).await.unwrap_err();
    assert_eq!((error.message().as_str(), error.kind()), ("No such image: nope:1", ErrorKind::NotFound));
    let mut linking = spec();
    linking.networking.links = vec!["ghost".to_owned()];
    let error = create(&engine, "web", linking).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.message(), "could not get container for ghost: No such container: ghost");
    machine.assert_nothing_leaks(&engine);
}

#[tokio::test]
async fn a_taken_name_is_a_conflict_and_a_failed_create_frees_its_name() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = created(&engine, "web", spec()).await;
    let error = create(&engine, "/web", spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.message(),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
        )
    );
    let mut wrong = spec();
    wrong.networking.links = vec!["ghost".to_owned()];
    create(&engine, "other", wrong).await.unwrap_err();
    created(&engine, "other", spec()).await;
}

#[tokio::test]
async fn a_container_without_name_gets_one() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let request = CreateContainer { name: None, spec: spec(), requested: "{}".into() };
    let id = engine.create(request).await.unwrap().id;
    let name = engine.find(&id.to_string()).unwrap().view().name.clone();
    assert!(name.contains('_'), "{name}");
    assert_eq!(engine.find(&name).unwrap().id(), id);
}

#[tokio::test]
async fn the_view_shows_the_merged_and_completed_spec() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = created(&engine, "web", rich_spec()).await;
    let view = engine.find("web").unwrap().view();
    assert_eq!(view.command, ["sh"]);
    assert_eq!(view.spec.process.hostname, id.short());
    assert_eq!(view.spec.process.working_dir, "/work");
    assert_eq!(
        view.mounts.iter().map(|mount| mount.destination.as_str()).collect::<Vec<_>>(),
        ["/named", "/data"]
    );
    assert!(view.mounts[1].anonymous);
    assert!(view.endpoints.contains_key("bridge"));
    assert_eq!(view.requested.as_ref(), "{}");
}

#[tokio::test]
async fn volumes_from_brings_what_the_other_has() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    created(&engine, "lender", rich_spec()).await;
    let mut borrowing = spec();
    borrowing.mounts = vec![MountSpec {
        destination: String::new(),
        source: MountSource::VolumesFrom { container: "lender".to_owned() },
        access: MountAccess::ReadOnly,
        origin: MountOrigin::VolumesFrom,
        mode: "ro".to_owned(),
    }];
    created(&engine, "borrower", borrowing).await;
    let view = engine.find("borrower").unwrap().view();
    let lent = engine.find("lender").unwrap().view();
    assert_eq!(view.mounts.len(), 2);
    for mount in &view.mounts {
        let original = lent.mounts.iter().find(|other| other.destination == mount.destination).unwrap();
        assert_eq!((&mount.name, mount.access), (&original.name, MountAccess::ReadOnly));
    }
}

#[tokio::test]
async fn peers_are_kept_by_id_so_that_renaming_them_does_not_matter() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let donor = started(&engine, "donor", rich_spec()).await;
    let mut joining = spec();
    joining.networking.mode = shoal_types::container::networking::NetworkMode::Container("donor".to_owned());
    joining.namespaces.ipc = shoal_types::container::security::IpcMode::Container("donor".to_owned());
    created(&engine, "joiner", joining).await;
    engine.rename("donor", "other").await.unwrap();
    engine.start("joiner").await.unwrap();
    let view = engine.find("joiner").unwrap().view();
    assert_eq!(
        view.spec.networking.mode,
        shoal_types::container::networking::NetworkMode::Container(donor.to_string())
    );
    engine.remove("other", FORCE).await.unwrap();
    engine.kill("joiner", None).await.unwrap();
    let error = engine.start("joiner").await.unwrap_err();
    assert_eq!(error.message(), format!("No such container: {donor}"));
}

#[tokio::test]
async fn a_create_goes_on_when_its_client_goes_away() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let mut events = machine.follow_events();
    let creating = tokio::spawn({
        let engine = engine.clone();
        async move { create(&engine, "web", spec()).await }
    });
    tokio::task::yield_now().await;
    creating.abort();
    if engine.find("web").is_err() {
        let _ = tokio::time::timeout(PATIENCE, async { events.until("create").await }).await;
    }
    machine.assert_nothing_leaks(&engine);
}
