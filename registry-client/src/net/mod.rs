//! From a host's name to a connection: names, proxies, TCP, TLS, HTTP requests.
//!
//! Start reading at [`transport::Transport`], which sends one request and reads one response. Below it, in the order
//! of a connection's life: `proxy.rs` (which way, pure), `dns.rs`, `connect.rs`, `tls.rs`. Nothing in here knows what
//! a registry is.

pub(crate) mod connect;
pub(crate) mod dns;
pub(crate) mod proxy;
pub(crate) mod tls;
pub(crate) mod transport;
pub(crate) mod trust;
pub(crate) mod url;
