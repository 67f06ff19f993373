//! The 512 bytes before every entry. Pure.
//!
//! Start reading at [`Fields::parse`]. Layout: POSIX ustar, with GNU's numbers in base 256 and its prefix field used for
//! other things.

use super::{ArchiveError, BLOCK};

/// Fields of a header, as they stand there.
pub(super) struct Fields<'a> {
    block: &'a [u8; BLOCK],
}

/// Which dialect a header is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Before POSIX: no magic.
    V7,
    /// POSIX: a prefix for the name.
    Ustar,
    /// GNU: no prefix, but times and the map of sparse files in its place.
    Gnu,
}

impl<'a> Fields<'a> {
    /// Checks the checksum, which may be a sum of signed or of unsigned bytes, as old programs differ.
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Result<Self, ArchiveError> {
        let stored = number(&block[148..156]).ok_or(ArchiveError::Header)?;
        let counted = |idx: usize| if (148..156).contains(&idx) { b' ' } else { block[idx] };
        let unsigned: i64 = (0..BLOCK).map(|idx| i64::from(counted(idx))).sum();
        let signed: i64 = (0..BLOCK).map(|idx| i64::from(counted(idx).cast_signed())).sum();
        if stored == unsigned || stored == signed { Ok(Self { block }) } else { Err(ArchiveError::Header) }
    }

    pub(super) fn format(&self) -> Format {
        match &self.block[257..265] {
            b"ustar  \0" => Format::Gnu,
            magic if magic.starts_with(b"ustar") => Format::Ustar,
            _ => Format::V7,
        }
    }

    pub(super) fn kind(&self) -> u8 {
        self.block[156]
    }

    /// The name, with ustar's prefix in front.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.block[..100]);
        let prefix = text(&self.block[345..500]);
        if self.format() == Format::Ustar && !prefix.is_empty() {
            [prefix, b"/", name].concat()
        } else {
            name.to_vec()
        }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.block[157..257]).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32, ArchiveError> {
        // Some programs store the file type as well.
        Ok(self.unsigned(100..108)? & 0o7777)
    }

    pub(super) fn uid(&self) -> Result<u32, ArchiveError> {
        self.unsigned(108..116)
    }

    pub(super) fn gid(&self) -> Result<u32, ArchiveError> {
        self.unsigned(116..124)
    }

    pub(super) fn size(&self) -> Result<u64, ArchiveError> {
        number(&self.block[124..136]).and_then(|size| size.try_into().ok()).ok_or(ArchiveError::Header)
    }

    pub(super) fn mtime(&self) -> Result<i64, ArchiveError> {
        number(&self.block[136..148]).ok_or(ArchiveError::Header)
    }

    pub(super) fn device(&self) -> Result<(u32, u32), ArchiveError> {
        Ok((self.unsigned(329..337)?, self.unsigned(337..345)?))
    }

    /// The map of an old GNU sparse file: four pairs, whether more follow, and the real size.
    pub(super) fn gnu_sparse(&self) -> Result<(&'a [u8], bool, u64), ArchiveError> {
        let real = number(&self.block[483..495]).and_then(|size| size.try_into().ok());
        Ok((&self.block[386..482], self.block[482] != 0, real.ok_or(ArchiveError::Header)?))
    }

    fn unsigned(&self, range: std::ops::Range<usize>) -> Result<u32, ArchiveError> {
        number(&self.block[range]).and_then(|value| value.try_into().ok()).ok_or(ArchiveError::Header)
    }
}

/// A text up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number: octal digits between spaces and NULs (none at all is 0), or two's complement in base 256 if the first bit
/// is set.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // The second bit is the sign.
        let start: i64 =
            if first & 0x40 == 0 { i64::from(first & 0x3f) } else { i64::from(first | 0xc0) - 256 };
        return field[1..]
            .iter()
            .try_fold(start, |value, byte| value.checked_mul(256)?.checked_add(i64::from(*byte)));
    }
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let digits = field[start..].split(is_padding).next().unwrap_or_default();
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Writes a number as octal digits and a NUL, or in base 256 if it does not fit.
pub(super) fn put_number(field: &mut [u8], value: u64) {
    let digits = format!("{value:0width$o}", width = field.len() - 1);
    if digits.len() < field.len() {
        field[..digits.len()].copy_from_slice(digits.as_bytes());
        field[digits.len()..].fill(0);
    } else {
        let bytes = value.to_be_bytes();
        let (head, tail) = field.split_at_mut(field.len() - bytes.len().min(field.len() - 1));
        head.fill(0);
        tail.copy_from_slice(&bytes[bytes.len() - tail.len()..]);
        field[0] |= 0x80;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        let cases: [(&[u8], Option<i64>); 11] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"00x0000\0", None),
            (b"-000001\0", None),
            (b"0000008\0", None),
        ];
        for (field, value) in cases {
            assert_eq!(number(field), value, "{field:?}");
        }
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for value in [0, 7, 0o7777, 0o7_777_777, 0o10_000_000, u64::from(u32::MAX), 1 << 40] {
            let mut field = [0xaau8; 12];
            put_number(&mut field, value);
            assert_eq!(number(&field), Some(value.cast_signed()));
        }
        let mut field = [0u8; 8];
        put_number(&mut field, u64::from(u32::MAX));
        assert_eq!(number(&field), Some(i64::from(u32::MAX)));
    }
}
