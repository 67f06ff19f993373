//! PURE. Who is called what: ids, names, and the look-up that Docker's clients expect.
//!
//! Start reading at [`Index::find`]. A name is reserved before anything is made of a container and freed when that fails.
//! The index is generic over what it finds, so that its rules are tested without containers.

use std::collections::{BTreeMap, HashMap};

use shoal_types::ContainerId;

use crate::error::NodeError;

/// Ids, names and what they lead to.
#[derive(Debug)]
pub(crate) struct Index<T> {
    by_id: BTreeMap<ContainerId, T>,
    /// Names without slash.
    by_name: HashMap<String, ContainerId>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), by_name: HashMap::new() }
    }
}

impl<T> Index<T> {
    /// Takes a name for a container that may not exist yet.
    pub(crate) fn reserve(&mut self, name: &str, id: ContainerId) -> Result<(), NodeError> {
        match self.by_name.get(name) {
            Some(owner) if *owner != id => Err(NodeError::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
            ))),
            Some(_) | None => {
                self.by_name.insert(name.to_owned(), id);
                Ok(())
            }
        }
    }

    /// Gives a name back, if it is this container's.
    pub(crate) fn release(&mut self, name: &str, id: ContainerId) {
        if self.by_name.get(name) == Some(&id) {
            self.by_name.remove(name);
        }
    }

    /// Makes a container known under its id.
    pub(crate) fn insert(&mut self, id: ContainerId, entry: T) {
        self.by_id.insert(id, entry);
    }

    /// Forgets a container; its names are released by [`Self::release`].
    pub(crate) fn remove(&mut self, id: ContainerId) -> Option<T> {
        self.by_id.remove(&id)
    }

    /// One container by its whole id.
    pub(crate) fn get(&self, id: ContainerId) -> Option<&T> {
        self.by_id.get(&id)
    }

    /// One container by whole id, exact name (with or without slash), or unique prefix of its id, in that order.
    pub(crate) fn find(&self, text: &str) -> Result<&T, NodeError> {
        if text.is_empty() {
            return Err(NodeError::invalid("invalid name or ID supplied: \"\""));
        }
        if let Some(entry) = text.parse::<ContainerId>().ok().and_then(|id| self.by_id.get(&id)) {
            return Ok(entry);
        }
        if let Some(entry) = self.by_name(text) {
            return Ok(entry);
        }
        self.by_prefix(text)
    }

    /// All of them, ordered by id.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &T> {
        self.by_id.values()
    }

    fn by_name(&self, text: &str) -> Option<&T> {
        let name = text.strip_prefix('/').unwrap_or(text);
        self.by_name.get(name).and_then(|id| self.by_id.get(id))
    }

    fn by_prefix(&self, text: &str) -> Result<&T, NodeError> {
        let missing = || NodeError::NoSuchContainer(text.to_owned());
        let (first, last) = range_of(text).ok_or_else(missing)?;
        let mut matches = self.by_id.range(first..=last);
        match (matches.next(), matches.next()) {
            (Some((_, entry)), None) => Ok(entry),
            (Some(_), Some(_)) => Err(NodeError::AmbiguousContainer(text.to_owned())),
            (None, _) => Err(missing()),
        }
    }
}

/// The smallest and the largest id that begin with these hex digits.
fn range_of(prefix: &str) -> Option<(ContainerId, ContainerId)> {
    const N_DIGITS: usize = 64;
    if prefix.len() > N_DIGITS
        || prefix.bytes().any(|byte| !byte.is_ascii_hexdigit() || byte.is_ascii_uppercase())
    {
        return None;
    }
    let padded = |digit: &str| format!("{prefix}{}", digit.repeat(N_DIGITS - prefix.len())).parse().ok();
    Some((padded("0")?, padded("f")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8, second: u8) -> ContainerId {
        let mut bytes = [0x11; 32];
        (bytes[0], bytes[1]) = (first, second);
        ContainerId::from_bytes(bytes)
    }

    fn index() -> Index<&'static str> {
        let mut index = Index::default();
        for (id, name) in [(id(0xab, 0xc1), "web"), (id(0xab, 0xd2), "db"), (id(0xcd, 0x00), "abc")] {
            index.reserve(name, id).unwrap();
            index.insert(id, name);
        }
        index.reserve("web/cache", id(0xab, 0xd2)).unwrap();
        index
    }

    #[test]
    fn ids_come_before_names_and_names_before_prefixes() {
        let index = index();
        let whole = id(0xab, 0xc1).to_string();
        let cases = [
            (whole.as_str(), "web"),
            ("web", "web"),
            ("/web", "web"),
            ("web/cache", "db"),
            ("/web/cache", "db"),
            ("abc", "abc"),
            ("abc1", "web"),
            ("abd", "db"),
            ("c", "abc"),
        ];
        for (text, expected) in cases {
            assert_eq!(index.find(text).unwrap(), &expected, "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_ambiguous_is_said_with_dockers_words() {
        let index = index();
        let cases = [
            ("", "invalid name or ID supplied: \"\""),
            ("ab", "multiple IDs found with provided prefix: ab"),
            ("ffff", "No such container: ffff"),
            ("ABC1", "No such container: ABC1"),
            ("nope", "No such container: nope"),
        ];
        for (text, message) in cases {
            assert_eq!(index.find(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_taken_name_is_refused_until_its_owner_gives_it_back() {
        let mut index = index();
        let (owner, other) = (id(0xab, 0xc1), id(0xee, 0));
        let message = index.reserve("web", other).unwrap_err().to_string();
        assert_eq!(
            message,
            format!(
                "Conflict. The container name \"/web\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
            )
        );
        index.release("web", other);
        assert!(index.reserve("web", other).is_err());
        index.release("web", owner);
        index.reserve("web", other).unwrap();
    }

    #[test]
    fn a_reserved_name_leads_nowhere_until_its_container_exists() {
        let mut index = index();
        index.reserve("soon", id(0xee, 0)).unwrap();
        assert!(matches!(index.find("soon"), Err(NodeError::NoSuchContainer(_))));
    }
}
