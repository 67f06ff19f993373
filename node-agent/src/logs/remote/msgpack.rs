//! PURE. As much of MessagePack as Fluentd's forward protocol needs.
//!
//! Start reading at [`Writer`]. Reading is for receipts alone.

/// Writes values one after the other.
#[derive(Debug)]
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    /// Begins a list of so many values, fewer than 16.
    pub(super) fn list(&mut self, n_values: u8) {
        self.0.push(0x90 | (n_values & 0x0f));
    }

    /// Begins a map of so many pairs.
    pub(super) fn map(&mut self, n_pairs: usize) {
        match (u8::try_from(n_pairs), u16::try_from(n_pairs)) {
            (Ok(small @ 0..16), _) => self.0.push(0x80 | small),
            (_, Ok(medium)) => self.head(0xde, &medium.to_be_bytes()),
            _ => self.head(0xdf, &u32::try_from(n_pairs).unwrap_or(u32::MAX).to_be_bytes()),
        }
    }

    /// A text, or bytes that should be one: the receiver sorts that out, as it has to with dockerd.
    pub(super) fn text(&mut self, text: &[u8]) {
        match (u8::try_from(text.len()), u16::try_from(text.len())) {
            (Ok(short @ 0..32), _) => self.0.push(0xa0 | short),
            (Ok(short), _) => self.head(0xd9, &[short]),
            (_, Ok(medium)) => self.head(0xda, &medium.to_be_bytes()),
            _ => self.head(0xdb, &u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes()),
        }
        self.0.extend_from_slice(text);
    }

    /// A whole number.
    pub(super) fn integer(&mut self, number: i64) {
        self.head(0xd3, &number.to_be_bytes());
    }

    /// Fluentd's time with nanoseconds: extension type 0 of eight bytes.
    pub(super) fn event_time(&mut self, seconds: i64, nanoseconds: i32) {
        // The protocol has 32 bits for seconds, which last until 2106.
        let seconds = u32::try_from(seconds).unwrap_or_default();
        self.head(0xd7, &[0]);
        self.0.extend_from_slice(&seconds.to_be_bytes());
        self.0.extend_from_slice(&nanoseconds.to_be_bytes());
    }

    fn head(&mut self, mark: u8, rest: &[u8]) {
        self.0.push(mark);
        self.0.extend_from_slice(rest);
    }
}

/// What a look at received bytes has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Receipt<'a> {
    /// `{"ack": TEXT}`, and how many bytes it took.
    Whole(&'a str, usize),
    /// There is more to come.
    Incomplete,
    /// Something else.
    Nonsense,
}

/// Reads a receipt from the beginning of what was received.
pub(super) fn receipt(bytes: &[u8]) -> Receipt<'_> {
    let Some((&0x81, rest)) = bytes.split_first() else {
        return if bytes.is_empty() { Receipt::Incomplete } else { Receipt::Nonsense };
    };
    let (key, rest) = match text(rest) {
        Ok(read) => read,
        Err(receipt) => return receipt,
    };
    if key != "ack" {
        return Receipt::Nonsense;
    }
    match text(rest) {
        Ok((value, rest)) => Receipt::Whole(value, bytes.len() - rest.len()),
        Err(receipt) => receipt,
    }
}

fn text(bytes: &[u8]) -> Result<(&str, &[u8]), Receipt<'_>> {
    let (&mark, rest) = bytes.split_first().ok_or(Receipt::Incomplete)?;
    let (len, rest) = match mark {
        0xa0..=0xbf => (usize::from(mark & 0x1f), rest),
        // str 8, bin 8
        0xd9 | 0xc4 => {
            let (&len, rest) = rest.split_first().ok_or(Receipt::Incomplete)?;
            (usize::from(len), rest)
        }
        _ => return Err(Receipt::Nonsense),
    };
    let (text, rest) = rest.split_at_checked(len).ok_or(Receipt::Incomplete)?;
    std::str::from_utf8(text).map(|text| (text, rest)).map_err(|_| Receipt::Nonsense)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_shortest_form_that_holds_them() {
        let written = |write: &dyn Fn(&mut Writer<'_>)| {
            let mut bytes = Vec::new();
            write(&mut Writer(&mut bytes));
            bytes
        };
        assert_eq!(written(&|w| w.text(b"abc")), b"\xa3abc");
        assert_eq!(written(&|w| w.text(&[b'x'; 40]))[..2], [0xd9, 40]);
        assert_eq!(written(&|w| w.text(&[b'x'; 300]))[..3], [0xda, 1, 44]);
        assert_eq!(written(&|w| w.text(&[b'x'; 70_000]))[..5], [0xdb, 0, 1, 0x11, 0x70]);
        assert_eq!(written(&|w| w.map(2)), [0x82]);
        assert_eq!(written(&|w| w.map(20)), [0xde, 0, 20]);
        assert_eq!(written(&|w| w.event_time(1, 2)), [0xd7, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(written(&|w| w.integer(-1)), [0xd3, 255, 255, 255, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn receipts_are_read_when_they_are_whole() {
        let whole = b"\x81\xa3ack\xa4AbC=rest";
        assert_eq!(receipt(whole), Receipt::Whole("AbC=", 10));
        for len in 0..10 {
            assert_eq!(receipt(&whole[..len]), Receipt::Incomplete, "{len}");
        }
        assert_eq!(receipt(b"\x82"), Receipt::Nonsense);
        assert_eq!(receipt(b"\x81\xa3nak\xa1x"), Receipt::Nonsense);
    }
}
