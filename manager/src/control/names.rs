//! Names for services that were given none: two words, as Docker does.
//!
//! Start reading at [`draw`].

use rand::seq::IndexedRandom as _;

const QUALITIES: [&str; 32] = [
    "agile", "amber", "brave", "bright", "calm", "clever", "coral", "deep", "eager", "early", "fair",
    "gentle", "glad", "golden", "happy", "keen", "kind", "lively", "lucid", "merry", "noble", "patient",
    "pearly", "quick", "quiet", "serene", "silver", "steady", "swift", "tidal", "vivid", "warm",
];

const FISH: [&str; 32] = [
    "anchovy", "barbel", "bleak", "bream", "brill", "capelin", "carp", "char", "cod", "dab", "eel", "goby",
    "grayling", "gudgeon", "haddock", "hake", "halibut", "herring", "ling", "loach", "mackerel", "minnow",
    "mullet", "perch", "pike", "plaice", "roach", "salmon", "sardine", "sprat", "tench", "trout",
];

/// A name that `is_free` accepts.
pub(super) fn draw(is_free: impl Fn(&str) -> bool) -> String {
    let mut rng = rand::rng();
    let mut attempt = 0_u32;
    loop {
        let quality = QUALITIES.choose(&mut rng).copied().unwrap_or("calm");
        let fish = FISH.choose(&mut rng).copied().unwrap_or("cod");
        // After a few collisions a number makes it unlike any other.
        let name = match attempt {
            0..8 => format!("{quality}_{fish}"),
            _ => format!("{quality}_{fish}{attempt}"),
        };
        if is_free(&name) {
            return name;
        }
        attempt = attempt.saturating_add(1);
    }
}
