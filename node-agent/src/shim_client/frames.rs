//! Frames of the shim protocol over tokio sockets: four bytes of length, big endian, then JSON.
//!
//! Start reading at [`read_frame`]. The limits are those of `node_shim::protocol`. No message is interpreted here.

use bytes::{Buf as _, BytesMut};
use node_shim::protocol::MAX_FRAME_LEN;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::ShimError;

const LENGTH_LEN: usize = 4;

/// One message with its length in front.
pub(super) fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, ShimError> {
    let mut bytes = vec![0; LENGTH_LEN];
    serde_json::to_writer(&mut bytes, message).map_err(|error| ShimError::Nonsense(error.to_string()))?;
    let json_len = bytes.len() - LENGTH_LEN;
    let length = u32::try_from(json_len).ok().filter(|_| json_len <= MAX_FRAME_LEN);
    let Some(length) = length else {
        return Err(ShimError::Nonsense(format!("a message of {json_len} bytes is too long to send")));
    };
    bytes[..LENGTH_LEN].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// Takes one whole message from the front of the buffer, if it holds one.
pub(crate) fn decode<M: DeserializeOwned>(buffer: &mut BytesMut) -> Result<Option<M>, ShimError> {
    let Some(prefix) = buffer.first_chunk::<LENGTH_LEN>() else { return Ok(None) };
    let json_len = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if json_len > MAX_FRAME_LEN {
        return Err(ShimError::Nonsense(format!("a frame of {json_len} bytes")));
    }
    if buffer.len() < LENGTH_LEN + json_len {
        return Ok(None);
    }
    buffer.advance(LENGTH_LEN);
    let json = buffer.split_to(json_len);
    serde_json::from_slice(&json).map(Some).map_err(|error| ShimError::Nonsense(error.to_string()))
}

/// Reads exactly one message and not a byte more, so that the socket can go on as a byte stream. `None` is the end of
/// the stream before the first byte.
pub(super) async fn read_frame<M, R>(socket: &mut R) -> Result<Option<M>, ShimError>
where
    M: DeserializeOwned,
    R: AsyncRead + Unpin,
{
    let mut prefix = [0; LENGTH_LEN];
    let n_read = socket.read(&mut prefix).await.map_err(ShimError::Stream)?;
    if n_read == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut prefix[n_read..]).await.map_err(ShimError::Stream)?;
    let json_len = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if json_len > MAX_FRAME_LEN {
        return Err(ShimError::Nonsense(format!("a frame of {json_len} bytes")));
    }
    let mut json = vec![0; json_len];
    socket.read_exact(&mut json).await.map_err(ShimError::Stream)?;
    serde_json::from_slice(&json).map(Some).map_err(|error| ShimError::Nonsense(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_is_read_whole_and_the_stream_goes_on_behind_it() {
        let mut bytes = encode(&"hello").unwrap();
        bytes.extend_from_slice(b"stdin");
        let mut source = bytes.as_slice();
        assert_eq!(read_frame::<String, _>(&mut source).await.unwrap().as_deref(), Some("hello"));
        assert_eq!(source, b"stdin");
    }

    #[test]
    fn a_message_in_pieces_is_decoded_when_its_last_byte_is_there() {
        let bytes = encode(&vec![1, 2, 3]).unwrap();
        let mut buffer = BytesMut::new();
        for byte in &bytes[..bytes.len() - 1] {
            buffer.extend_from_slice(&[*byte]);
            assert_eq!(decode::<Vec<u32>>(&mut buffer).unwrap(), None);
        }
        buffer.extend_from_slice(&bytes[bytes.len() - 1..]);
        assert_eq!(decode::<Vec<u32>>(&mut buffer).unwrap(), Some(vec![1, 2, 3]));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_allocated() {
        let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert!(matches!(decode::<String>(&mut buffer), Err(ShimError::Nonsense(_))));
    }
}
