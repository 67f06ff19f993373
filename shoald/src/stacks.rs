//! What every thread of the daemon is doing, written to a file when the operator asks (SIGUSR1).
//!
//! Start reading at [`write()`]. The kernel knows where a thread waits; where an async task waits, only the log of the
//! daemon in debug mode tells. For a daemon that does not answer this shows whether it hangs in the kernel (a dead disk, a
//! frozen cgroup) or waits for work.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the kernel says of a thread, file by file; those that it does not have are left out.
const FILES: [&str; 4] = ["wchan", "syscall", "status", "stack"];
/// Lines of `status` that matter.
const STATUS: [&str; 3] = ["State", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];

/// Writes the stacks of all threads below `directory`, in place of those that were written before. Returns the file.
pub(crate) fn write(directory: &Path) -> io::Result<PathBuf> {
    let path = directory.join("shoald-stacks.log");
    fs::write(&path, describe(Path::new("/proc/self/task"))?)?;
    Ok(path)
}

fn describe(threads: &Path) -> io::Result<String> {
    let mut text = String::new();
    for thread in fs::read_dir(threads)? {
        let thread = thread?.path();
        let read = |name: &str| fs::read_to_string(thread.join(name)).unwrap_or_default();
        let id = thread.file_name().unwrap_or_default().to_string_lossy();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "thread {id} {}", read("comm").trim());
        for name in FILES {
            let content = read(name);
            let lines = content
                .lines()
                .filter(|line| name != "status" || STATUS.iter().any(|wanted| line.starts_with(wanted)));
            for line in lines {
                let _ = writeln!(text, "  {name}: {line}");
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_is_described() {
        let dir = tempfile::tempdir().unwrap();
        let text = fs::read_to_string(write(dir.path()).unwrap()).unwrap();
        let own = rustix::thread::gettid().as_raw_nonzero();
        assert!(text.contains(&format!("thread {own} ")), "{text}");
        assert!(text.contains("status: State"), "{text}");
    }
}
