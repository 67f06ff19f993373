//! Snapshots as directories for overlayfs.
//!
//! Start reading at [`Overlayfs`]. The table in memory is the truth while the daemon runs; the batches that are returned make
//! it durable. Directories are numbered and never reused within a run. What is removed is renamed into the trash first, so
//! that a crash leaves either the snapshot or trash. This module makes no mount.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use jiff::Timestamp;
use shoal_types::ChainId;

use super::quota::ProjectQuotas;
use super::record::parse_name;
use super::{
    LayerError, MAX_LAYERS, Purpose, Snapshot, SnapshotKey, SnapshotName, SnapshotRecord, Snapshotter, Stack,
    Usage, base, diff,
};
use crate::error::ErrorChain;
use crate::store::Batch;
use crate::userns::IdMapping;

const FS: &str = "fs";
const WORK: &str = "work";
const TRASH: &str = "trash";
/// Where the base of images without layers lies.
const EMPTY: &str = "empty";

/// The snapshotter on top of overlayfs. One for each data root.
#[derive(Debug)]
pub struct Overlayfs {
    root: PathBuf,
    ids: IdMapping,
    boot_id: String,
    table: Mutex<Table>,
    /// `None` where the file system has none.
    quotas: Option<Arc<ProjectQuotas>>,
    trash: mpsc::Sender<PathBuf>,
}

#[derive(Debug, Default)]
struct Table {
    snapshots: BTreeMap<SnapshotName, SnapshotRecord>,
    last_dir: u64,
}

impl Overlayfs {
    /// Opens `<data root>/overlayfs` with what the database knows, and cleans up what a crash left: directories without
    /// record, records without directory (the returned batch deletes these), unpacked layers that a crash of the machine
    /// may have torn. Can be repeated.
    ///
    /// All of it is for containers with these ids, always.
    pub fn open(
        root: &Path,
        records: Vec<(String, SnapshotRecord)>,
        ids: IdMapping,
    ) -> Result<(Self, Batch), LayerError> {
        let trash = root.join(TRASH);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&trash)
            .map_err(LayerError::io("create", &trash))?;
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|text| text.trim().to_owned())
            .map_err(LayerError::io("read", Path::new("/proc/sys/kernel/random/boot_id")))?;
        let mut snapshots = BTreeMap::new();
        let mut batch = Batch::new();
        for (key, record) in records {
            let name = parse_name(&key);
            let is_torn = record.unsynced_since_boot.as_ref().is_some_and(|boot| *boot != boot_id);
            if is_torn || !root.join(record.dir.to_string()).join(FS).is_dir() {
                tracing::warn!(snapshot.name = %name, snapshot.torn = is_torn, "a snapshot is dropped");
                batch = batch.delete::<SnapshotRecord>(key);
            } else {
                snapshots.insert(name, record);
            }
        }
        let last_dir = sweep(root, &snapshots)?;
        let quotas = ProjectQuotas::open(root).map(Arc::new);
        let (trash_tx, trash_rx) = mpsc::channel();
        let freed = quotas.clone();
        std::thread::Builder::new()
            .name("layer-trash".to_owned())
            .spawn(move || empty_trash(&trash, &trash_rx, freed.as_deref()))
            .map_err(LayerError::io("start a thread for", root))?;
        let table = Mutex::new(Table { snapshots, last_dir });
        let root = root.to_owned();
        Ok((Self { root, ids, boot_id, table, quotas, trash: trash_tx }, batch))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // The table is consistent after every statement that could panic, so a poisoned lock is still good.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, dir: u64) -> PathBuf {
        self.root.join(dir.to_string())
    }

    fn active_stack(&self, record: &SnapshotRecord) -> Result<Stack, LayerError> {
        let place = self.place(record.dir);
        let work = place.join(WORK);
        let mut lowers = Vec::new();
        if work.is_dir() {
            let image = self.lowers(record.parent)?;
            let top = match record.parent {
                Some(chain) => self.place(self.committed(chain)?.dir),
                None => self.root.join(EMPTY),
            };
            lowers.push(base::ensure(&top, &image, self.ids.root())?);
            lowers.extend(image);
        }
        Ok(Stack { lowers, upper: place.join(FS), work, ids: self.ids.clone() })
    }

    fn committed(&self, chain: ChainId) -> Result<SnapshotRecord, LayerError> {
        let name = SnapshotName::Committed(chain);
        self.table().snapshots.get(&name).cloned().ok_or_else(|| LayerError::NoSuchSnapshot(name.to_string()))
    }

    /// The root of the merged tree takes its attributes from the upper directory, so those of the parent are copied; without
    /// one it belongs to root in containers.
    fn make_dirs(
        &self,
        place: &Path,
        parent_root: Option<&PathBuf>,
        purpose: Purpose,
    ) -> Result<(), LayerError> {
        let mkdir = |path: &Path, mode: u32| {
            fs::DirBuilder::new().mode(mode).create(path).map_err(LayerError::io("create", path))
        };
        let chown = |path: &Path, (uid, gid): (u32, u32)| {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .map_err(LayerError::io("set the owner of", path))
        };
        let upper = place.join(FS);
        mkdir(place, 0o711)?;
        if let Purpose::LimitedContainer(bytes) = purpose {
            // Before anything is in it: what is made from now on belongs to the project too.
            let quotas = self.quotas.as_ref().ok_or(LayerError::NoQuotas)?;
            quotas.limit(place, bytes).map_err(LayerError::io("limit", place))?;
        }
        mkdir(&upper, 0o755)?;
        if !self.ids.is_identity() {
            chown(&upper, self.ids.root())?;
        }
        if purpose == Purpose::Layer {
            return Ok(());
        }
        mkdir(&place.join(WORK), 0o700)?;
        let Some(parent_root) = parent_root else { return Ok(()) };
        let attributes = fs::metadata(parent_root).map_err(LayerError::io("look at", parent_root))?;
        chown(&upper, (attributes.uid(), attributes.gid()))?;
        fs::set_permissions(&upper, fs::Permissions::from_mode(attributes.mode() & 0o7777))
            .map_err(LayerError::io("set the mode of", &upper))
    }

    fn discard(&self, place: &Path) -> Result<(), LayerError> {
        let Some(number) = place.file_name() else { return Ok(()) };
        let trashed = self.root.join(TRASH).join(number);
        match fs::rename(place, &trashed) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The operator has made all of the data root one project, which nothing of another can be moved into.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                remove_project(place, self.quotas.as_deref());
                return Ok(());
            }
            Err(source) => return Err(LayerError::io("remove", place)(source)),
        }
        // The thread lives as long as `self`; were it gone, the next boot would empty the trash.
        let _ = self.trash.send(trashed);
        Ok(())
    }
}

impl Snapshotter for Overlayfs {
    fn prepare(
        &self,
        key: &SnapshotKey,
        parent: Option<ChainId>,
        purpose: Purpose,
    ) -> Result<(Stack, Batch), LayerError> {
        let name = SnapshotName::Active(key.clone());
        let below = self.lowers(parent)?;
        let record = {
            let mut table = self.table();
            if table.snapshots.contains_key(&name) {
                return Err(LayerError::Exists(name.to_string()));
            }
            table.last_dir += 1;
            let record = SnapshotRecord {
                dir: table.last_dir,
                parent,
                created: Timestamp::now(),
                usage: None,
                unsynced_since_boot: None,
            };
            table.snapshots.insert(name.clone(), record.clone());
            record
        };
        let made = self
            .make_dirs(&self.place(record.dir), below.first(), purpose)
            .and_then(|()| self.active_stack(&record))
            .and_then(|stack| Ok((stack, Batch::new().put(name.to_string(), &record)?)));
        if made.is_err() {
            self.table().snapshots.remove(&name);
            let _ = self.discard(&self.place(record.dir));
        }
        made
    }

    fn stack(&self, key: &SnapshotKey) -> Result<Stack, LayerError> {
        let name = SnapshotName::Active(key.clone());
        let record = self.table().snapshots.get(&name).cloned();
        self.active_stack(&record.ok_or_else(|| LayerError::NoSuchSnapshot(name.to_string()))?)
    }

    fn lowers(&self, chain: Option<ChainId>) -> Result<Vec<PathBuf>, LayerError> {
        let table = self.table();
        let mut dirs = Vec::new();
        let mut next = chain;
        while let Some(chain) = next {
            let name = SnapshotName::Committed(chain);
            let record =
                table.snapshots.get(&name).ok_or_else(|| LayerError::NoSuchSnapshot(name.to_string()))?;
            dirs.push(self.place(record.dir).join(FS));
            next = record.parent;
            if dirs.len() > MAX_LAYERS {
                return Err(LayerError::TooDeep);
            }
        }
        Ok(dirs)
    }

    fn commit(
        &self,
        key: &SnapshotKey,
        chain: ChainId,
        parent: Option<ChainId>,
        usage: Usage,
    ) -> Result<Batch, LayerError> {
        let active = SnapshotName::Active(key.clone());
        let name = SnapshotName::Committed(chain);
        let mut table = self.table();
        if let Some(parent) =
            parent.map(SnapshotName::Committed).filter(|parent| !table.snapshots.contains_key(parent))
        {
            return Err(LayerError::NoSuchSnapshot(parent.to_string()));
        }
        if table.snapshots.contains_key(&name) {
            drop(table);
            return self.remove(&active);
        }
        let mut record =
            table.snapshots.remove(&active).ok_or_else(|| LayerError::NoSuchSnapshot(active.to_string()))?;
        record.created = Timestamp::now();
        record.parent = parent;
        record.usage = Some((usage.bytes, usage.inodes));
        record.unsynced_since_boot = Some(self.boot_id.clone());
        let batch =
            Batch::new().delete::<SnapshotRecord>(active.to_string()).put(name.to_string(), &record)?;
        table.snapshots.insert(name, record);
        Ok(batch)
    }

    fn remove(&self, name: &SnapshotName) -> Result<Batch, LayerError> {
        let removed = {
            let mut table = self.table();
            if let SnapshotName::Committed(chain) = name
                && table.snapshots.values().any(|other| other.parent == Some(*chain))
            {
                return Err(LayerError::InUse(name.to_string()));
            }
            table.snapshots.remove(name)
        };
        if let Some(record) = removed {
            self.discard(&self.place(record.dir))?;
        }
        Ok(Batch::new().delete::<SnapshotRecord>(name.to_string()))
    }

    fn usage(&self, name: &SnapshotName) -> Result<Usage, LayerError> {
        let record = self.table().snapshots.get(name).cloned();
        let record = record.ok_or_else(|| LayerError::NoSuchSnapshot(name.to_string()))?;
        match record.usage() {
            Some(usage) => Ok(usage),
            None => diff::usage(&self.place(record.dir).join(FS)),
        }
    }

    fn stat(&self, name: &SnapshotName) -> Option<Snapshot> {
        self.table().snapshots.get(name).map(snapshot)
    }

    fn list(&self) -> Vec<(SnapshotName, Snapshot)> {
        self.table().snapshots.iter().map(|(name, record)| (name.clone(), snapshot(record))).collect()
    }

    fn has_limits(&self) -> bool {
        self.quotas.is_some()
    }

    fn sync(&self) -> Result<Batch, LayerError> {
        let unsynced: Vec<SnapshotName> = self
            .table()
            .snapshots
            .iter()
            .filter(|(_, record)| record.unsynced_since_boot.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        if unsynced.is_empty() {
            return Ok(Batch::new());
        }
        let dir = fs::File::open(&self.root).map_err(LayerError::io("open", &self.root))?;
        rustix::fs::syncfs(&dir).map_err(LayerError::io("write to disk all of", &self.root))?;
        let mut table = self.table();
        unsynced.into_iter().try_fold(Batch::new(), |batch, name| match table.snapshots.get_mut(&name) {
            Some(record) => {
                record.unsynced_since_boot = None;
                Ok(batch.put(name.to_string(), record)?)
            }
            // Removed meanwhile.
            None => Ok(batch),
        })
    }
}

fn snapshot(record: &SnapshotRecord) -> Snapshot {
    Snapshot { parent: record.parent, usage: record.usage(), created: record.created }
}

/// Moves numbered directories without a record into the trash. Returns the highest number in sight.
fn sweep(root: &Path, snapshots: &BTreeMap<SnapshotName, SnapshotRecord>) -> Result<u64, LayerError> {
    let mut last_dir = snapshots.values().map(|record| record.dir).max().unwrap_or(0);
    let known: std::collections::BTreeSet<u64> = snapshots.values().map(|record| record.dir).collect();
    for entry in fs::read_dir(root).map_err(LayerError::io("list", root))? {
        let entry = entry.map_err(LayerError::io("list", root))?;
        let Some(number) = number(&entry.file_name()) else { continue };
        last_dir = last_dir.max(number);
        if !known.contains(&number) {
            let path = entry.path();
            let trashed = root.join(TRASH).join(number.to_string());
            fs::rename(&path, trashed).map_err(LayerError::io("remove", &path))?;
        }
    }
    let trash = root.join(TRASH);
    for entry in fs::read_dir(&trash).map_err(LayerError::io("list", &trash))?.flatten() {
        last_dir = last_dir.max(number(&entry.file_name()).unwrap_or(0));
    }
    Ok(last_dir)
}

fn number(name: &OsStr) -> Option<u64> {
    name.to_str()?.parse().ok()
}

/// The thread that frees space: first what earlier runs left, then what is thrown away. Owned by the [`Overlayfs`],
/// ends with it; a failure is logged and tried again at the next boot.
fn empty_trash(trash: &Path, thrown_away: &mpsc::Receiver<PathBuf>, quotas: Option<&ProjectQuotas>) {
    let leftovers = fs::read_dir(trash).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in leftovers.chain(thrown_away.iter()) {
        remove_project(&path, quotas);
    }
}

/// Removes a directory, then lets go of its project if it is one.
fn remove_project(path: &Path, quotas: Option<&ProjectQuotas>) {
    let project = quotas.and_then(|quotas| Some((quotas, quotas.project_of(path)?)));
    match fs::remove_dir_all(path) {
        Ok(()) => {}
        // A leftover can also have been announced.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), error = %ErrorChain(&error), "a removed layer still takes up space");
            return;
        }
    }
    if let Some((quotas, project)) = project
        && let Err(error) = quotas.forget(project)
    {
        tracing::warn!(project, error = %ErrorChain(&error), "the limit of a removed container stays");
    }
}
