//! Memory that nobody uses for the time being: freed pages of the heap, and pages of our own program.
//!
//! Start reading anywhere. For the daemon and for shims when they have become quiet; when that is, is theirs to say.
#![expect(unsafe_code, reason = "madvise(2) takes addresses, malloc_trim(3) is C")]

use std::ffi::c_void;

use rustix::mm::{Advice, madvise};

/// Returns the free pages of the heap to the kernel. The C library keeps most of what threads other than the first have freed
/// until it is asked.
pub fn let_go_of_heap() {
    // SAFETY: takes the allocator's own locks, and frees only what nobody uses.
    unsafe { libc::malloc_trim(0) };
}

/// Unmaps the pages of our own program. Those that an idle daemon runs on come back by themselves from the page cache, for
/// less than a microsecond each; the rest does not.
pub fn let_go_of_code() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_default();
    for range in maps.lines().filter_map(|line| unwritten_part_of(line, &program.to_string_lossy())) {
        let start = std::ptr::with_exposed_provenance_mut::<c_void>(range.start);
        // SAFETY: the range maps a file and nobody has ever written to it: its pages hold what the file holds and are read
        // again from there when they are touched (madvise(2), MADV_DONTNEED).
        // Where the kernel will not, the pages stay mapped, which costs nothing but the memory.
        let _dropped = unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) };
    }
}

/// The addresses of a line of the table of mappings (proc_pid_maps(5)) if it maps this file and was never written to: its
/// code, or its beginning, where the constants are. What is read-only further behind was relocated before it became so.
fn unwritten_part_of(line: &str, program: &str) -> Option<std::ops::Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (range, mode, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let path = fields.nth(2)?;
    let is_beginning = mode == "r--p" && offset.bytes().all(|digit| digit == b'0');
    if !(mode == "r-xp" || is_beginning) || program.is_empty() || path != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_written_to_is_let_go() {
        let part = |mode: &str, offset: &str| {
            unwritten_part_of(&format!("00400000-00452000 {mode} {offset} 08:02 173521  /bin/a"), "/bin/a")
        };
        assert_eq!(part("r-xp", "00001000"), Some(0x40_0000..0x45_2000));
        assert_eq!(part("r--p", "00000000"), Some(0x40_0000..0x45_2000));
        // Relocated, then made read-only.
        assert_eq!(part("r--p", "00052000"), None);
        assert_eq!(part("rw-p", "00053000"), None);
        assert_eq!(unwritten_part_of("00400000-00452000 r-xp 00001000 08:02 1  /bin/b", "/bin/a"), None);
        assert_eq!(unwritten_part_of("00400000-00452000 r-xp 00000000 00:00 0", ""), None);
    }

    #[test]
    fn the_program_runs_on() {
        let_go_of_code();
        assert!(std::fs::read_to_string("/proc/self/maps").is_ok_and(|maps| !maps.is_empty()));
    }
}
