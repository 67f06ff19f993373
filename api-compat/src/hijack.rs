//! Connections that a client takes over, for attach and exec.
//!
//! Start reading at [`wanted`] and [`take_over`]. The answer is `101 UPGRADED`, and from then on bytes flow as they are,
//! both ways; the end of one direction says nothing of the other. A client that does not ask for the upgrade gets a
//! plain 200 whose body is the output, and cannot send input.

use futures_util::stream;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode, Version, request};
use hyper::ext::ReasonPhrase;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use node_agent::api::streams::{Attachment, Framing, LogSource};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::reply::{self, Body, Reply};
use crate::stream::logs;

/// Content type of bytes as they come.
pub(crate) const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Content type of frames that tell standard output and error apart; announced from 1.42 on.
pub(crate) const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// How much is copied at a time.
const CHUNK: usize = 32 << 10;

/// The connection, if the client asks to take it over. Both headers must be there: hyper hands out the connection only
/// with `Connection: upgrade`, and a 101 without it would leave the client waiting for ever.
pub(crate) fn wanted(head: &mut request::Parts) -> Option<OnUpgrade> {
    if !has_token(&head.headers, UPGRADE.as_str(), "")
        || !has_token(&head.headers, CONNECTION.as_str(), "upgrade")
    {
        return None;
    }
    head.extensions.remove::<OnUpgrade>()
}

/// Whether one of a header's comma-separated values is `token`, in any case; any value at all for an empty token.
fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|part| {
            let part = part.trim();
            if token.is_empty() { !part.is_empty() } else { part.eq_ignore_ascii_case(token) }
        })
    })
}

/// Answers with the streams of an attachment: takes the connection over if that was asked for, else streams the output.
pub(crate) fn take_over(
    upgrade: Option<OnUpgrade>,
    attachment: Attachment,
    content_type: &'static str,
) -> Reply {
    match upgrade {
        Some(upgrade) => take_over_first(upgrade, std::future::ready(attachment), content_type),
        None => raw_output(attachment),
    }
}

/// Answers that the connection is the client's, and only then starts what it will be attached to. The Python SDK loses
/// output that arrives in one piece with the head of the answer, so a command must not write before the head is out.
pub(crate) fn take_over_first(
    upgrade: OnUpgrade,
    start: impl Future<Output = Attachment> + Send + 'static,
    content_type: &'static str,
) -> Reply {
    tokio::spawn(async move {
        let taken = upgrade.await;
        // Also for a client that has gone: what it asked for is done.
        let attachment = start.await;
        match taken {
            Ok(connection) => copy_both_ways(TokioIo::new(connection), attachment).await,
            Err(error) => tracing::debug!(%error, "the client went away before it took the connection over"),
        }
    });
    let mut reply = reply::with_type(
        StatusCode::SWITCHING_PROTOCOLS,
        HeaderValue::from_static(content_type),
        Body::empty(),
    );
    reply::set_header(&mut reply, CONNECTION, "Upgrade");
    reply::set_header(&mut reply, UPGRADE, "tcp");
    reply.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    reply
}

/// The output of an attachment as a plain answer. Clients read the bytes as they come and know no chunks, so the end of
/// the connection is the end of the body: that is HTTP/1.0, and hyper then adds neither a length nor an encoding.
fn raw_output(attachment: Attachment) -> Reply {
    let body = Body::from_stream(output_stream(attachment.output));
    let mut reply = reply::with_type(StatusCode::OK, HeaderValue::from_static(RAW_STREAM), body);
    *reply.version_mut() = Version::HTTP_10;
    reply
}

/// Copies until the output has ended or the client is gone. The end of the client's input is passed on and changes
/// nothing for the output.
async fn copy_both_ways<C: AsyncRead + AsyncWrite>(connection: C, attachment: Attachment) {
    let (mut from_client, mut to_client) = tokio::io::split(connection);
    let Attachment { mut output, input, .. } = attachment;
    let receive = async {
        match input {
            Some(mut input) => {
                let copied = copy(&mut from_client, &mut input).await;
                // Also after an error: the container must see the end of its input. The process may be gone already.
                let _ = input.shutdown().await;
                copied
            }
            // Whatever the client sends is not for the container, but its leaving is still seen below.
            None => copy(&mut from_client, &mut tokio::io::sink()).await,
        }
    };
    let send = async {
        let copied = copy(&mut output, &mut to_client).await;
        let _ = to_client.shutdown().await;
        copied
    };
    tokio::pin!(receive, send);
    tokio::select! {
        // The output has ended: whatever the client still sends has nobody to read it.
        sent = &mut send => log_end(sent),
        received = &mut receive => match received {
            // The client has ended its input, or only its half of the connection: output goes on.
            Ok(()) => log_end(send.await),
            Err(error) => log_end(Err(error)),
        },
    }
}

fn log_end(ended: std::io::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "an attached client's connection broke");
    }
}

/// Copies with a flush after every chunk, so that what was written is seen at once.
async fn copy<R, W>(from: &mut R, to: &mut W) -> std::io::Result<()>
where
    R: AsyncRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..count).unwrap_or_default()).await?;
        to.flush().await?;
    }
}

/// The output of an attachment as the body of a plain answer.
fn output_stream(
    output: Box<dyn AsyncRead + Send + Unpin>,
) -> impl futures_util::Stream<Item = Result<bytes::Bytes, reply::BodyError>> + Send {
    stream::try_unfold(output, |mut output| async move {
        let mut buffer = bytes::BytesMut::with_capacity(CHUNK);
        let count = output.read_buf(&mut buffer).await?;
        Ok((count > 0).then(|| (buffer.freeze(), output)))
    })
}

/// An attachment that says one thing on standard output and ends.
pub(crate) fn message(text: &str, framing: Framing) -> Attachment {
    let bytes = match framing {
        Framing::Raw => bytes::Bytes::copy_from_slice(text.as_bytes()),
        Framing::Multiplexed => logs::frame(LogSource::Stdout, text),
    };
    let tty = framing == Framing::Raw;
    Attachment { tty, output: Box::new(std::io::Cursor::new(bytes)), input: None }
}
