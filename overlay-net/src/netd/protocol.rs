//! What the daemon and netd say to each other.
//!
//! Start reading at [`Request`]. Messages are JSON behind a 32-bit length in little-endian order, on a unix socket that
//! only root may open. Every request is answered, in order. The whole [`State`] may be sent at any time; netd finds
//! the difference. Only `Hello` and `Stop` must keep their form between versions.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use shoal_types::{EndpointId, NetworkId, SandboxId};

use crate::overlay::spec::{NameChange, NameEntry};
use crate::spec::{Forwarding, Protocol, Upstream};

/// Raised when a message changes its meaning; a daemon replaces a netd of another version.
pub(crate) const VERSION: u32 = 2;
/// Far above the state of a full node; a length beyond it is not a message.
pub(crate) const MESSAGE_LIMIT: usize = 16 << 20;

/// What the daemon asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The first message of a connection.
    Hello { version: u32 },
    /// Be exactly this.
    Sync(State),
    /// Change this, in order.
    Apply(Vec<Change>),
    /// End.
    Stop,
}

/// What netd answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Hello {
        version: u32,
        pid: u32,
    },
    /// To `Sync`: what could not be done.
    Synced {
        failures: Vec<String>,
    },
    /// To `Apply`: one outcome for each change.
    Applied(Vec<Outcome>),
    Stopping,
}

/// Everything that netd keeps alive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) holds: Vec<HeldPort>,
    pub(crate) resolvers: Vec<Resolver>,
    pub(crate) records: Vec<Record>,
    /// Of networks that are not listed, netd keeps what it has: a daemon that was just started does not know yet.
    pub(crate) cluster_names: Vec<NetworkNames>,
}

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// Hold a port of a range.
    Hold(HoldRequest),
    /// Let go of a port; fine when it is not held.
    Release(PortKey),
    /// Serve names in a sandbox, or change how.
    Resolver(Resolver),
    /// Stop serving names in a sandbox.
    RemoveResolver(SandboxId),
    /// Set the names and addresses of an endpoint.
    Record(Record),
    /// Forget an endpoint.
    RemoveRecord(EndpointId),
    /// Set all names that the cluster gives a network.
    Names(NetworkNames),
    /// Change some of them.
    SomeNames(NetworkId, Vec<NameChange>),
    /// Forget the names that the cluster gave, of every network but these.
    RetainNames(Vec<NetworkId>),
}

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Done,
    /// The port that was found, and the addresses it is held on.
    Held {
        port: u16,
        addresses: Vec<IpAddr>,
    },
    /// The kernel's answer, with the address and port when it was a bind.
    Failed {
        errno: i32,
        text: String,
        at: Option<SocketAddr>,
    },
}

/// A socket of the node's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct PortKey {
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
}

/// A held port and where it is proxied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldPort {
    pub(crate) key: PortKey,
    /// Absent when what arrives shall not be proxied.
    pub(crate) target: Option<SocketAddr>,
}

/// Asks for the same port on several addresses: the first that is free on all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HoldRequest {
    pub(crate) protocol: Protocol,
    /// Each address and where it is proxied to.
    pub(crate) bindings: Vec<(IpAddr, Option<SocketAddr>)>,
    /// The range; the search begins at `start` and wraps.
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) start: u16,
    /// Whether an address family that the node lacks may be left out.
    pub(crate) wildcard: bool,
}

/// How names are served in one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resolver {
    pub(crate) sandbox: SandboxId,
    /// Where the namespace is pinned.
    pub(crate) netns: PathBuf,
    /// Networks whose names are known here, in order.
    pub(crate) networks: Vec<NetworkId>,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) ndots: Option<u8>,
    pub(crate) forwarding: Forwarding,
    pub(crate) links: Vec<(String, String)>,
}

/// The names and addresses of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) endpoint: EndpointId,
    pub(crate) network: NetworkId,
    pub(crate) network_name: String,
    /// The first one answers reverse look-ups.
    pub(crate) names: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The names that the cluster gives a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkNames {
    pub(crate) network: NetworkId,
    /// What stands behind the dot.
    pub(crate) name: String,
    pub(crate) entries: Vec<NameEntry>,
}

/// Encodes a message with its length.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).map_err(|_| io::ErrorKind::InvalidData)?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// Checks the length in front of a message.
pub(crate) fn message_len(prefix: [u8; 4]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_le_bytes(prefix)).map_err(|_| io::ErrorKind::InvalidData)?;
    if length > MESSAGE_LIMIT { Err(io::ErrorKind::InvalidData.into()) } else { Ok(length) }
}

/// Sends a message and reads the answer.
pub(crate) fn exchange<T: DeserializeOwned>(
    stream: &mut (impl Read + Write),
    request: &Request,
) -> io::Result<T> {
    stream.write_all(&encode(request)?)?;
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let mut body = vec![0; message_len(prefix)?];
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}
