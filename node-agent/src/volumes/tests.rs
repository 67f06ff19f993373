//! Behaviour of the volume store over a temporary directory and a real database.
#![cfg(test)]

use serde_json::json;
use shoal_types::ErrorKind;

use super::*;
use crate::api::volumes::{PruneScope, VolumeFilter, VolumePruneFilter, Volumes};
use crate::plugins::testing::FakePlugin;

struct Bench {
    _dir: tempfile::TempDir,
    root: PathBuf,
    volumes: VolumeStore,
}

fn bench() -> Bench {
    bench_with(Plugins::looking_in(Vec::new(), Vec::new()))
}

fn bench_with(plugins: Plugins) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("db")).unwrap();
    let root = dir.path().join("volumes");
    let subpaths = dir.path().join("subpaths");
    let volumes = VolumeStore::open(
        store,
        EventLog::new(),
        plugins,
        VolumeSettings { root: root.clone(), subpaths, owner: (0, 0) },
    )
    .unwrap();
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

/// A plugin that keeps one volume called `there` and whatever it is asked to make.
fn volume_plugin(directory: &std::path::Path) -> FakePlugin {
    let made = Mutex::new(vec!["there".to_owned()]);
    FakePlugin::start(directory, "vols", move |method, arguments| {
        let name = arguments["Name"].as_str().unwrap_or_default().to_owned();
        let shown = |name: &String| json!({"Name": name, "Mountpoint": "", "Status": {"State": "fine"}});
        let mut made = made.lock().unwrap();
        let answer = match method {
            "Plugin.Activate" => json!({"Implements": ["VolumeDriver"]}),
            "VolumeDriver.Create" if name == "bad" => json!({"Err": "no room"}),
            "VolumeDriver.Create" => {
                made.push(name);
                json!({"Err": ""})
            }
            "VolumeDriver.Get" => match made.iter().find(|known| **known == name) {
                Some(name) => json!({"Volume": shown(name), "Err": ""}),
                None => json!({"Err": "no such volume"}),
            },
            "VolumeDriver.List" => json!({"Volumes": made.iter().map(shown).collect::<Vec<_>>()}),
            "VolumeDriver.Mount" => json!({"Mountpoint": format!("/plugin/{name}")}),
            "VolumeDriver.Capabilities" => json!({"Capabilities": {"Scope": "global"}}),
            "VolumeDriver.Remove" | "VolumeDriver.Unmount" => json!({}),
            _ => return (404, json!({})),
        };
        (200, answer)
    })
}

#[tokio::test]
async fn a_plugins_volume_is_made_mounted_once_for_each_container_and_removed_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = volume_plugin(dir.path());
    let bench = bench_with(plugin.plugins());
    let spec = VolumeSpec { driver: "vols".to_owned(), ..named("data") };
    let made = bench.volumes.create(spec, None).await.unwrap();
    assert_eq!((made.driver.as_str(), made.scope), ("vols", VolumeScope::Global));
    let container = ContainerId::random();
    for _ in 0..2 {
        let path = bench.volumes.mount("data", container).await.unwrap();
        assert_eq!(path, PathBuf::from("/plugin/data"));
    }
    for _ in 0..2 {
        bench.volumes.unmount("data", container).await.unwrap();
    }
    bench.volumes.remove("data", OfMissing::Fail).await.unwrap();
    let called: Vec<String> = plugin.calls().into_iter().map(|(method, _)| method).collect();
    let count = |method: &str| called.iter().filter(|called| *called == method).count();
    for method in ["VolumeDriver.Create", "VolumeDriver.Mount", "VolumeDriver.Unmount", "VolumeDriver.Remove"]
    {
        assert_eq!(count(method), 1, "{method} in {called:?}");
    }
    let mount = plugin.calls().into_iter().find(|(method, _)| method == "VolumeDriver.Mount").unwrap();
    assert_eq!(mount.1, json!({"Name": "data", "ID": container.to_string()}));
}

#[tokio::test]
async fn what_a_plugin_has_is_found_and_what_it_refuses_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = volume_plugin(dir.path());
    let bench = bench_with(plugin.plugins());
    let refused = bench.volumes.create(VolumeSpec { driver: "vols".to_owned(), ..named("bad") }, None).await;
    assert_eq!(refused.unwrap_err().message(), "create bad: no room");
    let unknown = bench.volumes.create(VolumeSpec { driver: "nope".to_owned(), ..named("xx") }, None).await;
    assert_eq!(
        unknown.unwrap_err().message(),
        "create xx: error looking up volume plugin nope: plugin \"nope\" not found"
    );
    let (shown, status) = Volumes::inspect(&bench.volumes, "there").await.unwrap();
    assert_eq!((shown.driver.as_str(), status["State"].as_str()), ("vols", Some("fine")));
    let (listed, warnings) = Volumes::list(&bench.volumes, VolumeFilter::default()).await.unwrap();
    assert_eq!((listed.len(), warnings.len()), (1, 0));
}
