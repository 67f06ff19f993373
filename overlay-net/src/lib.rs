//! The networking mechanism of one Shoal node: namespaces, links, nftables, published ports, addresses, names.
//!
//! Start reading at [`host::Host`], the handle that the engine holds, and at [`spec`] for what it is given.
//! Takes specs and keeps no database: every operation is idempotent and can be repeated after a crash. Policy (which
//! container joins which network, what is persisted, Docker's names) is the engine's, in `node-agent/src/networks`.
//!
//! The map: [`netns`] is the only place that enters a namespace; `netlink` speaks to the kernel about links,
//! addresses, routes; [`firewall`] owns the nftables tables named `shoal`; `portmap` owns host ports; [`ipam`] is
//! pure; [`dns`] answers names; [`netd`] is the small process that keeps listeners alive while the daemon is away.
//! [`overlay`] has what joins nodes: tunnels with static tables, virtual services, the routing mesh; [`wireguard`]
//! encrypts those tunnels of which it is asked.

pub mod dns;
pub mod driver;
pub mod error;
pub mod firewall;
pub mod host;
pub mod ipam;
pub mod netd;
pub mod netns;
pub mod overlay;
pub mod spec;
pub mod wireguard;

mod endpoint;
mod forwarding;
mod lb;
mod netlink;
mod portmap;
mod sandbox;
mod sys;
mod sysctl;

pub use error::{NetError, Result};
pub use host::{Config, Desired, Host, PacketMark};
pub use overlay::spec::{
    Affinity, Backend, BackendState, ClientAddress, Encryption, IngressPort, IngressSpec, NameChange,
    NameEntry, OverlayRole, OverlaySpec, OverlaySubnet, OverlayTables, Peer, Repaired, ServiceChange,
    TableChange, VirtualService,
};
pub use spec::{
    BridgeSpec, DriverSpec, Endpoint, EndpointSpec, Forwarding, GatewayMode, HostPorts, Icc, IfName,
    LinkFlow, MacAddr, MacvlanMode, MacvlanSpec, Masquerade, NetworkSpec, Protocol, PublishSpec,
    PublishedPort, Reach, ResolverSpec, Sandbox, SandboxMode, SandboxSpec, SubnetSpec, Upstream,
    UpstreamScope,
};
pub use wireguard::{Changeover, PublicKey, TunnelKey, TunnelPeer, WireguardSpec};
