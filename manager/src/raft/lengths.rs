//! How many bytes of the disk each part of the log takes. Pure.
//!
//! Start reading at [`Lengths`]. It is kept beside the log by `log.rs`; `compaction.rs` asks.

use std::collections::BTreeMap;

/// How long the log is, entry by entry.
#[derive(Debug, Clone, Default)]
pub(super) struct Lengths {
    /// Where each entry ends, counted from somewhere before the first.
    ends: BTreeMap<u64, u64>,
    /// Where the first begins.
    begin: u64,
}

impl Lengths {
    /// Notes an entry; those from its index on are replaced by it.
    pub(super) fn push(&mut self, index: u64, bytes: usize) {
        self.truncate(index);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.ends.insert(index, self.end().saturating_add(bytes));
    }

    /// Forgets entries from this index on.
    pub(super) fn truncate(&mut self, from: u64) {
        self.ends.split_off(&from);
    }

    /// Forgets entries up to this index.
    pub(super) fn purge(&mut self, up_to: u64) {
        let begin = self.end_of(up_to);
        self.ends = self.ends.split_off(&up_to.saturating_add(1));
        self.begin = begin;
    }

    /// Bytes of the entries after this index.
    pub(super) fn after(&self, index: u64) -> u64 {
        self.end().saturating_sub(self.end_of(index))
    }

    /// The first index after which there are no more than so many bytes; 0 if there are no more in the whole log.
    pub(super) fn leaving(&self, bytes: u64) -> u64 {
        let begin = self.end().saturating_sub(bytes);
        if begin <= self.begin {
            return 0;
        }
        // From the end, because what is left is little.
        let left = self.ends.iter().rev().take_while(|(_, end)| **end >= begin);
        left.last().map_or(0, |(index, _)| *index)
    }

    fn end(&self) -> u64 {
        self.ends.last_key_value().map_or(self.begin, |(_, end)| *end)
    }

    fn end_of(&self, index: u64) -> u64 {
        self.ends.range(..=index).next_back().map_or(self.begin, |(_, end)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_what_is_appended_replaced_and_forgotten() {
        let mut lengths = Lengths::default();
        assert_eq!((lengths.after(0), lengths.leaving(10)), (0, 0));
        for (index, bytes) in [(5, 100), (6, 10), (7, 20), (8, 30)] {
            lengths.push(index, bytes);
        }
        assert_eq!([0, 4, 5, 7, 8, 9].map(|index| lengths.after(index)), [160, 160, 60, 30, 0, 0]);
        assert_eq!(
            [200, 160, 159, 60, 59, 30, 29, 0].map(|bytes| lengths.leaving(bytes)),
            [0, 0, 5, 5, 6, 7, 8, 8]
        );
        lengths.purge(5);
        assert_eq!((lengths.after(0), lengths.after(6)), (60, 50));
        assert_eq!([60, 59].map(|bytes| lengths.leaving(bytes)), [0, 6]);
        lengths.push(7, 1);
        assert_eq!((lengths.after(0), lengths.after(7)), (11, 0), "what came after the seventh is gone");
        lengths.truncate(0);
        lengths.push(9, 4);
        assert_eq!(lengths.after(0), 4);
    }
}
