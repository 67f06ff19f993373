//! The two output streams of a process.
//!
//! Start reading at [`Stream`]. Nothing else is here; it is a word that polling, stdio, logs and their readers share.

/// One of a process' two output streams. The numbers are those of Docker's multiplexed frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output, and everything that goes to a terminal.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

impl Stream {
    /// Both, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// The name in log entries.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}
