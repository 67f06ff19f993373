//! A manager's database: raft's log and vote, and every object of the store as a record of its own.
//!
//! Start reading at [`Disk`]. One file, `manager/store.redb`; every value is sealed (`crate::seal`) under the name `table/key`:
//!
//! ```text
//! about    key: text     "member" | "vote" | "purged" | "applied" | "probe"
//! log      key: index    raft's entries
//! objects  key: text     task/0a1b…  (store::Key)
//! ```
//!
//! One thread writes. It takes everything that waits into one transaction, so that what is written at the same time shares one
//! flush. Objects are written without a flush of their own: the log in the same file holds them too, and a later flush takes
//! them along. Writes are carried out in the order in which they were submitted; after a failure nothing more is written.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::error::ClusterError;
use crate::seal::{Key, Keyring, StoreKeys};
use crate::store::{Object, Snapshot};

const ABOUT: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("about");
const LOG: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("log");
const OBJECTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("objects");

/// Name of the file within the manager's directory.
pub(crate) const FILE: &str = "store.redb";
/// Pages kept in memory; objects are in memory anyway.
const CACHE_BYTES: usize = 8 << 20;
/// The record by which it is tried whether there is room.
const PROBE: &str = "probe";
/// About what a leader may have to write at once.
const PROBE_BYTES: usize = 500 << 10;
/// Writes that wait; raft has one or two under way, the rest is room for the store's.
const MAX_WAITING: usize = 256;

/// Why the database could not do something. Shared, because one failure ends everything that waits.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the manager's database: {0}")]
pub(crate) struct DiskError(Arc<str>);

impl DiskError {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "it stands where an error is handed over, as in map_err"
    )]
    pub(super) fn new(source: impl ToString) -> Self {
        Self(source.to_string().into())
    }
}

impl From<DiskError> for ClusterError {
    fn from(error: DiskError) -> Self {
        Self::local("the manager's database", error.0)
    }
}

/// One step of a write.
#[derive(Debug)]
pub(crate) enum Step {
    /// Sets a record about this manager.
    About(&'static str, Vec<u8>),
    /// Appends entries to the log: index and JSON.
    Append(Vec<(u64, Vec<u8>)>),
    /// Removes entries from this index on.
    Truncate(u64),
    /// Removes entries up to this index.
    Purge(u64),
    /// Puts objects in place, or removes them.
    Objects(Vec<(String, Option<Object>)>),
    /// Puts all objects of a view in place of those that are there.
    ReplaceObjects(Arc<Snapshot>),
    /// Seals every record with the current key.
    Reseal,
}

/// Whether a write must be on the disk before it counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// It must.
    Now,
    /// A later flush takes it along.
    Later,
}

type Done = Box<dyn FnOnce(Result<(), DiskError>) + Send>;

struct Job {
    steps: Vec<Step>,
    flush: Flush,
    done: Done,
}

type BusySince = Arc<Mutex<Option<Instant>>>;

/// The open database, until it is closed.
type Slot = Arc<RwLock<Option<Arc<Database>>>>;

/// A manager's database. Cheap to clone; the file is closed by [`Disk::close`], whoever still has a clone.
#[derive(Clone)]
pub(crate) struct Disk {
    database: Slot,
    sealer: Arc<Keyring>,
    jobs: SyncSender<Job>,
    /// Since when the writer is at the present write; nothing between two.
    busy_since: BusySince,
    /// Held by whoever closes the file, so that another who asks for it comes back only when it is closed too.
    closing: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl Disk {
    /// Opens the database in `directory`, or makes it. Blocks.
    pub(crate) fn open(directory: &Path, keys: StoreKeys) -> Result<Self, DiskError> {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(DiskError::new)?;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join(FILE))
            .map_err(DiskError::new)?;
        let database =
            Database::builder().set_cache_size(CACHE_BYTES).create_file(file).map_err(DiskError::new)?;
        let transaction = database.begin_write().map_err(DiskError::new)?;
        transaction.open_table(ABOUT).map_err(DiskError::new)?;
        transaction.open_table(LOG).map_err(DiskError::new)?;
        transaction.open_table(OBJECTS).map_err(DiskError::new)?;
        transaction.commit().map_err(DiskError::new)?;
        let (database, sealer) =
            (Slot::new(RwLock::new(Some(Arc::new(database)))), Arc::new(Keyring::new(keys)));
        let (jobs, queue) = sync_channel(MAX_WAITING);
        let busy_since = BusySince::default();
        let writer = Writer {
            database: Arc::clone(&database),
            sealer: Arc::clone(&sealer),
            busy_since: Arc::clone(&busy_since),
        };
        std::thread::Builder::new()
            .name("manager-store".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(DiskError::new)?;
        Ok(Self { database, sealer, jobs, busy_since, closing: Arc::default() })
    }

    /// For how long the disk has not answered the write that it was given.
    pub(crate) fn stalled(&self) -> Duration {
        let since = *self.busy_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Writes what waits, flushes everything and closes the file, whatever clones there are. Repeatable.
    pub(crate) async fn close(&self) -> Result<(), DiskError> {
        let _alone = self.closing.lock().await;
        // The last job: after it the writer has no database any more.
        let flushed = self.write(Vec::new(), Flush::Now).await;
        let taken = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut database) = taken {
            // Reads and the writer hold it for the time of one transaction.
            while let Err(shared) = Arc::try_unwrap(database).map(drop) {
                database = shared;
                // A read ends by itself and tells nobody.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            return flushed;
        }
        Ok(())
    }

    /// Seals every record with `key`, and whatever is written from now on. When it returns, no record in use opens with another.
    pub(crate) async fn change_key(&self, key: Key) -> Result<(), DiskError> {
        self.sealer.adopt(key);
        self.write(vec![Step::Reseal], Flush::Now).await
    }

    fn open_database(&self) -> Result<Arc<Database>, DiskError> {
        open_database(&self.database)
    }

    /// Submits a write; `done` is called on the writer's thread.
    pub(crate) fn submit(
        &self,
        steps: Vec<Step>,
        flush: Flush,
        done: impl FnOnce(Result<(), DiskError>) + Send + 'static,
    ) -> Result<(), DiskError> {
        // Blocks the caller only while a whole queue of writes waits for the disk; going on faster than that would fill memory.
        self.jobs
            .send(Job { steps, flush, done: Box::new(done) })
            .map_err(|_| DiskError::new("it is closed after a failure"))
    }

    /// Submits a write and waits until it is done.
    pub(crate) async fn write(&self, steps: Vec<Step>, flush: Flush) -> Result<(), DiskError> {
        let (to, done) = oneshot::channel();
        self.submit(steps, flush, move |result| {
            let _ = to.send(result);
        })?;
        done.await.map_err(|_| DiskError::new("it is closed after a failure"))?
    }

    /// Writes as much as a leader may have to write at once, and takes it away again: fails if there is no room, or no way to write.
    pub(crate) async fn probe(&self) -> Result<(), DiskError> {
        self.write(vec![Step::About(PROBE, vec![0; PROBE_BYTES])], Flush::Now).await?;
        self.write(vec![Step::About(PROBE, Vec::new())], Flush::Later).await
    }

    /// A record about this manager. Blocks.
    pub(crate) fn about<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, DiskError> {
        let transaction = self.open_database()?.begin_read().map_err(DiskError::new)?;
        let table = transaction.open_table(ABOUT).map_err(DiskError::new)?;
        let Some(sealed) = table.get(key).map_err(DiskError::new)? else { return Ok(None) };
        let plain = self
            .sealer
            .open(&about_name(key), sealed.value())
            .map_err(|source| broken("about", key, source))?;
        serde_json::from_slice(&plain).map(Some).map_err(|source| broken("about", key, source))
    }

    /// Entries of the log from `start` to before `end`, at most about `max_bytes` of them and at least one. Blocks.
    pub(crate) fn entries<T: DeserializeOwned>(
        &self,
        start: u64,
        end: u64,
        max_bytes: usize,
    ) -> Result<Vec<T>, DiskError> {
        let transaction = self.open_database()?.begin_read().map_err(DiskError::new)?;
        let table = transaction.open_table(LOG).map_err(DiskError::new)?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for record in table.range(start..end).map_err(DiskError::new)? {
            let (index, sealed) = record.map_err(DiskError::new)?;
            let index = index.value();
            let plain = self
                .sealer
                .open(&log_name(index), sealed.value())
                .map_err(|source| broken("log", index, source))?;
            bytes += plain.len();
            entries.push(serde_json::from_slice(&plain).map_err(|source| broken("log", index, source))?);
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(entries)
    }

    /// Index and length of each entry of the log. Blocks.
    pub(crate) fn entry_lengths(&self) -> Result<Vec<(u64, usize)>, DiskError> {
        let transaction = self.open_database()?.begin_read().map_err(DiskError::new)?;
        let table = transaction.open_table(LOG).map_err(DiskError::new)?;
        let length = |record: Result<(redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &[u8]>), _>| {
            record.map(|(index, sealed)| (index.value(), sealed.value().len()))
        };
        table.iter().map_err(DiskError::new)?.map(length).collect::<Result<_, _>>().map_err(DiskError::new)
    }

    /// The newest entry of the log. Blocks.
    pub(crate) fn last_entry<T: DeserializeOwned>(&self) -> Result<Option<T>, DiskError> {
        let transaction = self.open_database()?.begin_read().map_err(DiskError::new)?;
        let table = transaction.open_table(LOG).map_err(DiskError::new)?;
        let last = table.last().map_err(DiskError::new)?.map(|(index, _)| index.value());
        let Some(index) = last else { return Ok(None) };
        Ok(self.entries(index, index.saturating_add(1), 0)?.pop())
    }

    /// All objects, as of `index`. Blocks.
    pub(crate) fn objects(&self, index: u64) -> Result<Snapshot, DiskError> {
        let transaction = self.open_database()?.begin_read().map_err(DiskError::new)?;
        let table = transaction.open_table(OBJECTS).map_err(DiskError::new)?;
        let mut objects = Vec::new();
        for record in table.iter().map_err(DiskError::new)? {
            let (key, sealed) = record.map_err(DiskError::new)?;
            let key = key.value();
            let plain = self
                .sealer
                .open(&object_name(key), sealed.value())
                .map_err(|source| broken("objects", key, source))?;
            let object: Object =
                serde_json::from_slice(&plain).map_err(|source| broken("objects", key, source))?;
            objects.push(object);
        }
        Ok(Snapshot::from_objects(index, objects))
    }
}

/// JSON of a record.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, DiskError> {
    serde_json::to_vec(record).map_err(DiskError::new)
}

fn open_database(slot: &Slot) -> Result<Arc<Database>, DiskError> {
    let database = slot.read().unwrap_or_else(PoisonError::into_inner).clone();
    database.ok_or_else(|| DiskError::new("it is closed"))
}

struct Writer {
    database: Slot,
    sealer: Arc<Keyring>,
    busy_since: BusySince,
}

impl Writer {
    /// Writes until every [`Disk`] is dropped or a write has failed.
    fn run(self, queue: &Receiver<Job>) {
        while let Ok(first) = queue.recv() {
            let jobs: Vec<Job> = std::iter::once(first).chain(queue.try_iter().take(MAX_WAITING)).collect();
            let opened = open_database(&self.database);
            let is_closed = opened.is_err();
            self.note_busy(Some(Instant::now()));
            let result = opened.and_then(|database| self.write(&database, &jobs));
            self.note_busy(None);
            let failed = result.is_err();
            if let Err(error) = &result
                && !is_closed
            {
                tracing::error!(%error, "the manager's store cannot be written");
            }
            for job in jobs {
                (job.done)(result.clone());
            }
            if failed {
                return;
            }
        }
    }

    fn note_busy(&self, since: Option<Instant>) {
        *self.busy_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn write(&self, database: &Database, jobs: &[Job]) -> Result<(), DiskError> {
        let mut transaction = database.begin_write().map_err(DiskError::new)?;
        let durability = if jobs.iter().any(|job| job.flush == Flush::Now) {
            Durability::Immediate
        } else {
            Durability::None
        };
        transaction.set_durability(durability).map_err(DiskError::new)?;
        for step in jobs.iter().flat_map(|job| &job.steps) {
            self.step(&transaction, step)?;
        }
        transaction.commit().map_err(DiskError::new)
    }

    fn step(&self, transaction: &WriteTransaction, step: &Step) -> Result<(), DiskError> {
        match step {
            Step::About(key, plain) => {
                let mut table = transaction.open_table(ABOUT).map_err(DiskError::new)?;
                let sealed = self.sealer.seal(&about_name(key), plain).map_err(DiskError::new)?;
                table.insert(key, sealed.as_slice()).map_err(DiskError::new)?;
            }
            Step::Append(entries) => {
                let mut table = transaction.open_table(LOG).map_err(DiskError::new)?;
                for (index, plain) in entries {
                    let sealed = self.sealer.seal(&log_name(*index), plain).map_err(DiskError::new)?;
                    table.insert(index, sealed.as_slice()).map_err(DiskError::new)?;
                }
            }
            Step::Truncate(from) => {
                let mut table = transaction.open_table(LOG).map_err(DiskError::new)?;
                table.retain_in::<u64, _>(*from.., |_, _| false).map_err(DiskError::new)?;
            }
            Step::Purge(up_to) => {
                let mut table = transaction.open_table(LOG).map_err(DiskError::new)?;
                table.retain_in::<u64, _>(..=*up_to, |_, _| false).map_err(DiskError::new)?;
            }
            Step::Objects(objects) => {
                let mut table = transaction.open_table(OBJECTS).map_err(DiskError::new)?;
                for (key, object) in objects {
                    match object {
                        Some(object) => self.put(&mut table, key, object)?,
                        None => {
                            table.remove(key.as_str()).map_err(DiskError::new)?;
                        }
                    }
                }
            }
            Step::ReplaceObjects(view) => {
                transaction.delete_table(OBJECTS).map_err(DiskError::new)?;
                let mut table = transaction.open_table(OBJECTS).map_err(DiskError::new)?;
                for object in view.objects() {
                    self.put(&mut table, &object.key().to_string(), &object)?;
                }
            }
            Step::Reseal => {
                let mut about = transaction.open_table(ABOUT).map_err(DiskError::new)?;
                self.reseal(&mut about, about_name)?;
                let mut log = transaction.open_table(LOG).map_err(DiskError::new)?;
                self.reseal_log(&mut log)?;
                let mut objects = transaction.open_table(OBJECTS).map_err(DiskError::new)?;
                self.reseal(&mut objects, object_name)?;
            }
        }
        Ok(())
    }

    /// Seals the records of a table anew; `name` is what a record of that key is sealed as.
    fn reseal(
        &self,
        table: &mut redb::Table<'_, &'static str, &'static [u8]>,
        name: fn(&str) -> Vec<u8>,
    ) -> Result<(), DiskError> {
        let keys = table.iter().map_err(DiskError::new)?;
        let keys: Result<Vec<String>, DiskError> =
            keys.map(|record| Ok(record.map_err(DiskError::new)?.0.value().to_owned())).collect();
        for key in keys? {
            let old = table.get(key.as_str()).map_err(DiskError::new)?.map(|sealed| sealed.value().to_vec());
            let sealed = self.sealed_anew(&name(&key), &old.unwrap_or_default())?;
            table.insert(key.as_str(), sealed.as_slice()).map_err(DiskError::new)?;
        }
        Ok(())
    }

    fn reseal_log(&self, table: &mut redb::Table<'_, u64, &'static [u8]>) -> Result<(), DiskError> {
        let indexes = table.iter().map_err(DiskError::new)?;
        let indexes: Result<Vec<u64>, DiskError> =
            indexes.map(|record| Ok(record.map_err(DiskError::new)?.0.value())).collect();
        for index in indexes? {
            let old = table.get(index).map_err(DiskError::new)?.map(|sealed| sealed.value().to_vec());
            let sealed = self.sealed_anew(&log_name(index), &old.unwrap_or_default())?;
            table.insert(index, sealed.as_slice()).map_err(DiskError::new)?;
        }
        Ok(())
    }

    fn sealed_anew(&self, name: &[u8], sealed: &[u8]) -> Result<Vec<u8>, DiskError> {
        let plain = self.sealer.open(name, sealed).map_err(DiskError::new)?;
        self.sealer.seal(name, &plain).map_err(DiskError::new)
    }

    fn put(
        &self,
        table: &mut redb::Table<'_, &'static str, &'static [u8]>,
        key: &str,
        object: &Object,
    ) -> Result<(), DiskError> {
        let sealed = self.sealer.seal(&object_name(key), &encode(object)?).map_err(DiskError::new)?;
        table.insert(key, sealed.as_slice()).map_err(DiskError::new)?;
        Ok(())
    }
}

fn about_name(key: &str) -> Vec<u8> {
    format!("about/{key}").into_bytes()
}

fn log_name(index: u64) -> Vec<u8> {
    format!("log/{index}").into_bytes()
}

fn object_name(key: &str) -> Vec<u8> {
    format!("objects/{key}").into_bytes()
}

fn broken(table: &str, key: impl std::fmt::Display, source: impl std::fmt::Display) -> DiskError {
    DiskError::new(format!("record {table}/{key}: {source}"))
}
