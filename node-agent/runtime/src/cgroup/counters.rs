//! The counters of one cgroup, for whoever reads them again and again.
//!
//! Start reading at [`Counters::read`]. What the figures mean is in `readings.rs`, which files they stand in in `v1.rs` and
//! `v2.rs`. This does not watch for the end of a cgroup: of one that is gone every reading is empty.

use super::files::OpenFiles;
use super::readings::Readings;
use super::{Cgroup, Directory, v1, v2};

/// Reads the counters of one cgroup, each of whose files is opened once. Holds up to [`Counters::MOST_FILES`] descriptors,
/// which do not keep the cgroup from being removed.
#[derive(Debug)]
pub struct Counters {
    layout: Layout,
}

#[derive(Debug)]
enum Layout {
    Unified(OpenFiles),
    Legacy(Box<LegacyFiles>),
}

/// A directory for each controller that counts; `None` where the host lacks it.
#[derive(Debug)]
struct LegacyFiles {
    cpuacct: Option<OpenFiles>,
    cpu: Option<OpenFiles>,
    memory: Option<OpenFiles>,
    pids: Option<OpenFiles>,
    blkio: Option<OpenFiles>,
}

impl Counters {
    /// The most files that are open at a time.
    pub const MOST_FILES: usize = 16;

    /// Takes the directories of a cgroup, which need not exist.
    #[must_use]
    pub fn of(cgroup: &Cgroup) -> Self {
        if let (true, Some(unified)) = (cgroup.is_unified(), cgroup.unified()) {
            return Self { layout: Layout::Unified(OpenFiles::of(unified.path())) };
        }
        let files = |controller: &str| {
            let found = cgroup.legacy().iter().find(|directory| directory.has(controller));
            found.map(Directory::path).map(OpenFiles::of)
        };
        Self {
            layout: Layout::Legacy(Box::new(LegacyFiles {
                cpuacct: files("cpuacct"),
                cpu: files("cpu"),
                memory: files("memory"),
                pids: files("pids"),
                blkio: files("blkio"),
            })),
        }
    }

    /// Reads all of them as they are now.
    pub fn read(&mut self) -> Readings {
        match &mut self.layout {
            Layout::Unified(files) => Readings {
                cpu: v2::read_cpu(files),
                memory: v2::read_memory(files),
                pids: v1::read_pids(files),
                blkio: v2::read_io(files),
            },
            Layout::Legacy(files) => Readings {
                cpu: v1::read_cpu(files.cpuacct.as_mut(), files.cpu.as_mut()),
                memory: files.memory.as_mut().map(v1::read_memory).unwrap_or_default(),
                pids: files.pids.as_mut().map(v1::read_pids).unwrap_or_default(),
                blkio: files.blkio.as_mut().map(v1::read_blkio).unwrap_or_default(),
            },
        }
    }
}
