//! PURE. Which part of a long line an entry is.
//!
//! Start reading at [`Parts::place`]. A line of more than 16 KiB is stored as several entries; receivers that can put them
//! together are told which belong to each other.

use crate::api::streams::LogSource;

/// A piece of a long line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// The same for all pieces of one line.
    pub(crate) id: u128,
    /// 1 for the first.
    pub(crate) ordinal: u32,
    /// Whether the line ends with it.
    pub(crate) position: Position,
}

/// Whether more pieces follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// They do.
    Inner,
    /// This is the last.
    Last,
}

/// The lines under way, one for each stream.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    stdout: Option<Part>,
    stderr: Option<Part>,
}

/// Whether an entry ends its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It does.
    Newline,
    /// The line goes on, or the output has ended without a newline.
    Open,
}

impl Parts {
    /// The place of the next entry of a stream; `None` of one that is a whole line. `invent` makes ids.
    pub(crate) fn place(
        &mut self,
        source: LogSource,
        ending: Ending,
        invent: impl FnOnce() -> u128,
    ) -> Option<Part> {
        let under_way = match source {
            LogSource::Stdout => &mut self.stdout,
            LogSource::Stderr => &mut self.stderr,
        };
        match (under_way.take(), ending) {
            (None, Ending::Newline) => None,
            (before, ending) => {
                let (id, ordinal) =
                    before.map_or_else(|| (invent(), 1), |before| (before.id, before.ordinal + 1));
                let position = if ending == Ending::Newline { Position::Last } else { Position::Inner };
                let part = Part { id, ordinal, position };
                *under_way = (ending == Ending::Open).then_some(part);
                Some(part)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_one_line_share_an_id_and_streams_do_not_mix() {
        let mut parts = Parts::default();
        let part = |id, ordinal, position| Some(Part { id, ordinal, position });
        assert_eq!(parts.place(LogSource::Stdout, Ending::Newline, || 1), None);
        assert_eq!(parts.place(LogSource::Stdout, Ending::Open, || 2), part(2, 1, Position::Inner));
        assert_eq!(parts.place(LogSource::Stderr, Ending::Newline, || 3), None);
        assert_eq!(parts.place(LogSource::Stdout, Ending::Open, || 4), part(2, 2, Position::Inner));
        assert_eq!(parts.place(LogSource::Stdout, Ending::Newline, || 5), part(2, 3, Position::Last));
        assert_eq!(parts.place(LogSource::Stdout, Ending::Newline, || 6), None);
    }
}
