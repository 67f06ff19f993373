//! Lets a client read that it may take the connection over before it is sent anything else.
//!
//! Start reading at [`HeadFirst`]. The Python SDK reads the head of an answer through a buffer that it then throws away, so what
//! arrives in one piece with a `101` is lost: the output of a short command, or the log that an attachment begins with. Docker's
//! daemon merely takes longer to have something to say. What is written after such a head therefore waits until the head
//! was read. Only a unix socket can tell, because there the kernel keeps count of what the other side has not read yet; a TCP socket
//! knows what has arrived and not what was read, so on those nothing waits.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use super::sys;

/// How an answer begins that hands the connection over, as hyper writes it. A body that begins like that merely waits, too.
const HEAD: &[u8] = b"HTTP/1.1 101 ";

/// How long a client may leave the head unread and still be waited for.
const LIMIT: Duration = Duration::from_secs(1);

/// How often it is looked whether the head was read.
const PAUSE: Duration = Duration::from_millis(1);

/// The server's end of a connection, which may know how much of what it has sent was not read.
pub(super) trait Unread {
    /// Bytes, or what they take; 0 where it cannot be known.
    fn unread(&self) -> usize;
}

impl Unread for UnixStream {
    fn unread(&self) -> usize {
        // What the kernel does not tell is not waited for.
        sys::unread(self).unwrap_or(0)
    }
}

impl Unread for TcpStream {
    fn unread(&self) -> usize {
        0
    }
}

impl Unread for TlsStream<TcpStream> {
    fn unread(&self) -> usize {
        0
    }
}

/// A connection on which what follows the head of a `101` waits until that was read.
#[derive(Debug)]
pub(super) struct HeadFirst<I> {
    stream: I,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No answer has handed the connection over.
    Answers,
    /// One has, and nothing was written since.
    HandedOver,
    /// Something is to be written, and the head was not read yet.
    Waits { until: Instant, pause: Pin<Box<Sleep>> },
    /// The head was read, or the client has had its time.
    Taken,
}

impl<I: Unread> HeadFirst<I> {
    pub(super) fn new(stream: I) -> Self {
        Self { stream, state: State::Answers }
    }

    /// Is ready when something may be written.
    fn poll_taken(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.state {
                State::Answers | State::Taken => return Poll::Ready(()),
                State::HandedOver | State::Waits { .. } if self.stream.unread() == 0 => {
                    self.state = State::Taken;
                }
                State::HandedOver => {
                    let until = Instant::now() + LIMIT;
                    // No event tells of the other side's reading.
                    self.state = State::Waits { until, pause: Box::pin(tokio::time::sleep(PAUSE)) };
                }
                State::Waits { until, pause } => {
                    ready!(pause.as_mut().poll(context));
                    let now = Instant::now();
                    if now >= *until {
                        self.state = State::Taken;
                    } else {
                        pause.as_mut().reset(now + PAUSE);
                    }
                }
            }
        }
    }

    /// Takes note of what is being written.
    fn written(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Answers) && bytes.starts_with(HEAD) {
            self.state = State::HandedOver;
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for HeadFirst<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unread + Unpin> AsyncWrite for HeadFirst<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_taken(context));
        let count = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.written(bytes);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_taken(context));
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts))?;
        self.written(parts.first().map_or(&[], |part| part));
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 101 UPGRADED\r\n\r\n";

    fn pair() -> (HeadFirst<UnixStream>, UnixStream) {
        let (server, client) = UnixStream::pair().unwrap();
        (HeadFirst::new(server), client)
    }

    /// What the client gets with each reading, as long as there is something; both sides begin at the same time, the server first.
    async fn read_while(write: impl Future<Output = io::Result<()>>, mut client: UnixStream) -> Vec<Vec<u8>> {
        let read = async {
            let mut pieces = Vec::new();
            loop {
                let mut piece = vec![0; 8192];
                let count = client.read(&mut piece).await.unwrap();
                if count == 0 {
                    return pieces;
                }
                piece.truncate(count);
                pieces.push(piece);
            }
        };
        let (written, pieces) = tokio::join!(write, read);
        written.unwrap();
        pieces
    }

    #[tokio::test]
    async fn what_follows_a_head_that_hands_over_does_not_come_in_one_piece_with_it() {
        let (mut server, client) = pair();
        let write = async move {
            server.write_all(ANSWER).await?;
            server.write_all(b"out").await?;
            server.write_all(b"put").await
        };
        assert_eq!(read_while(write, client).await, [ANSWER, b"output"]);

        let (mut server, client) = pair();
        let write = async move {
            assert_eq!(server.write_vectored(&[IoSlice::new(ANSWER)]).await?, ANSWER.len());
            assert_eq!(server.write_vectored(&[IoSlice::new(b"out"), IoSlice::new(b"put")]).await?, 6);
            Ok(())
        };
        assert_eq!(read_while(write, client).await, [ANSWER, b"output"]);
    }

    #[tokio::test]
    async fn other_answers_wait_for_nobody() {
        let (mut server, client) = pair();
        let write = async move {
            server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            server.write_all(b"body").await
        };
        assert_eq!(read_while(write, client).await, [b"HTTP/1.1 200 OK\r\n\r\nbody"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_not_waited_for_for_ever() {
        let (mut server, mut client) = pair();
        let began = Instant::now();
        server.write_all(ANSWER).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        server.write_all(b"out").await.unwrap();
        let waited = began.elapsed();
        assert!((LIMIT..LIMIT + 2 * PAUSE).contains(&waited), "{waited:?}");
        server.write_all(b"put").await.unwrap();
        assert_eq!(began.elapsed(), waited);
        drop(server);
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [ANSWER, b"output"].concat());
    }

    #[tokio::test]
    async fn a_client_that_has_gone_is_told_of_at_once() {
        let (mut server, client) = pair();
        server.write_all(ANSWER).await.unwrap();
        drop(client);
        let error = server.write_all(b"output").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
