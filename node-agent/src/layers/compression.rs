//! How layers and archives are packed, and reading what is in them.
//!
//! Start reading at [`decompress`]. What a media type says is not believed; the first bytes decide, as in Docker.
//! Memory is bounded whatever the stream asks for. Compressing is in `gzip.rs`.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

/// The most memory that a decoder may take for its window: what the tools of zstd allow by default.
const WINDOW_LIMIT_KIB: u32 = 128 << 10;
/// Enough bytes to tell every form.
const MAGIC_LEN: usize = 6;
/// How much is read from the source at once.
const READ_LEN: usize = 64 << 10;

/// How bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, one or several members.
    Gzip,
    /// zstd, one or several frames.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl Compression {
    /// Looks at the first bytes of a stream: at least six of them, or all there are.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            // Some tools begin with a skippable frame.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// A stream whose first bytes have been looked at.
type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

fn peek<R: Read>(mut source: R) -> io::Result<(Compression, Peeked<R>)> {
    let mut start = Vec::with_capacity(MAGIC_LEN);
    source.by_ref().take(MAGIC_LEN as u64).read_to_end(&mut start)?;
    Ok((Compression::detect(&start), Cursor::new(start).chain(source)))
}

/// Recognises how a stream is packed.
pub fn recognise<R: Read>(source: R) -> io::Result<(Compression, BufReader<Peeked<R>>)> {
    let (compression, source) = peek(source)?;
    Ok((compression, BufReader::with_capacity(READ_LEN, source)))
}

/// Recognises how a stream is packed and reads what is in it.
pub fn decompress<'a>(source: impl Read + Send + 'a) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let (compression, source) = recognise(source)?;
    Ok((compression, decoder(compression, source)?))
}

/// The same for a source that has a buffer of its own: what is not packed is read from there, without another copy.
pub fn decompress_buffered<'a>(
    source: impl BufRead + Send + 'a,
) -> io::Result<(Compression, Box<dyn BufRead + Send + 'a>)> {
    let (compression, source) = peek(source)?;
    if compression == Compression::None {
        return Ok((compression, Box::new(source)));
    }
    let unpacked = decoder(compression, source)?;
    Ok((compression, Box::new(BufReader::with_capacity(READ_LEN, unpacked))))
}

/// Reads what is in a stream that is packed this way.
pub fn decoder<'a>(
    compression: Compression,
    source: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        // The library's default limit for the window is the one stated above.
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(source)?),
        // A block of bzip2 is at most 900 kB.
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, WINDOW_LIMIT_KIB)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn packed(compression: Compression, text: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => text.to_vec(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(text, 1).unwrap(),
            Compression::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            // Made with `printf 'hello, hello, hello' | xz`.
            Compression::Xz => hex::decode(XZ_HELLO).unwrap(),
        }
    }

    const XZ_HELLO: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a3e00012000c5d00341949ee8def8c8731ef90000065bb2131df7a5f59000128135f5a65f91fb6f37d010000000004595a";
    const HELLO: &[u8] = b"hello, hello, hello";
    const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Bzip2, Compression::Xz];

    fn unpacked(bytes: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let (compression, mut reader) = decompress(bytes)?;
        let mut text = Vec::new();
        reader.read_to_end(&mut text)?;
        Ok((compression, text))
    }

    #[test]
    fn every_form_is_recognised_and_read() {
        for compression in ALL {
            assert_eq!(unpacked(&packed(compression, HELLO)).unwrap(), (compression, HELLO.to_vec()));
            let bytes = packed(compression, HELLO);
            let (found, mut reader) = decompress_buffered(bytes.as_slice()).unwrap();
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            assert_eq!((found, text), (compression, HELLO.to_vec()));
        }
        assert_eq!(unpacked(b"").unwrap(), (Compression::None, Vec::new()));
    }

    #[test]
    fn several_members_are_one_stream() {
        for compression in ALL.into_iter().skip(1) {
            let bytes = packed(compression, HELLO).repeat(3);
            assert_eq!(unpacked(&bytes).unwrap().1, HELLO.repeat(3), "{compression:?}");
        }
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        for compression in ALL.into_iter().skip(1) {
            let bytes = packed(compression, HELLO);
            assert!(unpacked(&bytes[..bytes.len() - 5]).is_err(), "{compression:?}");
        }
    }
}
