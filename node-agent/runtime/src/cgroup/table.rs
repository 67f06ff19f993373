//! Counters that the kernel gives by name, as in `memory.stat`.
//!
//! Start reading at [`CounterTable`]. Pure.

use std::sync::Arc;

/// Counters by name, in the kernel's order. Tables that were read from one file share their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CounterTable {
    names: Names,
    figures: Vec<u64>,
}

/// The names of a table: they are the same each time, and made once.
pub(crate) type Names = Arc<[Box<str>]>;

impl CounterTable {
    /// Reads the lines `key value` of a text; others are left out. `names` are those of the table before.
    pub(crate) fn parse(text: &str, names: &mut Names) -> Self {
        let mut figures = Vec::with_capacity(names.len());
        let mut known = names.iter();
        let mut is_known = true;
        for (key, figure) in lines(text) {
            is_known &= known.next().is_some_and(|name| **name == *key);
            figures.push(figure);
        }
        if !is_known || known.next().is_some() {
            *names = lines(text).map(|(key, _)| Box::from(key)).collect();
        }
        Self { names: Arc::clone(names), figures }
    }

    /// Names and counters.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.names.iter().map(AsRef::as_ref).zip(self.figures.iter().copied())
    }

    /// How many counters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.figures.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.figures.is_empty()
    }
}

/// Finds a counter in such a text; zero without it.
pub(crate) fn entry(text: &str, key: &str) -> u64 {
    lines(text).find(|(name, _)| *name == key).map_or(0, |(_, value)| value)
}

fn lines(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_whole() {
        let text = "nr_periods 3\nnr_throttled 2\nbroken\nthrottled_time 9\n";
        assert_eq!(entry(text, "nr_throttled"), 2);
        assert_eq!(entry(text, "nr"), 0);
    }

    #[test]
    fn a_table_has_the_names_of_the_one_before_as_long_as_they_are_the_same() {
        let mut names = Names::default();
        let mut read = |text: &str| CounterTable::parse(text, &mut names);
        let first = read("cache 3\nbroken\nrss 2\n");
        let second = read("cache 4\nrss 5\n");
        assert_eq!(first.iter().collect::<Vec<_>>(), [("cache", 3), ("rss", 2)]);
        assert_eq!(second.iter().collect::<Vec<_>>(), [("cache", 4), ("rss", 5)]);
        assert!(Arc::ptr_eq(&first.names, &second.names));
        for other in [&[("cache", 1), ("swap", 1), ("rss", 1)][..], &[("cache", 1)], &[("swap", 1)], &[]] {
            let text: String = other.iter().map(|(name, figure)| format!("{name} {figure}\n")).collect();
            let table = read(&text);
            assert_eq!(table.iter().collect::<Vec<_>>(), other);
            assert_eq!((table.len(), table.is_empty()), (other.len(), other.is_empty()));
        }
    }
}
