//! What can go wrong in this crate, and which texts clients of Docker match on.
//!
//! Start reading at [`NetError`]. A variant adds what the layer below cannot know (which interface, which network);
//! the text of a `#[source]` is never repeated. Nothing here decides an HTTP status: that is
//! `api-compat/src/error.rs`, from [`NetError::kind`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use shoal_types::ErrorKind;

use crate::spec::Protocol;

/// Result of this crate's operations.
pub type Result<T, E = NetError> = std::result::Result<T, E>;

/// Every failure of the networking mechanism.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A call into the kernel failed; `what` says on which object.
    #[error("{what}")]
    Kernel {
        /// The operation and its object, as in `create veth pair veth12ab`.
        what: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A file under /proc/sys could not be written.
    #[error("set sysctl {key}={value}")]
    Sysctl {
        /// The key in dotted form.
        key: String,
        /// The value that was to be written.
        value: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A network namespace could not be created, pinned, opened or removed.
    #[error("network namespace {}", path.display())]
    Namespace {
        /// Where it is, or was to be, pinned.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The name of an interface is too long or has forbidden characters.
    #[error("invalid interface name {0:?}: 1 to 15 characters without '/', ':' or white space")]
    InvalidInterfaceName(String),
    /// An interface of the container has the name already that another one shall have.
    #[error("error renaming interface to {0}: file exists")]
    InterfaceNameTaken(String),
    /// A hardware address could not be parsed.
    #[error("invalid MAC address: {0}")]
    InvalidMac(String),
    /// A driver option has a value outside its set.
    #[error("invalid value {value:?} for option {option}")]
    InvalidOption {
        /// The option's full name.
        option: String,
        /// What was given.
        value: String,
    },
    /// An interface of that name exists and is something else.
    #[error("interface {name} exists and is not a {expected}")]
    WrongInterfaceKind {
        /// The interface.
        name: String,
        /// The kind that was needed.
        expected: &'static str,
    },
    /// A sysctl of an endpoint is not of the allowed form.
    #[error("invalid endpoint sysctl {0:?}: must be net.X.Y.IFNAME.Z=VALUE")]
    InvalidEndpointSysctl(String),
    /// The subnet of a request is not in its canonical form.
    #[error("invalid subnet {given}: it should be {canonical}")]
    SubnetNotCanonical {
        /// As the user wrote it.
        given: IpNet,
        /// With the host bits cleared.
        canonical: IpNet,
    },
    /// The subnet of a request overlaps with a network of this node.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlaps,
    /// No default address pool has a free subnet.
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    /// The pool that was named by a record does not exist.
    #[error("network {0} has no address pool of that family")]
    NoSuchPool(String),
    /// Every address of a subnet is taken.
    #[error("no available IPv{} addresses on this network's address pools: {subnet}", if subnet.addr().is_ipv4() { 4 } else { 6 })]
    AddressesExhausted {
        /// The subnet without a free address.
        subnet: IpNet,
    },
    /// The address that was asked for is taken.
    #[error("Address already in use")]
    AddressInUse(IpAddr),
    /// No subnet of the network holds the address that was asked for.
    #[error("no configured subnet contains IP address {0}")]
    AddressOutsideSubnets(IpAddr),
    /// An address that is kept for somebody lies outside its subnet. The text is Docker's.
    #[error("auxiliary address: ({name}:{address}) must belong to the master pool: {subnet}")]
    AuxiliaryOutsideSubnet {
        /// For whom it is kept.
        name: String,
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// A gateway or range lies outside its subnet.
    #[error("invalid {what} {value}: it is not inside subnet {subnet}")]
    OutsideSubnet {
        /// Which part of the request: `gateway`, `ip-range`.
        what: &'static str,
        /// What was given.
        value: String,
        /// The subnet.
        subnet: IpNet,
    },
    /// Another container publishes that port.
    #[error("Bind for {address} failed: port is already allocated")]
    PortAllocated {
        /// Address and port as Docker prints them.
        address: SocketAddr,
    },
    /// A process of the host holds that port.
    #[error("failed to bind host port {address}/{protocol}")]
    PortBind {
        /// Address and port.
        address: SocketAddr,
        /// The protocol.
        protocol: Protocol,
        /// Why the bind failed: `address already in use` when somebody else has it.
        #[source]
        source: io::Error,
    },
    /// No port of a range, or of the ephemeral range, is free.
    #[error("all ports are allocated")]
    PortsExhausted,
    /// The network-daemon process did not do what it was asked.
    #[error("netd: {what}")]
    Netd {
        /// What was asked of it.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Changes came for an overlay network, or for services, that were not given whole before.
    #[error("the tables of {0} are not known yet")]
    TablesUnknown(String),
    /// This node's kernel or configuration cannot do it.
    #[error("{0} is not supported by this node")]
    NotSupported(&'static str),
}

impl NetError {
    /// Classifies the failure without its transport.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidInterfaceName(_)
            | Self::InterfaceNameTaken(_)
            | Self::InvalidMac(_)
            | Self::InvalidOption { .. }
            | Self::InvalidEndpointSysctl(_)
            | Self::SubnetNotCanonical { .. }
            | Self::PoolsExhausted
            | Self::AddressOutsideSubnets(_)
            | Self::AuxiliaryOutsideSubnet { .. }
            | Self::OutsideSubnet { .. } => ErrorKind::InvalidArgument,
            Self::PoolOverlaps | Self::AddressInUse(_) => ErrorKind::Forbidden,
            Self::WrongInterfaceKind { .. } => ErrorKind::Conflict,
            Self::NoSuchPool(_) | Self::TablesUnknown(_) => ErrorKind::NotFound,
            Self::NotSupported(_) => ErrorKind::NotImplemented,
            Self::Netd { .. } => ErrorKind::Unavailable,
            Self::Kernel { .. }
            | Self::Sysctl { .. }
            | Self::Namespace { .. }
            | Self::AddressesExhausted { .. }
            | Self::PortAllocated { .. }
            | Self::PortBind { .. }
            | Self::PortsExhausted => ErrorKind::Internal,
        }
    }

    /// Wraps the kernel's answer with the operation it answered.
    pub(crate) fn kernel(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Kernel { what, source }
    }
}
