//! The daemon's side of netd: starts it when it is first needed, and brings it back when it dies.
//!
//! Start reading at [`Client::apply`]. The client remembers what netd was told, so that a new process is told the same;
//! the memory is rebuilt by [`Client::sync`] after the daemon itself was restarted. Calls block; they take well under
//! a millisecond unless netd has to be started.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use shoal_types::NetworkId;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;

use super::protocol::{Change, HeldPort, Outcome, PortKey, Reply, Request, State, VERSION, exchange};
use crate::error::{NetError, Result};
use crate::host::SpawnNetd;
use crate::overlay::spec::{NameChange, NameEntry};

/// How long a fresh process may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(5);
/// When to suspect that a process will never listen.
const START_AGAIN: Duration = Duration::from_millis(500);
/// How long an answer may take; binding ports and opening sockets never blocks, so this means "stuck".
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long the daemon's end may be held up by a netd that does not answer.
const GOODBYE_LIMIT: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(1);

/// Talks to netd and remembers what it was told.
pub(crate) struct Client {
    socket: PathBuf,
    spawn: SpawnNetd,
    link: Mutex<Link>,
    connected: Notify,
}

#[derive(Debug, Default)]
struct Link {
    stream: Option<UnixStream>,
    state: State,
}

impl Client {
    /// A client that has not connected yet.
    pub(crate) fn new(socket: PathBuf, spawn: SpawnNetd) -> Self {
        Self { socket, spawn, link: Mutex::new(Link::default()), connected: Notify::new() }
    }

    /// Tells netd its whole state; starts it only if there is something to do.
    pub(crate) fn sync(&self, state: State) -> Result<()> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.state = state;
        link.stream = None;
        if link.state == State::default() && UnixStream::connect(&self.socket).is_err() {
            return Ok(());
        }
        self.connect(&mut link)
    }

    /// Makes changes, in order; answers what became of each.
    ///
    /// Changes that netd refused are not remembered. Nothing is sent, and netd not started, when all of them are
    /// removals of what netd does not have.
    pub(crate) fn apply(&self, changes: Vec<Change>) -> Result<Vec<Outcome>> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.iter().all(|change| is_void(&link.state, change)) {
            return Ok(vec![Outcome::Done; changes.len()]);
        }
        let request = Request::Apply(changes.clone());
        let outcomes = match self.try_apply(&mut link, &request) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::warn!(%error, "netd does not answer, starting it again");
                link.stream = None;
                self.try_apply(&mut link, &request).map_err(failed("apply changes"))?
            }
        };
        for (change, outcome) in changes.into_iter().zip(&outcomes) {
            remember(&mut link.state, change, outcome);
        }
        Ok(outcomes)
    }

    /// Whether the cluster's names of a network are known.
    pub(crate) fn knows_names(&self, network: &NetworkId) -> bool {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.state.cluster_names.iter().any(|names| names.network == *network)
    }

    /// The networks whose names by the cluster are known.
    pub(crate) fn named_networks(&self) -> Vec<NetworkId> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.state.cluster_names.iter().map(|names| names.network.clone()).collect()
    }

    /// Reconnects if the connection is gone, starting netd when needed.
    pub(crate) fn repair(&self) -> Result<()> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.stream = None;
        if link.state == State::default() { Ok(()) } else { self.connect(&mut link) }
    }

    /// Says goodbye: ends netd when it has nothing to do, and leaves it alone otherwise. The next change connects again.
    pub(crate) fn leave(&self) {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = link.stream.take();
        if link.state != State::default() {
            return;
        }
        // One that does not answer ends by itself, a little later.
        if let Ok(mut stream) = stream.map_or_else(|| UnixStream::connect(&self.socket), Ok) {
            let _ = stream.set_read_timeout(Some(GOODBYE_LIMIT));
            let _: Result<Reply, _> = exchange(&mut stream, &Request::Stop);
        }
    }

    /// Resolves when netd is needed and not there.
    pub(crate) async fn closed(&self) {
        loop {
            let connected = self.connected.notified();
            if !self.is_needed() {
                connected.await;
                continue;
            }
            let Ok(mut watch) = tokio::net::UnixStream::connect(&self.socket).await else { return };
            // Nothing is ever sent on this connection; it ends with the process.
            let _ = watch.read(&mut [0; 1]).await;
            // One that has nothing to do any more was told to end.
            if self.is_needed() {
                return;
            }
        }
    }

    fn is_needed(&self) -> bool {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).state != State::default()
    }

    fn try_apply(&self, link: &mut Link, request: &Request) -> io::Result<Vec<Outcome>> {
        if link.stream.is_none() {
            self.connect(link).map_err(io::Error::other)?;
        }
        let Some(stream) = link.stream.as_mut() else { return Err(io::ErrorKind::NotConnected.into()) };
        match exchange(stream, request)? {
            Reply::Applied(outcomes) => Ok(outcomes),
            Reply::Hello { .. } | Reply::Synced { .. } | Reply::Stopping => {
                Err(io::ErrorKind::InvalidData.into())
            }
        }
    }

    /// Connects, starts the process if there is none, replaces one of another version, and tells it the state.
    fn connect(&self, link: &mut Link) -> Result<()> {
        let mut stream = match self.greet() {
            Ok(stream) => stream,
            Err(_) => self.start()?,
        };
        let synced = exchange(&mut stream, &Request::Sync(link.state.clone()))
            .map_err(failed("take over the state"))?;
        if let Reply::Synced { failures } = synced {
            for failure in failures {
                tracing::warn!(failure, "netd could not take over a part of its state");
            }
        }
        link.stream = Some(stream);
        self.connected.notify_waiters();
        Ok(())
    }

    /// Starts a process and waits until it listens. Starts another one now and then: the first may have given way to a
    /// netd that was just ending.
    fn start(&self) -> Result<UnixStream> {
        let arguments = [OsString::from("--socket"), self.socket.clone().into_os_string()];
        let deadline = Instant::now() + START_LIMIT;
        loop {
            (self.spawn)(&arguments).map_err(failed("start"))?;
            let next_try = Instant::now() + START_AGAIN;
            loop {
                match self.greet() {
                    Ok(stream) => return Ok(stream),
                    Err(error) if Instant::now() > deadline => {
                        return Err(failed("wait for its socket")(error));
                    }
                    Err(_) if Instant::now() > next_try => break,
                    // A socket cannot be waited for before it exists.
                    Err(_) => thread::sleep(POLL),
                }
            }
        }
    }

    /// Connects to a netd of our version; one of another version is told to end.
    fn greet(&self) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        match exchange(&mut stream, &Request::Hello { version: VERSION })? {
            Reply::Hello { version: VERSION, pid } => {
                tracing::debug!(netd.pid = pid, "connected to netd");
                Ok(stream)
            }
            Reply::Hello { version, pid } => {
                tracing::info!(netd.pid = pid, version, "replacing netd of another version");
                let _: Reply = exchange(&mut stream, &Request::Stop)?;
                Err(io::ErrorKind::ConnectionRefused.into())
            }
            Reply::Synced { .. } | Reply::Applied(_) | Reply::Stopping => {
                Err(io::ErrorKind::InvalidData.into())
            }
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("socket", &self.socket).finish_non_exhaustive()
    }
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> NetError {
    let what = what.to_owned();
    move |source| NetError::Netd { what, source }
}

/// Whether a change removes something that is not there.
fn is_void(state: &State, change: &Change) -> bool {
    match change {
        Change::Release(key) => !state.holds.iter().any(|held| held.key == *key),
        Change::RemoveResolver(sandbox) => {
            !state.resolvers.iter().any(|resolver| resolver.sandbox == *sandbox)
        }
        Change::RemoveRecord(endpoint) => !state.records.iter().any(|record| record.endpoint == *endpoint),
        // Another daemon may have left names; without anything else to do netd is about to end with them.
        Change::RetainNames(_) => *state == State::default(),
        Change::Hold(_)
        | Change::Resolver(_)
        | Change::Record(_)
        | Change::Names(_)
        | Change::SomeNames(..) => false,
    }
}

/// Keeps the picture of what netd does up to date.
fn remember(state: &mut State, change: Change, outcome: &Outcome) {
    match (change, outcome) {
        (_, Outcome::Failed { .. }) => {}
        (Change::Hold(request), Outcome::Held { port, addresses }) => {
            for (address, target) in
                request.bindings.into_iter().filter(|(address, _)| addresses.contains(address))
            {
                let key = PortKey { protocol: request.protocol, address: (address, *port).into() };
                state.holds.retain(|held| held.key != key);
                state.holds.push(HeldPort { key, target });
            }
        }
        (Change::Hold(_), Outcome::Done) => {}
        (Change::Release(key), _) => state.holds.retain(|held| held.key != key),
        (Change::Resolver(resolver), _) => {
            state.resolvers.retain(|other| other.sandbox != resolver.sandbox);
            state.resolvers.push(resolver);
        }
        (Change::RemoveResolver(sandbox), _) => state.resolvers.retain(|other| other.sandbox != sandbox),
        (Change::Record(record), _) => {
            state.records.retain(|other| other.endpoint != record.endpoint);
            state.records.push(record);
        }
        (Change::RemoveRecord(endpoint), _) => state.records.retain(|other| other.endpoint != endpoint),
        (Change::Names(names), _) => {
            state.cluster_names.retain(|other| other.network != names.network);
            state.cluster_names.push(names);
        }
        (Change::SomeNames(network, changes), _) => {
            let known = state.cluster_names.iter_mut().find(|names| names.network == network);
            if let Some(names) = known {
                changes.into_iter().for_each(|change| change_names(&mut names.entries, change));
            }
        }
        (Change::RetainNames(networks), _) => {
            state.cluster_names.retain(|names| networks.contains(&names.network));
        }
    }
}

fn change_names(entries: &mut Vec<NameEntry>, change: NameChange) {
    let owner = match &change {
        NameChange::Set(entry) => &entry.owner,
        NameChange::Remove(owner) => owner,
    };
    entries.retain(|entry| entry.owner != *owner);
    if let NameChange::Set(entry) = change {
        entries.push(entry);
    }
}
