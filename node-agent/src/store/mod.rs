//! The embedded database: what the engine must still know after a crash.
//!
//! Start reading at [`Store`]. One file, `<data-root>/db/engine.redb`, one writer thread, typed tables. Values are the
//! JSON of a record behind one byte of version; keys are texts.
//!
//! ```text
//! engine.redb
//! ├── meta        "schema"            -> number of the last migration step that ran
//! │               "engine-id"         -> identity of this daemon
//! ├── containers  <container id>      -> containers::record   spec, requested, endpoints, mounts: what it is
//! ├── container_states <container id> -> containers::record   how it is: written at every start and exit
//! ├── images      <image reference>   -> images::record       name -> target descriptor, when tagged
//! ├── targets     <digest>            -> images::record       an image, named or not: where else its content is
//! ├── garbage     <digest>            -> images::garbage      what a removed image left, until it is swept up
//! ├── snapshots   <chain id | key>    -> layers::record       committed layer or active snapshot, parent, size
//! ├── networks    <network id>        -> networks::record     spec with pools filled in, created
//! ├── volumes     <volume name>       -> volumes::record      spec, driver, created, anonymous
//! ├── tasks       <task id>           -> worker::record       a task that managers have assigned: what is wanted
//! └── task_states <task id>           -> worker::record       how far it has come: written before it is reported
//! ```
//!
//! Change the drawing, add a step to [`migrations`], bump nothing else. Each record type states its table by
//! [`Record`], next to its owner; this module knows none of them. Readers hold what they need in memory: the database
//! is read at boot and written ever after. Order of every change: write intent, act, write outcome.
//!
//! Commits that arrive while one is being made durable share the next one (group commit), so that many containers
//! starting at once do not queue for the disk one by one.

pub mod migrations;

use std::path::Path;
use std::sync::{Arc, mpsc};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shoal_types::ErrorKind;
use tokio::sync::oneshot;

use crate::crash_point::crash_point;
use crate::error::ErrorChain;

/// How many commits may wait for the disk before those who ask are told that the engine is overloaded. Every container
/// owner waits for at most one, so this is a number of containers that change in the same millisecond.
const QUEUE_LEN: usize = 4096;

/// Why the database could not be read or written. After a failed write nothing else is written until a restart.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file could not be opened; another daemon may hold it.
    #[error("open state database {path}")]
    Open {
        /// The file.
        path: String,
        /// What the library says.
        #[source]
        source: Arc<redb::Error>,
    },
    /// The file was written by a newer Shoal.
    #[error("state database has schema {found}, this version of shoal knows schemas up to {known}")]
    TooNew {
        /// What the file says.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// A read failed.
    #[error("read table {table} of the state database")]
    Read {
        /// The table.
        table: &'static str,
        /// What the library says.
        #[source]
        source: Arc<redb::Error>,
    },
    /// A record could not be understood.
    #[error("decode record {key:?} of table {table}")]
    Decode {
        /// The table.
        table: &'static str,
        /// The key.
        key: String,
        /// What the decoder says.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// A record could not be written down.
    #[error("encode record {key:?} of table {table}")]
    Encode {
        /// The table.
        table: &'static str,
        /// The key.
        key: String,
        /// What the encoder says.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// A commit failed; what it held is not durable.
    #[error("commit to the state database")]
    Commit(#[source] Arc<redb::Error>),
    /// Too many commits wait, or the database is closed.
    #[error("state database does not take commits")]
    Unavailable,
}

impl StoreError {
    /// The transport-independent kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable => ErrorKind::Unavailable,
            Self::Open { .. }
            | Self::TooNew { .. }
            | Self::Read { .. }
            | Self::Decode { .. }
            | Self::Encode { .. }
            | Self::Commit(_) => ErrorKind::Internal,
        }
    }
}

/// A type that has a table of its own.
pub trait Record: Serialize + DeserializeOwned {
    /// Name of the table, as in the drawing above.
    const TABLE: &'static str;
}

/// Changes that become durable together or not at all.
#[derive(Debug, Default)]
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch {
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Put { table: &'static str, key: String, value: Vec<u8> },
    Delete { table: &'static str, key: String },
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record, replacing what the key held.
    pub fn put<R: Record>(mut self, key: impl Into<String>, record: &R) -> Result<Self, StoreError> {
        let key = key.into();
        let value = encode(record).map_err(|source| StoreError::Encode {
            table: R::TABLE,
            key: key.clone(),
            source: Arc::new(source),
        })?;
        self.changes.push(Change::Put { table: R::TABLE, key, value });
        Ok(self)
    }

    /// Takes a record away; one that is not there is not missed.
    pub fn delete<R: Record>(mut self, key: impl Into<String>) -> Self {
        self.changes.push(Change::Delete { table: R::TABLE, key: key.into() });
        self
    }

    /// Adds the changes of another batch, after those of this one.
    pub fn and(mut self, other: Self) -> Self {
        self.changes.extend(other.changes);
        self
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// A cheap handle to the database. The writer thread ends, and the file is closed, when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Store {
    database: Arc<Database>,
    writer: Writer,
}

/// Who makes commits.
#[derive(Debug, Clone)]
enum Writer {
    /// A thread, which waits for the disk instead of those who commit.
    Thread(mpsc::SyncSender<Commit>),
    /// Whoever commits: there is nothing to wait for in memory, and tests that stop the clock need no other thread.
    #[cfg(any(test, feature = "testing"))]
    Caller,
}

#[derive(Debug)]
struct Commit {
    batch: Batch,
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl Store {
    /// Opens the file, makes it if there is none, and brings its schema up to date. Blocks; called once at boot.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let opened = |source: redb::Error| StoreError::Open {
            path: path.display().to_string(),
            source: Arc::new(source),
        };
        let database = Database::create(path).map_err(|source| opened(source.into()))?;
        migrations::run(&database)?;
        let database = Arc::new(database);
        let (commits, queue) = mpsc::sync_channel(QUEUE_LEN);
        let writer = Arc::clone(&database);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_until_closed(&writer, &queue))
            .map_err(|source| opened(redb::Error::Io(source)))?;
        Ok(Self { database, writer: Writer::Thread(commits) })
    }

    /// A database that lives and ends in memory.
    #[cfg(any(test, feature = "testing"))]
    pub fn in_memory() -> Result<Self, StoreError> {
        let opened =
            |source: redb::Error| StoreError::Open { path: "(memory)".to_owned(), source: Arc::new(source) };
        let backend = redb::backends::InMemoryBackend::new();
        let database =
            Database::builder().create_with_backend(backend).map_err(|source| opened(source.into()))?;
        migrations::run(&database)?;
        Ok(Self { database: Arc::new(database), writer: Writer::Caller })
    }

    /// Makes a batch durable. Returns once it is; if the caller goes away meanwhile, it is committed all the same.
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (done, outcome) = oneshot::channel();
        let commit = Commit { batch, done };
        match &self.writer {
            Writer::Thread(commits) => commits.try_send(commit).map_err(|_| StoreError::Unavailable)?,
            #[cfg(any(test, feature = "testing"))]
            Writer::Caller => return write(&self.database, &[commit]),
        }
        outcome.await.unwrap_or(Err(StoreError::Unavailable))
    }

    /// Reads a whole table, ordered by key. Blocks; meant for boot.
    pub fn load<R: Record>(&self) -> Result<Vec<(String, R)>, StoreError> {
        let failed = |source: redb::Error| StoreError::Read { table: R::TABLE, source: Arc::new(source) };
        let reading = self.database.begin_read().map_err(|source| failed(source.into()))?;
        let table = match reading.open_table(definition(R::TABLE)) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(source) => return Err(failed(source.into())),
        };
        let mut records = Vec::new();
        for row in table.iter().map_err(|source| failed(source.into()))? {
            let (key, value) = row.map_err(|source| failed(source.into()))?;
            let record = decode(value.value()).map_err(|source| StoreError::Decode {
                table: R::TABLE,
                key: key.value().to_owned(),
                source: Arc::new(source),
            })?;
            records.push((key.value().to_owned(), record));
        }
        Ok(records)
    }
}

fn definition(table: &'static str) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table)
}

/// First byte of every value: how the rest is written.
const FORMAT_JSON: u8 = 1;

fn encode<R: Serialize>(record: &R) -> Result<Vec<u8>, serde_json::Error> {
    let mut value = vec![FORMAT_JSON];
    serde_json::to_writer(&mut value, record)?;
    Ok(value)
}

fn decode<R: DeserializeOwned>(value: &[u8]) -> Result<R, serde_json::Error> {
    match value.split_first() {
        Some((&FORMAT_JSON, json)) => serde_json::from_slice(json),
        _ => Err(serde::de::Error::custom("unknown format of a stored record")),
    }
}

/// The writer thread: takes what waits, commits it as one, answers everybody. Ends when every handle is gone.
fn write_until_closed(database: &Database, queue: &mpsc::Receiver<Commit>) {
    let mut broken = false;
    while let Ok(first) = queue.recv() {
        let commits: Vec<Commit> = std::iter::once(first).chain(queue.try_iter()).collect();
        crash_point("before a commit");
        let outcome = if broken { Err(StoreError::Unavailable) } else { write(database, &commits) };
        crash_point("after a commit");
        if let Err(error) = &outcome {
            if !broken {
                tracing::error!(error = %ErrorChain(error), "state database failed; nothing is written until a restart");
            }
            broken = true;
        }
        for commit in commits {
            // A caller that went away does not need the answer.
            let _ = commit.done.send(outcome.clone());
        }
    }
}

fn write(database: &Database, commits: &[Commit]) -> Result<(), StoreError> {
    write_all(database, commits).map_err(|source| StoreError::Commit(Arc::new(source)))
}

fn write_all(database: &Database, commits: &[Commit]) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    for change in commits.iter().flat_map(|commit| &commit.batch.changes) {
        match change {
            Change::Put { table, key, value } => {
                writing.open_table(definition(table))?.insert(key.as_str(), value.as_slice())?;
            }
            Change::Delete { table, key } => {
                writing.open_table(definition(table))?.remove(key.as_str())?;
            }
        }
    }
    writing.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Pet {
        name: String,
    }

    impl Record for Pet {
        const TABLE: &'static str = "pets";
    }

    fn pet(name: &str) -> Pet {
        Pet { name: name.to_owned() }
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.redb");
        {
            let store = Store::open(&path).unwrap();
            store
                .commit(Batch::new().put("a", &pet("rex")).unwrap().put("b", &pet("tom")).unwrap())
                .await
                .unwrap();
            store.commit(Batch::new().delete::<Pet>("b").delete::<Pet>("never-was")).await.unwrap();
            assert_eq!(store.load::<Pet>().unwrap(), vec![("a".to_owned(), pet("rex"))]);
        }
        // The writer thread closes the file after the last handle is gone; opening again waits for that.
        let reopened = loop {
            match Store::open(&path) {
                Ok(store) => break store,
                Err(StoreError::Open { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(reopened.load::<Pet>().unwrap(), vec![("a".to_owned(), pet("rex"))]);
    }

    #[tokio::test]
    async fn many_commits_at_once_all_become_durable() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("engine.redb")).unwrap();
        let commits = (0..200).map(|i| {
            let store = store.clone();
            tokio::spawn(
                async move { store.commit(Batch::new().put(i.to_string(), &pet("x")).unwrap()).await },
            )
        });
        for commit in commits.collect::<Vec<_>>() {
            commit.await.unwrap().unwrap();
        }
        assert_eq!(store.load::<Pet>().unwrap().len(), 200);
    }

    #[test]
    fn a_table_that_nobody_wrote_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("engine.redb")).unwrap();
        assert!(store.load::<Pet>().unwrap().is_empty());
    }

    #[test]
    fn a_second_daemon_cannot_open_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.redb");
        let _held = Store::open(&path).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Open { .. })));
    }
}
