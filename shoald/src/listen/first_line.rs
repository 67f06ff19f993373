//! Takes the first line of a connection as loosely as Docker does.
//!
//! Start reading at [`FirstLine`]. Docker's server takes `GET /images/json?filters={"dangling":["true"]}` as it stands, and
//! that is how shell scripts write it; our HTTP library refuses such characters in a query. The line of the
//! connection's first request is therefore written as it should have been before the library sees it. Later requests
//! of a connection are left alone, because finding where they begin would mean parsing HTTP here: clients that
//! reuse a connection are libraries, which encode their queries.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long a first line may be; a longer one is passed on as it is. That of Docker's server is a mebibyte for the whole head.
const MAX_LINE: usize = 64 << 10;

/// Characters that stand in the queries of scripts and that the library refuses.
const ENCODED: &[u8] = b"\"<>\\^`{|}";

/// A connection whose first line is put right.
#[derive(Debug)]
pub(super) struct FirstLine<I> {
    stream: I,
    /// What was read and is still to be handed on; until the line is complete nothing is.
    pending: Vec<u8>,
    handed: usize,
    is_line_over: bool,
}

impl<I> FirstLine<I> {
    pub(super) fn new(stream: I) -> Self {
        Self { stream, pending: Vec::new(), handed: 0, is_line_over: false }
    }

    /// Takes what was read; afterwards the line may be over.
    fn take(&mut self, read: &[u8]) {
        self.pending.extend_from_slice(read);
        let end = self.pending.iter().position(|byte| *byte == b'\n');
        if let Some(end) = end {
            let rest = self.pending.split_off(end);
            self.pending = encoded(&self.pending);
            self.pending.extend(rest);
        }
        // The end of the stream ends the line too.
        self.is_line_over = end.is_some() || read.is_empty() || self.pending.len() > MAX_LINE;
    }
}

/// The request line with its query encoded; one without a query as it is.
fn encoded(line: &[u8]) -> Vec<u8> {
    let Some(query) = line.iter().position(|byte| *byte == b'?') else { return line.to_vec() };
    let mut encoded = line[..query].to_vec();
    for byte in &line[query..] {
        if ENCODED.contains(byte) {
            encoded.extend(format!("%{byte:02X}").into_bytes());
        } else {
            encoded.push(*byte);
        }
    }
    encoded
}

impl<I: AsyncRead + Unpin> AsyncRead for FirstLine<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.is_line_over {
            let mut space = [0; 4096];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut read))?;
            this.take(read.filled());
        }
        if this.handed == this.pending.len() {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let rest = &this.pending[this.handed..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        this.handed += count;
        if this.handed == this.pending.len() {
            (this.pending, this.handed) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for FirstLine<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::{FirstLine, MAX_LINE};

    async fn through(parts: &[&[u8]]) -> Vec<u8> {
        let mut stream = stream_of(parts);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all
    }

    fn stream_of(parts: &[&[u8]]) -> FirstLine<impl tokio::io::AsyncRead + Unpin> {
        let (mut client, server) = tokio::io::duplex(8);
        let bytes = parts.concat();
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut client, &bytes).await });
        FirstLine::new(server)
    }

    #[tokio::test]
    async fn the_query_of_the_first_line_is_encoded_and_nothing_else_is_touched() {
        let cases: [(&[&[u8]], &[u8]); 6] = [
            (
                &[b"GET /images/json?filters={\"a\":[\"b\"]} HTTP/1.1\r\nHost: \"x\"\r\n\r\n{\"body\"}"],
                b"GET /images/json?filters=%7B%22a%22:[%22b%22]%7D HTTP/1.1\r\nHost: \"x\"\r\n\r\n{\"body\"}",
            ),
            (&[b"GET /a\"b HTTP/1.1\r\n\r\n"], b"GET /a\"b HTTP/1.1\r\n\r\n"),
            (&[b"GET /a?b=%22 HTTP/1.1\r\n", b"X: 1?\"\r\n"], b"GET /a?b=%22 HTTP/1.1\r\nX: 1?\"\r\n"),
            (&[b"no line?\""], b"no line?\""),
            (&[b""], b""),
            (&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ];
        for (sent, expected) in cases {
            assert_eq!(String::from_utf8_lossy(&through(sent).await), String::from_utf8_lossy(expected));
        }
    }

    #[tokio::test]
    async fn a_line_without_end_is_passed_on_and_not_gathered() {
        let long = vec![b'x'; 3 * MAX_LINE];
        assert_eq!(through(&[&long]).await, long);
    }
}
