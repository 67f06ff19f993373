//! PURE. Names of containers: which are allowed, and those that the engine invents.
//!
//! Start reading at [`check`] and [`invent`]. Who has a name is the index's business.

use rand::Rng;

use crate::error::NodeError;

/// What is good about it.
const ADJECTIVES: [&str; 72] = [
    "agile", "amber", "ample", "azure", "bold", "bonny", "brave", "breezy", "bright", "brisk", "calm",
    "candid", "cheery", "civil", "clear", "clever", "coral", "cosy", "crisp", "curious", "daring", "deft",
    "eager", "earnest", "easy", "fair", "fleet", "fond", "frank", "fresh", "gentle", "gleaming", "golden",
    "hardy", "hearty", "honest", "jaunty", "jolly", "keen", "kind", "limber", "lively", "loyal", "lucid",
    "mellow", "merry", "mighty", "modest", "nimble", "noble", "patient", "placid", "plucky", "polite",
    "proud", "quick", "quiet", "ready", "rosy", "sandy", "serene", "silver", "sleek", "snug", "spry",
    "steady", "sunny", "swift", "tidal", "vivid", "warm", "witty",
];

/// Those who sailed, dived, drew charts, or learnt what lives below.
const SURNAMES: [&str; 72] = [
    "agassiz",
    "amundsen",
    "anning",
    "baffin",
    "banks",
    "barentsz",
    "barton",
    "bass",
    "beaufort",
    "beebe",
    "bering",
    "bjerknes",
    "bougainville",
    "bowditch",
    "cabot",
    "carpenter",
    "carson",
    "challenger",
    "clark",
    "cook",
    "cousteau",
    "dana",
    "darwin",
    "davis",
    "drake",
    "earle",
    "ekman",
    "ewing",
    "flinders",
    "forel",
    "franklin",
    "frobisher",
    "gama",
    "haeckel",
    "hardy",
    "heezen",
    "helland",
    "henson",
    "heyerdahl",
    "hjort",
    "hudson",
    "humboldt",
    "jeannin",
    "knipovich",
    "kotzebue",
    "laperouse",
    "magellan",
    "marsigli",
    "maury",
    "mawson",
    "mercator",
    "moitessier",
    "munk",
    "murray",
    "nansen",
    "nordenskiold",
    "parry",
    "piccard",
    "polo",
    "pytheas",
    "rennell",
    "ross",
    "scoresby",
    "shackleton",
    "slocum",
    "stommel",
    "sverdrup",
    "tasman",
    "tharp",
    "thomson",
    "vancouver",
    "zarco",
];

/// Checks a name that a user has chosen and returns it without its slash.
pub(crate) fn check(name: &str) -> Result<&str, NodeError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let is_start = |c: u8| c.is_ascii_alphanumeric();
    let is_rest = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
    let mut bytes = bare.bytes();
    let is_valid = bytes.next().is_some_and(is_start) && bare.len() >= 2 && bytes.all(is_rest);
    if is_valid {
        return Ok(bare);
    }
    Err(NodeError::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

/// Invents a name. From the second attempt on it ends with a digit, because the plain one was taken.
pub(crate) fn invent(attempt: u32) -> String {
    let mut random = rand::rng();
    let mut pick = |words: &[&'static str]| words[random.random_range(0..words.len())];
    let plain = format!("{}_{}", pick(&ADJECTIVES), pick(&SURNAMES));
    if attempt == 0 { plain } else { format!("{plain}{}", random.random_range(0..10)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for (name, bare) in [("ab", "ab"), ("/web-1", "web-1"), ("a_b.c-d", "a_b.c-d"), ("0x", "0x")] {
            assert_eq!(check(name).unwrap(), bare);
        }
        for name in ["", "/", "a", "-a", "_a", ".a", "a b", "a/b", "//ab", "ä1", "a:b"] {
            let message =
                format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
            assert_eq!(check(name).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn invented_names_are_valid_and_the_words_are_sorted_and_single() {
        for attempt in 0..50 {
            let name = invent(attempt);
            assert_eq!(check(&name).unwrap(), name);
        }
        for words in [ADJECTIVES, SURNAMES] {
            assert!(words.windows(2).all(|pair| pair[0] < pair[1]), "{words:?}");
        }
    }
}
