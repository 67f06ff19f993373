//! netd's own loop: takes the daemon's messages and keeps what they ask for alive.
//!
//! Start reading at [`serve`]. One thread, one event loop; sockets for other namespaces are opened on threads that end
//! at once (`netns.rs`). Inputs: the control socket. Outputs: listeners. Owner: nobody; it ends when told to, or when it
//! has nothing to do and nobody is connected.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use shoal_types::SandboxId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use super::holds::Holds;
use super::protocol::{Change, Outcome, Reply, Request, Resolver, State, VERSION, encode, message_len};
use crate::dns::records::Zones;
use crate::dns::server::Server;
use crate::error::NetError;

/// Serves the control socket until told to stop, or until there has been nothing to do and nobody connected for
/// `idle_limit`. Must run inside a `LocalSet`.
pub(super) async fn serve(path: &Path, idle_limit: Duration) -> io::Result<()> {
    // The lock of `main` makes this the only netd, so a socket that is there belongs to a dead one.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let netd = Rc::new(Netd::new(idle_limit));
    loop {
        tokio::select! {
            // Dropping an accept loses no connection: it stays in the queue.
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::task::spawn_local(serve_client(Rc::clone(&netd), stream));
                }
            }
            // Nothing is lost: the process ends.
            () = netd.ended.notified() => return fs::remove_file(path),
        }
    }
}

struct Netd {
    holds: RefCell<Holds>,
    servers: RefCell<BTreeMap<SandboxId, Server>>,
    zones: Rc<RefCell<Zones>>,
    clients: Cell<usize>,
    idle_limit: Duration,
    ended: Notify,
}

async fn serve_client(netd: Rc<Netd>, mut stream: UnixStream) {
    netd.clients.set(netd.clients.get() + 1);
    // A daemon that dies in the middle of a message leaves the state as it was.
    while let Ok(request) = read_request(&mut stream).await {
        let stopping = matches!(request, Request::Stop);
        let sent = match encode(&netd.handle(request)) {
            Ok(frame) => stream.write_all(&frame).await,
            Err(error) => Err(error),
        };
        if stopping {
            netd.ended.notify_one();
        }
        if sent.is_err() {
            break;
        }
    }
    netd.clients.set(netd.clients.get() - 1);
    drop(stream);
    // This is the waiting itself: for a daemon that may come back.
    tokio::time::sleep(netd.idle_limit).await;
    if netd.clients.get() == 0 && netd.is_idle() {
        netd.ended.notify_one();
    }
}

async fn read_request(stream: &mut UnixStream) -> io::Result<Request> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await?;
    let mut body = vec![0; message_len(prefix)?];
    stream.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body)?)
}

impl Netd {
    fn new(idle_limit: Duration) -> Self {
        Self {
            holds: RefCell::new(Holds::new()),
            servers: RefCell::default(),
            zones: Rc::default(),
            clients: Cell::new(0),
            idle_limit,
            ended: Notify::new(),
        }
    }

    fn handle(&self, request: Request) -> Reply {
        match request {
            Request::Hello { .. } => Reply::Hello { version: VERSION, pid: std::process::id() },
            Request::Sync(state) => Reply::Synced { failures: self.sync(state) },
            Request::Apply(changes) => {
                Reply::Applied(changes.into_iter().map(|change| self.apply(change)).collect())
            }
            Request::Stop => Reply::Stopping,
        }
    }

    fn apply(&self, change: Change) -> Outcome {
        match change {
            Change::Hold(request) => return self.holds.borrow_mut().hold(&request),
            Change::Release(key) => self.holds.borrow_mut().release(&key),
            Change::Resolver(resolver) => {
                if let Err(error) = self.set_resolver(resolver) {
                    return refusal(&error);
                }
            }
            Change::RemoveResolver(sandbox) => drop(self.servers.borrow_mut().remove(&sandbox)),
            Change::Record(record) => self.zones.borrow_mut().set(record),
            Change::RemoveRecord(endpoint) => self.zones.borrow_mut().remove(&endpoint),
            Change::Names(names) => self.zones.borrow_mut().set_network(names),
            Change::SomeNames(network, changes) => {
                self.zones.borrow_mut().change_network(&network, changes);
            }
            Change::RetainNames(networks) => {
                let mut zones = self.zones.borrow_mut();
                for network in zones.cluster_networks().iter().filter(|known| !networks.contains(known)) {
                    zones.remove_network(network);
                }
            }
        }
        Outcome::Done
    }

    /// Keeps what is wanted and there, ends what is not wanted, starts what is missing.
    fn sync(&self, state: State) -> Vec<String> {
        let mut failures = self.holds.borrow_mut().sync(&state.holds);
        self.servers.borrow_mut().retain(|sandbox, _| state.resolvers.iter().any(|r| r.sandbox == *sandbox));
        {
            let mut zones = self.zones.borrow_mut();
            for endpoint in zones.endpoints() {
                if !state.records.iter().any(|record| record.endpoint == endpoint) {
                    zones.remove(&endpoint);
                }
            }
            state.records.into_iter().for_each(|record| zones.set(record));
            state.cluster_names.into_iter().for_each(|names| zones.set_network(names));
        }
        for resolver in state.resolvers {
            let sandbox = resolver.sandbox;
            if let Err(error) = self.set_resolver(resolver) {
                failures.push(format!("serve names in sandbox {sandbox}: {error}"));
            }
        }
        failures
    }

    fn set_resolver(&self, resolver: Resolver) -> Result<(), NetError> {
        let mut servers = self.servers.borrow_mut();
        match servers.get(&resolver.sandbox) {
            Some(server) if server.resolver().netns == resolver.netns => server.set_resolver(resolver),
            _ => {
                let sandbox = resolver.sandbox;
                servers.insert(sandbox, Server::start(resolver, Rc::clone(&self.zones))?);
            }
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        // Names alone are no work: nobody asks for them, and a daemon that comes back tells them again.
        self.holds.borrow().is_empty() && self.servers.borrow().is_empty()
    }
}

fn refusal(error: &NetError) -> Outcome {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    let errno = source.and_then(io::Error::raw_os_error).unwrap_or(libc::EIO);
    Outcome::Failed { errno, text: error.to_string(), at: None }
}
