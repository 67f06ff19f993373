//! Files with holes. Pure, but for reading the blocks that continue a map.
//!
//! Start reading at [`Extent`]. GNU tar's old form (type `S`) and its PAX form 0.1 and 1.0 are understood.

use std::io::BufRead;

use super::{ArchiveError, BLOCK, header, pax};

/// A piece of a sparse file that the archive holds; what lies between pieces is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// The most pieces that are read: a map of 16 MiB.
const MAX_EXTENTS: usize = 1 << 20;

/// Reads the map of an old GNU sparse file: what the header holds and the blocks that follow it.
pub(super) fn read_gnu(
    first: &[u8],
    mut goes_on: bool,
    source: &mut dyn BufRead,
) -> Result<Vec<Extent>, ArchiveError> {
    let mut extents = Vec::new();
    push_pairs(first, &mut extents)?;
    while goes_on {
        let mut block = [0u8; BLOCK];
        source.read_exact(&mut block)?;
        push_pairs(&block[..504], &mut extents)?;
        goes_on = block[504] != 0;
    }
    Ok(extents)
}

fn push_pairs(pairs: &[u8], extents: &mut Vec<Extent>) -> Result<(), ArchiveError> {
    for pair in pairs.chunks_exact(24) {
        if pair[0] == 0 && pair[12] == 0 {
            // An unused pair ends the map.
            return Ok(());
        }
        let field = |bytes: &[u8]| header::number(bytes).and_then(|value| u64::try_from(value).ok());
        let (Some(offset), Some(length)) = (field(&pair[..12]), field(&pair[12..])) else {
            return Err(ArchiveError::Header);
        };
        push(extents, offset, length)?;
    }
    Ok(())
}

/// Reads the map of form 0.1: `offset,length,…` in one record.
pub(super) fn parse_list(map: &[u8]) -> Result<Vec<Extent>, ArchiveError> {
    let mut extents = Vec::new();
    let numbers: Vec<u64> = map.split(|byte| *byte == b',').map(pax::number).collect::<Result<_, _>>()?;
    for pair in numbers.chunks(2) {
        let [offset, length] = *pair else { return Err(ArchiveError::Header) };
        push(&mut extents, offset, length)?;
    }
    Ok(extents)
}

/// Reads the map of form 1.0, which stands in front of the data: decimal numbers, one a line, padded to a block.
/// Returns how many bytes of the data it took.
pub(super) fn read_lines(source: &mut dyn BufRead) -> Result<(Vec<Extent>, u64), ArchiveError> {
    let mut taken = 0u64;
    let mut block = [0u8; BLOCK];
    let mut at = BLOCK;
    let mut line = || -> Result<u64, ArchiveError> {
        let mut digits = Vec::with_capacity(20);
        loop {
            if at == BLOCK {
                source.read_exact(&mut block)?;
                taken += BLOCK as u64;
                at = 0;
            }
            let byte = block[at];
            at += 1;
            match byte {
                b'\n' => return pax::number(&digits),
                _ if digits.len() < 20 => digits.push(byte),
                _ => return Err(ArchiveError::Header),
            }
        }
    };
    let count = line()?;
    let mut extents = Vec::new();
    for _ in 0..count {
        let (offset, length) = (line()?, line()?);
        push(&mut extents, offset, length)?;
    }
    Ok((extents, taken))
}

fn push(extents: &mut Vec<Extent>, offset: u64, length: u64) -> Result<(), ArchiveError> {
    if extents.len() == MAX_EXTENTS {
        return Err(ArchiveError::TooLarge { what: "pieces of a sparse file", limit: MAX_EXTENTS as u64 });
    }
    extents.push(Extent { offset, length });
    Ok(())
}

/// Checks that the pieces are in order, do not overlap, lie within the file and are as long as what is archived.
pub(super) fn check(extents: &[Extent], size: u64, archived: u64) -> Result<(), ArchiveError> {
    let mut end = 0u64;
    let mut sum = 0u64;
    for extent in extents {
        if extent.offset < end {
            return Err(ArchiveError::Header);
        }
        end = extent.offset.checked_add(extent.length).ok_or(ArchiveError::Header)?;
        sum += extent.length;
    }
    if end > size || sum != archived { Err(ArchiveError::Header) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_each_form_are_read() {
        let expected = [Extent { offset: 0, length: 512 }, Extent { offset: 4096, length: 100 }];
        assert_eq!(parse_list(b"0,512,4096,100").unwrap(), expected);
        let mut lines = b"2\n0\n512\n4096\n100\n".to_vec();
        lines.resize(BLOCK, 0);
        assert_eq!(read_lines(&mut lines.as_slice()).unwrap(), (expected.to_vec(), BLOCK as u64));
        let mut pairs = Vec::new();
        for number in [0u64, 512, 4096, 100] {
            let mut field = [0u8; 12];
            header::put_number(&mut field, number);
            pairs.extend_from_slice(&field);
        }
        pairs.resize(96, 0);
        assert_eq!(read_gnu(&pairs, false, &mut &[][..]).unwrap(), expected);
    }

    #[test]
    fn contradictory_maps_are_refused() {
        let extent = |offset, length| Extent { offset, length };
        assert!(check(&[extent(0, 10), extent(20, 10)], 30, 20).is_ok());
        assert!(check(&[extent(0, 10), extent(5, 10)], 30, 20).is_err());
        assert!(check(&[extent(0, 10)], 5, 10).is_err());
        assert!(check(&[extent(0, 10)], 30, 11).is_err());
        assert!(check(&[extent(u64::MAX, 10)], 30, 10).is_err());
        assert!(parse_list(b"1,2,3").is_err() && parse_list(b"-1,2").is_err());
    }
}
