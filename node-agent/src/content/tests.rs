//! Blobs appear whole or not at all, partial ones survive, on a real directory.

use super::*;

fn open() -> (tempfile::TempDir, ContentStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ContentStore::open(dir.path()).unwrap();
    (dir, store)
}

fn ingests(dir: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path().join("ingest")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_blob_is_found_by_its_digest_after_its_commit_and_not_before() {
    let (_dir, store) = open();
    let digest = digest_of(b"hello");
    let mut draft = store.draft().unwrap();
    draft.write_all(b"hello").unwrap();
    assert_eq!(store.size(digest), None);
    assert_eq!(draft.commit(Some(digest)).unwrap(), digest);
    assert_eq!(store.size(digest), Some(5));
    assert_eq!(store.read(digest, 5).unwrap(), "hello");
    assert_eq!(store.list().unwrap(), [(digest, 5)]);
    assert!(matches!(store.read(digest, 4), Err(ContentError::TooLarge { .. })));
}

#[test]
fn bytes_with_another_digest_leave_nothing() {
    let (dir, store) = open();
    let mut draft = store.draft().unwrap();
    draft.write_all(b"evil").unwrap();
    let error = draft.commit(Some(digest_of(b"good"))).unwrap_err();
    assert!(matches!(error, ContentError::WrongDigest { .. }));
    assert!(store.list().unwrap().is_empty() && ingests(&dir).is_empty());
}

#[test]
fn an_abandoned_draft_leaves_nothing_and_a_crashed_one_goes_at_boot() {
    let (dir, store) = open();
    drop(store.draft().unwrap());
    assert!(ingests(&dir).is_empty());
    fs::write(dir.path().join("ingest/7.new"), "crashed").unwrap();
    ContentStore::open(dir.path()).unwrap();
    assert!(ingests(&dir).is_empty());
}

#[tokio::test]
async fn a_partial_blob_survives_and_can_be_completed() {
    let (dir, store) = open();
    let digest = digest_of(b"hello");
    store.resume(digest).await.append().unwrap().write_all(b"hel").unwrap();
    let store = ContentStore::open(dir.path()).unwrap();
    let partial = store.resume(digest).await;
    assert_eq!(partial.length(), 3);
    partial.append().unwrap().write_all(b"lo").unwrap();
    partial.commit_verified().unwrap();
    assert_eq!(store.read(digest, 10).unwrap(), "hello");
    assert!(ingests(&dir).is_empty());
}

#[tokio::test]
async fn only_one_works_on_a_partial_blob_and_a_prune_leaves_it_alone() {
    let (_dir, store) = open();
    let digest = digest_of(b"hello");
    let first = store.resume(digest).await;
    first.append().unwrap().write_all(b"hel").unwrap();
    let second = store.resume(digest);
    tokio::pin!(second);
    assert!(futures_util::poll!(&mut second).is_pending());
    assert_eq!(store.remove_partials().unwrap(), 0);
    drop(first);
    let second = second.await;
    assert_eq!(second.length(), 3);
    drop(second);
    assert_eq!(store.remove_partials().unwrap(), 3);
    assert_eq!(store.resume(digest).await.length(), 0);
}

#[test]
fn removing_a_blob_that_is_not_here_frees_nothing() {
    let (_dir, store) = open();
    let digest = store.put(b"hello").unwrap();
    assert_eq!((store.remove(digest).unwrap(), store.remove(digest).unwrap()), (5, 0));
    assert!(matches!(store.open_blob(digest), Err(ContentError::Missing(_))));
}
