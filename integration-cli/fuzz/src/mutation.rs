//! Changes seeds. PURE: the same seeds and the same number give the same inputs.
//!
//! Start reading at [`Mutator::next_input`].

/// Bytes at which parsers turn: ends, signs, quotes, separators, the edges of numbers.
const TURNS: &[u8] = b"\0\x01\x7f\x80\xff \t\r\n\"'\\/.,:;=@+-_{}[]()<>%#*!|0179aAzZ";
/// Texts at which they turn.
const WORDS: &[&[u8]] = &[
    b"0",
    b"-1",
    b"127",
    b"128",
    b"255",
    b"256",
    b"32768",
    b"65535",
    b"65536",
    b"2147483647",
    b"2147483648",
    b"4294967295",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"18446744073709551615",
    b"1e309",
    b"0.0000000001",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"\"\"",
    b"..",
    b"../",
    b"//",
    b"\xc3\xa9",
    b"\xf0\x9f\xa6\x80",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\\u0000",
    b"\\ud800",
    b"%00",
    b"99999999999h",
    b"1kb",
    b"1.5e3",
];
/// How many changes one input has at most.
const MOST_CHANGES: usize = 8;
/// The longest piece that is repeated or taken out at once.
const LONGEST_PIECE: usize = 64;

/// Makes inputs out of seeds.
#[derive(Debug)]
pub(crate) struct Mutator<'a> {
    seeds: &'a [&'a [u8]],
    state: u64,
    input: Vec<u8>,
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(seeds: &'a [&'a [u8]], number: u64) -> Self {
        Self { seeds, state: number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, input: Vec::new() }
    }

    /// A seed with some changes; every now and then there is no seed at all.
    pub(crate) fn next_input(&mut self, max_len: usize) -> &[u8] {
        let seed = self.pick_seed();
        self.input.clear();
        if self.below(50) > 0 {
            self.input.extend_from_slice(seed);
        }
        for _ in 0..=self.below(MOST_CHANGES) {
            self.change();
        }
        self.input.truncate(max_len);
        &self.input
    }

    fn change(&mut self) {
        let at = self.below(self.input.len() + 1);
        let turn = TURNS[self.below(TURNS.len())];
        let word = WORDS[self.below(WORDS.len())];
        match self.below(10) {
            0 => self.overwrite(at, |byte| byte ^ 1),
            1 => {
                let bit = self.below(8);
                self.overwrite(at, |byte| byte ^ (1 << bit));
            }
            2 => self.overwrite(at, |_| turn),
            3 => self.input.insert(at, turn),
            4 => {
                let end = self.end_of_piece(at);
                self.input.drain(at..end);
            }
            5 => {
                let end = self.end_of_piece(at);
                let piece = self.input[at..end].to_vec();
                let times = 1 + self.below(16);
                self.insert(at, &piece.repeat(times));
            }
            6 => self.insert(at, word),
            7 => {
                let end = self.end_of_piece(at);
                self.input.splice(at..end, word.iter().copied());
            }
            8 => self.input.truncate(at),
            _ => {
                let other = self.pick_seed();
                let from = self.below(other.len() + 1);
                self.input.truncate(at);
                self.input.extend_from_slice(&other[from..]);
            }
        }
    }

    fn overwrite(&mut self, at: usize, change: impl Fn(u8) -> u8) {
        if let Some(byte) = self.input.get_mut(at) {
            *byte = change(*byte);
        }
    }

    fn insert(&mut self, at: usize, piece: &[u8]) {
        self.input.splice(at..at, piece.iter().copied());
    }

    fn end_of_piece(&mut self, at: usize) -> usize {
        at + self.below((self.input.len() - at).min(LONGEST_PIECE) + 1)
    }

    fn pick_seed(&mut self) -> &'a [u8] {
        let which = self.below(self.seeds.len());
        self.seeds.get(which).copied().unwrap_or_default()
    }

    /// A number below `limit` that looks random (xorshift64*); 0 if there is none.
    fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let drawn = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(drawn).unwrap_or_default() % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_the_same_in_every_run_and_differ_from_each_other() {
        let inputs = |number| {
            let mut mutator = Mutator::new(&[b"one", b"two=2"], number);
            (0..100).map(|_| mutator.next_input(1000).to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        let mut distinct = inputs(1);
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > 80, "{}", distinct.len());
    }

    #[test]
    fn no_seeds_are_no_obstacle() {
        let mut mutator = Mutator::new(&[], 3);
        for _ in 0..1000 {
            assert!(mutator.next_input(100).len() <= 100);
        }
    }
}
