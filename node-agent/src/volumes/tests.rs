//! Behaviour of the volume store over a temporary directory and a real database.
#![cfg(test)]

use super::*;
use crate::api::volumes::{PruneScope, VolumeFilter, VolumePruneFilter, Volumes};

struct Bench {
    _dir: tempfile::TempDir,
    root: PathBuf,
    volumes: VolumeStore,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("db")).unwrap();
    let root = dir.path().join("volumes");
    let volumes =
        VolumeStore::open(store, EventLog::new(), root.clone(), dir.path().join("subpaths")).unwrap();
    Bench { _dir: dir, root, volumes }
}

fn named(name: &str) -> VolumeSpec {
    VolumeSpec { name: name.to_owned(), ..VolumeSpec::default() }
}

#[tokio::test]
async fn creating_a_volume_twice_returns_the_first_unchanged() {
    let bench = bench();
    let labels = Some(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    let first = bench.volumes.create(VolumeSpec { labels, ..named("data") }, None).await.unwrap();
    let second = bench.volumes.create(named("data"), None).await.unwrap();
    assert_eq!(first, second);
    assert!(bench.root.join("data/_data").is_dir());
}

#[tokio::test]
async fn a_volume_that_a_container_refers_to_cannot_be_removed() {
    let bench = bench();
    let container = ContainerId::random();
    bench.volumes.create(named("data"), Some(container)).await.unwrap();
    let error = bench.volumes.remove("data", OfMissing::Fail).await.unwrap_err();
    assert_eq!(error.message(), format!("remove data: volume is in use - [{container}]"));
    assert_eq!(error.kind(), ErrorKind::Conflict);
    bench.volumes.forget("data", container);
    bench.volumes.remove("data", OfMissing::Fail).await.unwrap();
    assert!(!bench.root.join("data").exists());
}

#[tokio::test]
async fn removing_a_missing_volume_fails_unless_forced() {
    let bench = bench();
    let error = bench.volumes.remove("nope", OfMissing::Fail).await.unwrap_err();
    assert_eq!((error.message().as_str(), error.kind()), ("get nope: no such volume", ErrorKind::NotFound));
    bench.volumes.remove("nope", OfMissing::Succeed).await.unwrap();
}

#[tokio::test]
async fn prune_takes_unused_anonymous_volumes_and_named_ones_only_when_told() {
    let bench = bench();
    let anonymous = bench.volumes.create(VolumeSpec::default(), None).await.unwrap();
    bench.volumes.create(named("data"), None).await.unwrap();
    bench.volumes.create(named("used"), Some(ContainerId::random())).await.unwrap();
    let pruned = bench.volumes.prune(VolumePruneFilter::default()).await.unwrap();
    assert_eq!(pruned.removed, [anonymous.name]);
    let all = VolumePruneFilter { scope: PruneScope::All, ..VolumePruneFilter::default() };
    assert_eq!(bench.volumes.prune(all).await.unwrap().removed, ["data"]);
}

#[tokio::test]
async fn lists_are_filtered_by_use_name_and_driver() {
    let bench = bench();
    bench.volumes.create(named("web-data"), None).await.unwrap();
    bench.volumes.create(named("db-data"), Some(ContainerId::random())).await.unwrap();
    let names = async |filter: VolumeFilter| {
        let (volumes, _) = bench.volumes.list(filter).await.unwrap();
        volumes.into_iter().map(|volume| volume.name).collect::<Vec<_>>()
    };
    assert_eq!(names(VolumeFilter::default()).await, ["db-data", "web-data"]);
    assert_eq!(names(VolumeFilter { dangling: Some(true), ..Default::default() }).await, ["web-data"]);
    assert_eq!(names(VolumeFilter { names: vec!["^db".into()], ..Default::default() }).await, ["db-data"]);
    assert!(names(VolumeFilter { drivers: vec!["nfs".into()], ..Default::default() }).await.is_empty());
}

#[tokio::test]
async fn a_directory_without_a_record_is_swept_and_a_recorded_one_stays() {
    let bench = bench();
    bench.volumes.create(named("data"), None).await.unwrap();
    std::fs::create_dir_all(bench.root.join("half-made/_data")).unwrap();
    bench.volumes.sweep().await;
    assert!(bench.root.join("data/_data").is_dir());
    assert!(!bench.root.join("half-made").exists());
}

#[tokio::test]
async fn an_anonymous_volume_goes_with_a_creation_that_was_cut_short_and_stays_when_it_was_kept() {
    use crate::api::containers::OfVolumes;
    use crate::containers::ports::ContainerVolumes as _;
    use shoal_types::container::mounts::Propagation;
    use shoal_types::container::state::{MountKind, MountPoint};
    let bench = bench();
    let made = ContainerId::random();
    let kept = bench.volumes.create(named(""), Some(made)).await.unwrap();
    let point = MountPoint {
        kind: MountKind::Volume,
        name: kept.name.clone(),
        source: kept.mountpoint.clone(),
        destination: "/data".to_owned(),
        driver: kept.driver.clone(),
        mode: String::new(),
        access: shoal_types::container::mounts::MountAccess::ReadWrite,
        propagation: Propagation::Default,
        anonymous: true,
        subpath: String::new(),
        spec_index: None,
        image: None,
    };
    assert!(bench.volumes.release(made, &[point], OfVolumes::Keep).await.is_empty());
    let cut_short = ContainerId::random();
    let abandoned = bench.volumes.create(named(""), Some(cut_short)).await.unwrap();
    // A restart forgets who refers to what until it is told.
    bench.volumes.forget(&abandoned.name, cut_short);
    bench.volumes.restore(Vec::new()).await;
    assert!(bench.volumes.get(&kept.name).is_some());
    assert!(bench.volumes.get(&abandoned.name).is_none() && !bench.root.join(&abandoned.name).exists());
}

#[tokio::test]
async fn an_unknown_driver_is_named_in_the_refusal() {
    let bench = bench();
    let spec = VolumeSpec { driver: "nope".into(), ..named("data") };
    let error = bench.volumes.create(spec, None).await.unwrap_err();
    assert!(error.message().contains("error looking up volume plugin nope"), "{error}");
}

#[tokio::test]
async fn a_tmpfs_volume_is_mounted_once_and_unmounted_with_its_last_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let bench = bench();
    let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let spec = VolumeSpec { options: Some(BTreeMap::from(options)), ..named("mem") };
    let (first, second) = (ContainerId::random(), ContainerId::random());
    bench.volumes.create(spec, Some(first)).await.unwrap();
    let path = bench.volumes.mount("mem", first).await.unwrap();
    std::fs::write(path.join("shared"), "x").unwrap();
    bench.volumes.mount("mem", second).await.unwrap();
    assert!(path.join("shared").exists());
    bench.volumes.unmount("mem", first).await.unwrap();
    assert!(path.join("shared").exists());
    bench.volumes.unmount("mem", second).await.unwrap();
    assert!(!path.join("shared").exists());
}

#[tokio::test]
async fn an_empty_volume_is_filled_from_the_root_behind_a_descriptor() {
    use shoal_types::container::mounts::{MountAccess, MountOrigin, MountSource, MountSpec};

    use crate::containers::ports::{ContainerVolumes, MountWish};

    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: setting owners needs root");
        return;
    }
    let bench = bench();
    let image = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(image.path().join("data/sub")).unwrap();
    std::fs::write(image.path().join("data/sub/file"), "of the image").unwrap();
    let container = ContainerId::random();
    let source = MountSource::Volume {
        name: "data".to_owned(),
        subpath: String::new(),
        copy: shoal_types::container::mounts::VolumeCopy::FromImage,
        driver: String::new(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        propagation: shoal_types::container::mounts::Propagation::Default,
        relabel: None,
    };
    let spec = MountSpec {
        destination: "/data".to_owned(),
        source,
        access: MountAccess::ReadWrite,
        origin: MountOrigin::Mount,
        mode: String::new(),
    };
    let wish = MountWish { spec, spec_index: None, inherited: None };
    let mounts = ContainerVolumes::resolve(&bench.volumes, container, vec![wish]).await.unwrap();
    // As the engine hands it over: a descriptor that is good for nothing but paths.
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
    let root = rustix::fs::open(image.path(), flags, rustix::fs::Mode::empty()).unwrap();
    bench.volumes.fill(container, &mounts, root).await.unwrap();
    let filled = std::fs::read_to_string(bench.root.join("data/_data/sub/file")).unwrap();
    assert_eq!(filled, "of the image");
}
