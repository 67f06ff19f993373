//! Attaching by websocket (RFC 6455).
//!
//! Start reading at [`Handshake`]. Every message of the client is input, every piece of output is a binary message. The
//! protocol itself is tungstenite's.

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use node_agent::api::streams::Attachment;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::error::ApiError;
use crate::extract::Call;
use crate::reply::{self, Reply};

/// The largest message that a client may send. Input comes key by key, or pasted.
const MAX_MESSAGE: usize = 1 << 20;
/// How much output goes into one message.
const CHUNK: usize = 16 << 10;

/// A client's wish to speak websocket on its connection.
pub(crate) struct Handshake {
    upgrade: OnUpgrade,
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
}

impl Handshake {
    /// The wish, if the request is one.
    pub(crate) fn of(call: &mut Call) -> Result<Self, ApiError> {
        let invalid = || ApiError::invalid("the request is no websocket handshake");
        if !call.header(UPGRADE.as_str()).eq_ignore_ascii_case("websocket") {
            return Err(invalid());
        }
        let key = call.headers.get(SEC_WEBSOCKET_KEY).ok_or_else(invalid)?;
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| invalid())?;
        let protocol = call.headers.get(PROTOCOL).cloned();
        let upgrade = call.upgrade.take().ok_or_else(invalid)?;
        Ok(Self { upgrade, accept, protocol })
    }

    /// Accepts, and connects the streams of an attachment.
    pub(crate) fn accept(self, attachment: Attachment) -> Reply {
        let upgrade = self.upgrade;
        tokio::spawn(async move {
            match upgrade.await {
                Ok(connection) => serve(connection, attachment).await,
                Err(error) => {
                    tracing::debug!(%error, "the client went away before it took the connection over");
                }
            }
        });
        let mut reply = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
        reply::set_header(&mut reply, CONNECTION, "Upgrade");
        reply::set_header(&mut reply, UPGRADE, "websocket");
        reply.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = self.protocol {
            reply.headers_mut().insert(PROTOCOL, protocol);
        }
        reply
    }
}

/// Browsers ask for a protocol and refuse an answer without it; Docker takes any.
const PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");

type Input = Option<Box<dyn AsyncWrite + Send + Unpin>>;

async fn serve(connection: Upgraded, attachment: Attachment) {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, Some(config)).await;
    let (mut to_client, mut from_client) = socket.split();
    let Attachment { output, mut input, .. } = attachment;
    let receive = async {
        while let Some(message) = from_client.next().await {
            match message? {
                Message::Binary(bytes) => write(&mut input, &bytes).await,
                Message::Text(text) => write(&mut input, text.as_bytes()).await,
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        if let Some(mut input) = input.take() {
            // The process may be gone already.
            let _ = input.shutdown().await;
        }
        Ok::<(), Error>(())
    };
    let send = async {
        let mut output = output;
        while let Some(piece) = read(&mut output).await {
            to_client.send(Message::binary(piece)).await?;
        }
        to_client.close().await
    };
    // Either end of the conversation ends it: the output when the process has ended, the input when the client left.
    let ended = tokio::select! {
        sent = send => sent,
        received = receive => received,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an attached client's websocket broke");
    }
}

/// Writes input. A container that takes no input, or whose process has ended, ignores it.
async fn write(input: &mut Input, bytes: &[u8]) {
    if let Some(open) = input {
        let written = async {
            open.write_all(bytes).await?;
            open.flush().await
        };
        if written.await.is_err() {
            *input = None;
        }
    }
}

/// The next piece of output, until it ends.
async fn read(output: &mut (dyn AsyncRead + Send + Unpin)) -> Option<Vec<u8>> {
    let mut piece = Vec::with_capacity(CHUNK);
    match output.read_buf(&mut piece).await {
        Ok(count) if count > 0 => Some(piece),
        Ok(_) | Err(_) => None,
    }
}
