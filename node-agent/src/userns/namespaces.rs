//! The namespaces of a container that have to be there before it: its user namespace, and its network namespace, which
//! belongs to it.
//!
//! Start reading at [`NamespaceMaker::network`]. A process with threads cannot enter a user namespace, so a helper (this
//! program again, see `node_runtime::hold_namespaces`) makes them and holds them until they are open here. Nothing is
//! pinned by name: a network namespace keeps its user namespace.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{IdMapping, IdRange};

/// The command of the helper.
pub const HELPER: &str = "namespaces";

/// Makes namespaces with a mapping.
#[derive(Debug, Clone)]
pub struct NamespaceMaker {
    program: PathBuf,
    ids: IdMapping,
}

impl NamespaceMaker {
    /// Namespaces with this mapping, made by the program that runs.
    pub fn new(ids: IdMapping) -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), ids }
    }

    /// Makes a network namespace that belongs to a new user namespace, or to that of a process. Blocks for some
    /// milliseconds.
    pub fn network(&self, peer: Option<u32>) -> io::Result<OwnedFd> {
        let mut helper = self.start(peer)?;
        let made = self.take(&mut helper, peer);
        // The end of its input ends it.
        drop(helper.stdin.take());
        helper.wait()?;
        made
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "it must neither be killed nor waited for like a helper program: its namespaces are taken while it stands still"
    )]
    fn start(&self, peer: Option<u32>) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg(HELPER);
        if let Some(peer) = peer {
            command.arg(format!("/proc/{peer}/ns/user"));
        }
        command.env_clear().current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    }

    fn take(&self, helper: &mut Child, peer: Option<u32>) -> io::Result<OwnedFd> {
        let mut told = Vec::new();
        if let Some(output) = helper.stdout.as_mut() {
            output.take(1).read_to_end(&mut told)?;
        }
        if told.is_empty() {
            return Err(io::Error::other("the helper could not make namespaces"));
        }
        let process = Path::new("/proc").join(helper.id().to_string());
        if peer.is_none() {
            fs::write(process.join("uid_map"), lines(self.ids.users()))?;
            fs::write(process.join("gid_map"), lines(self.ids.groups()))?;
        }
        fs::File::open(process.join("ns/net")).map(OwnedFd::from)
    }
}

/// The form of `/proc/PID/uid_map` (user_namespaces(7)). All of it has to be written at once.
fn lines(ranges: &[IdRange]) -> String {
    let line = |range: &IdRange| format!("{} {} {}\n", range.inside, range.outside, range.length);
    ranges.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_written_as_the_kernel_reads_them() {
        let ranges = [
            IdRange { inside: 0, outside: 100_000, length: 10 },
            IdRange { inside: 10, outside: 7, length: 1 },
        ];
        assert_eq!(lines(&ranges), "0 100000 10\n10 7 1\n");
    }
}
