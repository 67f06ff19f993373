//! Blobs arrive whole and right, whatever happens on the way.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use registry_client::testing::{Fault, FaultyRegistry, Rule, TestImage};
use registry_client::{Credentials, Descriptor, Leftover, Limits, Progress, RegistryConfig, digest_of};
use shoal_types::ErrorKind;

use crate::support::{
    RecordingSink, SinkEvent, Watcher, image_ref, layer, noise, quick_client, quick_config, repository,
};

const LEN: usize = 3 << 20;

struct Rig {
    registry: FaultyRegistry,
    bytes: Bytes,
    blob: Descriptor,
}

async fn rig() -> Rig {
    let registry = FaultyRegistry::start().await;
    let bytes = noise(LEN, 7);
    registry.put_blob("app", bytes.clone());
    let blob = layer(&bytes);
    Rig { registry, bytes, blob }
}

/// Downloads and expects success; returns the sink.
async fn fetch(rig: &Rig, mut sink: RecordingSink) -> (RecordingSink, Watcher) {
    let watcher = Watcher::default();
    repository(&rig.registry, "app").fetch_blob(&rig.blob, &mut sink, &watcher).await.unwrap();
    assert!(sink.bytes == rig.bytes, "the sink has other bytes than the registry");
    assert_eq!(sink.events.last(), Some(&SinkEvent::Commit));
    (sink, watcher)
}

/// Downloads and expects failure; returns the error's text and the sink's last event.
async fn fail(rig: &Rig) -> (String, Option<SinkEvent>) {
    let mut sink = RecordingSink::default();
    let error = repository(&rig.registry, "app").fetch_blob(&rig.blob, &mut sink, &()).await.unwrap_err();
    (error.to_string(), sink.events.last().copied())
}

fn ranges_asked(rig: &Rig) -> Vec<String> {
    let requests = rig.registry.requests_to(&Method::GET, "/blobs/");
    requests.iter().map(|request| request.header("range").to_owned()).collect()
}

#[tokio::test]
async fn a_blob_arrives_with_its_progress() {
    let rig = rig().await;
    let (sink, watcher) = fetch(&rig, RecordingSink::default()).await;
    assert_eq!(sink.events, [SinkEvent::Commit]);
    let events = watcher.events();
    let total = LEN as u64;
    assert!(matches!(events.first(), Some(Progress::Downloading { current, .. }) if current <= &total));
    let tail = &events[events.len() - 3..];
    assert_eq!(
        tail,
        [Progress::Downloading { current: total, total }, Progress::Verifying, Progress::Downloaded]
    );
}

#[tokio::test]
async fn empty_and_tiny_blobs_arrive() {
    let registry = FaultyRegistry::start().await;
    for bytes in [Bytes::new(), Bytes::from_static(b"x")] {
        registry.put_blob("app", bytes.clone());
        let mut sink = RecordingSink::default();
        repository(&registry, "app").fetch_blob(&layer(&bytes), &mut sink, &()).await.unwrap();
        assert_eq!((sink.bytes.as_slice(), sink.events.as_slice()), (&bytes[..], &[SinkEvent::Commit][..]));
    }
}

#[tokio::test]
async fn a_cut_connection_is_resumed_where_it_broke() {
    let rig = rig().await;
    rig.registry.spoil(Rule::once("/blobs/", Fault::CutAfter(1 << 20)));
    rig.registry.spoil(Rule::once("/blobs/", Fault::CutAfter(1 << 20)));
    let (sink, watcher) = fetch(&rig, RecordingSink::default()).await;
    assert_eq!(sink.events, [SinkEvent::Commit], "nothing was thrown away");
    assert_eq!(watcher.n_retries(), 2);
    assert_eq!(ranges_asked(&rig), ["", "bytes=1048576-", "bytes=2097152-"]);
}

#[tokio::test]
async fn cuts_that_each_bring_a_mebibyte_never_use_up_the_attempts() {
    let rig = {
        let registry = FaultyRegistry::start().await;
        let bytes = noise(12 << 20, 3);
        registry.put_blob("app", bytes.clone());
        let blob = layer(&bytes);
        Rig { registry, bytes, blob }
    };
    rig.registry.spoil(Rule::always("/blobs/", Fault::CutAfter((1 << 20) + 1)));
    let (_, watcher) = fetch(&rig, RecordingSink::default()).await;
    assert!(watcher.n_retries() >= 10, "{}", watcher.n_retries());
}

#[tokio::test]
async fn a_registry_that_always_breaks_early_is_given_up_and_the_bytes_are_kept() {
    let rig = rig().await;
    rig.registry.spoil(Rule::always("/blobs/", Fault::CutAfter(1000)));
    let (error, last) = fail(&rig).await;
    assert!(error.starts_with("Get \"http://127.0.0.1:") && error.ends_with("EOF"), "{error}");
    assert_eq!(last, Some(SinkEvent::Abort(Leftover::Keep)));
    assert_eq!(ranges_asked(&rig), ["", "bytes=1000-", "bytes=2000-", "bytes=3000-"]);
}

#[tokio::test]
async fn a_kept_prefix_is_hashed_and_only_the_rest_is_fetched() {
    let rig = rig().await;
    let prefix = rig.bytes.slice(..2_000_001);
    let (sink, watcher) = fetch(&rig, RecordingSink::with_prefix(&prefix)).await;
    assert_eq!(sink.events, [SinkEvent::Commit]);
    assert_eq!(ranges_asked(&rig), ["bytes=2000001-"]);
    let first = watcher.events().into_iter().next().unwrap();
    assert!(matches!(first, Progress::Downloading { current, .. } if current > 2_000_001), "{first:?}");
}

#[tokio::test]
async fn a_complete_prefix_is_verified_without_any_download() {
    let rig = rig().await;
    fetch(&rig, RecordingSink::with_prefix(&rig.bytes)).await;
    assert!(ranges_asked(&rig).is_empty());
}

#[tokio::test]
async fn a_rotten_or_too_long_prefix_is_thrown_away() {
    let rig = rig().await;
    let mut rotten = rig.bytes.slice(..1 << 20).to_vec();
    rotten[77] ^= 1;
    let mut too_long = rig.bytes.to_vec();
    too_long.push(0);
    for prefix in [rotten, too_long] {
        let (sink, _) = fetch(&rig, RecordingSink::with_prefix(&prefix)).await;
        assert_eq!(sink.events, [SinkEvent::Restart, SinkEvent::Commit]);
    }
}

#[tokio::test]
async fn a_server_that_ignores_or_mistakes_ranges_is_read_from_the_start() {
    for fault in [Fault::IgnoreRange, Fault::WrongRange, Fault::status(416)] {
        let rig = rig().await;
        rig.registry.spoil(Rule::once("/blobs/", Fault::CutAfter(500_000)));
        rig.registry.spoil(Rule::once("/blobs/", fault.clone()));
        let (sink, _) = fetch(&rig, RecordingSink::default()).await;
        assert_eq!(sink.events, [SinkEvent::Commit], "what was there is skipped, not thrown away: {fault:?}");
    }
}

#[tokio::test]
async fn wrong_content_is_thrown_away_and_asked_for_once_more() {
    let rig = rig().await;
    rig.registry.spoil(Rule::once("/blobs/", Fault::Corrupt));
    let (sink, _) = fetch(&rig, RecordingSink::default()).await;
    assert_eq!(sink.events, [SinkEvent::Restart, SinkEvent::Commit]);

    rig.registry.spoil(Rule::always("/blobs/", Fault::Corrupt));
    let (error, last) = fail(&rig).await;
    assert_eq!(error, format!("filesystem layer verification failed for digest {}", rig.blob.digest));
    assert_eq!(last, Some(SinkEvent::Abort(Leftover::Discard)));
}

#[tokio::test]
async fn content_of_another_length_is_never_taken() {
    let rig = rig().await;
    let expected = format!("blob {} does not have the {LEN} bytes of its descriptor", rig.blob.digest);
    for len in [LEN - 1, LEN + 1] {
        rig.registry.spoil(Rule::always("/blobs/", Fault::Replace(noise(len, 7))).times(2));
        assert_eq!(fail(&rig).await, (expected.clone(), Some(SinkEvent::Abort(Leftover::Discard))));
    }
    rig.registry.spoil(Rule::always("/blobs/", Fault::Endless));
    assert_eq!(fail(&rig).await, (expected, Some(SinkEvent::Abort(Leftover::Discard))));
}

#[tokio::test]
async fn overloaded_registries_are_asked_again_and_obeyed() {
    let rig = rig().await;
    let after = |code, seconds: &str| Fault::Status {
        code,
        headers: vec![("retry-after", seconds.to_owned())],
        body: String::new(),
    };
    rig.registry.spoil(Rule::once("/blobs/", Fault::status(503)));
    rig.registry.spoil(Rule::once("/blobs/", after(429, "1")));
    rig.registry.spoil(Rule::once("/blobs/", Fault::Hangup));
    let (_, watcher) = fetch(&rig, RecordingSink::default()).await;
    let delays: Vec<Duration> = watcher
        .events()
        .into_iter()
        .filter_map(|event| if let Progress::Retrying { delay, .. } = event { Some(delay) } else { None })
        .collect();
    assert_eq!(delays.len(), 3);
    assert!(delays[0] < Duration::from_millis(20) && delays[1] == Duration::from_secs(1), "{delays:?}");

    rig.registry.spoil(Rule::always("/blobs/", after(429, "3600")));
    let (error, _) = fail(&rig).await;
    assert_eq!(error, "toomanyrequests: too many requests", "an hour is not waited for");
}

#[tokio::test]
async fn stalled_and_silent_registries_count_as_broken() {
    let rig = rig().await;
    rig.registry.spoil(Rule::once("/blobs/", Fault::StallAfter(1 << 20)));
    rig.registry.spoil(Rule::once("/blobs/", Fault::Silence));
    let (_, watcher) = fetch(&rig, RecordingSink::default()).await;
    assert_eq!(watcher.n_retries(), 2);
}

#[tokio::test]
async fn a_slow_registry_is_waited_for() {
    let rig = rig().await;
    rig.registry.spoil(Rule::once("/blobs/", Fault::Slow(20_000)));
    let (_, watcher) = fetch(&rig, RecordingSink::default()).await;
    assert_eq!(watcher.n_retries(), 0);
}

#[tokio::test]
async fn a_missing_blob_and_a_full_disk_end_the_download_at_once() {
    let rig = rig().await;
    let missing = layer(&noise(10, 99));
    let mut sink = RecordingSink::default();
    let repository = repository(&rig.registry, "app");
    let error = repository.fetch_blob(&missing, &mut sink, &()).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.kind()), ("unknown blob", ErrorKind::NotFound));

    let mut full = RecordingSink { fails_after: Some(100_000), ..RecordingSink::default() };
    let error = repository.fetch_blob(&rig.blob, &mut full, &()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot store blob {}", rig.blob.digest));
    assert_eq!(full.events, [SinkEvent::Abort(Leftover::Keep)]);
    assert_eq!(rig.registry.requests_to(&Method::GET, &rig.blob.digest.to_string()).len(), 1);
}

#[tokio::test]
async fn a_dropped_download_leaves_a_prefix_that_the_next_one_resumes() {
    let rig = rig().await;
    rig.registry.spoil(Rule::once("/blobs/", Fault::StallAfter(1 << 20)));
    let mut sink = RecordingSink::default();
    let watcher = Watcher::default();
    let repository = repository(&rig.registry, "app");
    let has_a_mebibyte = async {
        let is_there =
            |event: &Progress| matches!(event, Progress::Downloading { current, .. } if *current == 1 << 20);
        while !watcher.events().iter().any(is_there) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        outcome = repository.fetch_blob(&rig.blob, &mut sink, &watcher) => panic!("ended: {outcome:?}"),
        () = has_a_mebibyte => {}
    }
    assert!(sink.events.is_empty(), "{:?}", sink.events);
    fetch(&rig, RecordingSink::with_prefix(&sink.bytes)).await;
    assert_eq!(ranges_asked(&rig), ["", "bytes=1048576-"]);
}

#[tokio::test]
async fn a_slow_sink_holds_the_registry_back() {
    let registry = FaultyRegistry::start().await;
    let bytes = noise(32 << 20, 5);
    registry.put_blob("app", bytes.clone());
    let mut sink = RecordingSink { delay: Some(Duration::from_millis(50)), ..RecordingSink::default() };
    let watcher = Watcher::default();
    let repository = repository(&registry, "app");
    let blob = layer(&bytes);
    tokio::select! {
        outcome = repository.fetch_blob(&blob, &mut sink, &watcher) => panic!("ended: {outcome:?}"),
        // That nothing more happens shows only after a while.
        () = tokio::time::sleep(Duration::from_millis(500)) => {}
    }
    assert!(sink.bytes.len() < 16 << 20, "{} bytes were forced upon the sink", sink.bytes.len());
}

#[tokio::test]
async fn the_layers_of_a_pull_take_turns_and_say_so() {
    let registry = FaultyRegistry::start().await;
    let layers: Vec<Bytes> = (0..6).map(|n| noise(200_000, n)).collect();
    let image = TestImage::new("amd64", layers);
    registry.put_image("app", "latest", &image);
    registry.spoil(Rule::always("/blobs/", Fault::Slow(20_000)));
    let limits = Limits { downloads_per_pull: 2, ..Limits::default() };
    let client = registry_client::Client::new(RegistryConfig { limits, ..quick_config() }).unwrap();
    let repository = client.repository(&registry.image_ref("app"), Credentials::Anonymous);
    let watcher = Watcher::default();
    let downloads = image.layer_descriptors().iter().map(|blob| {
        let (repository, watcher, blob) = (repository.clone(), watcher.clone(), blob.clone());
        tokio::spawn(async move {
            let mut sink = RecordingSink::default();
            repository.fetch_blob(&blob, &mut sink, &watcher).await.unwrap();
            assert_eq!(digest_of(&sink.bytes), blob.digest);
        })
    });
    for download in downloads.collect::<Vec<_>>() {
        download.await.unwrap();
    }
    assert_eq!(registry.most_concurrent_bodies(), 2);
    assert_eq!(watcher.events().iter().filter(|event| **event == Progress::Waiting).count(), 4);
}

/// A handle that fetches blobs above a mebibyte over three connections.
fn splitting_repository(registry: &FaultyRegistry) -> registry_client::Repository {
    let limits = Limits { split_above: 1 << 20, connections_per_blob: 3, ..Limits::default() };
    let client = registry_client::Client::new(RegistryConfig { limits, ..quick_config() }).unwrap();
    client.repository(&registry.image_ref("app"), Credentials::Anonymous)
}

#[tokio::test]
async fn large_blobs_come_over_several_connections_in_order() {
    let registry = FaultyRegistry::start().await;
    let bytes = noise((20 << 20) + 5, 7);
    registry.put_blob("app", bytes.clone());
    registry.spoil(Rule::always("/blobs/", Fault::Slow(1 << 20)));
    let mut sink = RecordingSink::default();
    splitting_repository(&registry).fetch_blob(&layer(&bytes), &mut sink, &()).await.unwrap();
    assert!(sink.bytes == bytes);
    assert_eq!(registry.most_concurrent_bodies(), 3);
    assert_eq!(registry.requests_to(&Method::GET, "/blobs/").len(), 6);
}

#[tokio::test]
async fn a_part_that_breaks_costs_only_what_the_sink_has_not() {
    let registry = FaultyRegistry::start().await;
    let bytes = noise(20 << 20, 7);
    registry.put_blob("app", bytes.clone());
    registry.spoil(Rule::once("/blobs/", Fault::Hangup));
    registry.spoil(Rule::once("/blobs/", Fault::CutAfter(1000)));
    let (mut sink, watcher) = (RecordingSink::default(), Watcher::default());
    splitting_repository(&registry).fetch_blob(&layer(&bytes), &mut sink, &watcher).await.unwrap();
    assert!(sink.bytes == bytes);
    assert_eq!(sink.events, [SinkEvent::Commit]);
    assert!(watcher.n_retries() >= 1);
}

#[tokio::test]
async fn a_registry_without_ranges_is_read_over_one_connection() {
    for fault in [Fault::IgnoreRange, Fault::status(416), Fault::WrongRange] {
        let registry = FaultyRegistry::start().await;
        let bytes = noise(9 << 20, 7);
        registry.put_blob("app", bytes.clone());
        registry.spoil(Rule::always("/blobs/", fault.clone()).times(3));
        let mut sink = RecordingSink::default();
        splitting_repository(&registry).fetch_blob(&layer(&bytes), &mut sink, &()).await.unwrap();
        assert!(sink.bytes == bytes, "{fault:?}");
        assert_eq!(sink.events, [SinkEvent::Commit], "{fault:?}");
    }
}

#[tokio::test]
async fn a_registry_that_is_gone_is_waited_for_during_a_transfer() {
    let blob = layer(&noise(10, 1));
    let repository = quick_client().repository(&image_ref("127.0.0.1:1/app"), Credentials::Anonymous);
    let watcher = Watcher::default();
    let error = repository.fetch_blob(&blob, &mut RecordingSink::default(), &watcher).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused"#
    );
    assert_eq!((error.kind(), watcher.n_retries()), (ErrorKind::Internal, 3));
}
