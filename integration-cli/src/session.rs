//! What a test does with a daemon: the stock command line, raw requests, names of its own, and cleaning up after itself.
//!
//! Tests share a daemon and run side by side, so every object a test makes carries a name from [`Session::name`]; at
//! the end of the session everything with that prefix is removed. Raw requests go to [`PINNED`] unless they bring a
//! version, because shapes are then the same on the reference and on newer daemons.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::http::{Client, Exchange, Reply, Request};
use crate::process::{Outcome, Running, command, run};
use crate::{skip, words};

/// The API version raw requests are pinned to: the newest that the reference speaks.
pub const PINNED: &str = "/v1.41";

/// A dotted API version; compares by number, not by text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(pub u32, pub u32);

impl ApiVersion {
    /// Parses `1.41`; panics on anything else.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (major, minor) = text.split_once('.').unwrap_or_else(|| panic!("not an API version: {text:?}"));
        Self(major.parse().expect("a major version"), minor.parse().expect("a minor version"))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// A stock docker command line client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerClient {
    /// The program.
    pub program: PathBuf,
}

impl DockerClient {
    /// The client under `SHOAL_TEST_DOCKER`, else the `docker` of the PATH.
    #[must_use]
    pub fn from_environment() -> Self {
        Self { program: std::env::var_os("SHOAL_TEST_DOCKER").map_or_else(|| "docker".into(), PathBuf::from) }
    }

    /// The clients that core cases run with: the chosen one and, when it is another program, Debian's 20.10.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let chosen = Self::from_environment();
        let debian = Self { program: PathBuf::from("/usr/bin/docker") };
        let other = debian.program.exists()
            && debian != chosen
            && std::path::Path::new("/usr/local/bin/docker").exists();
        std::iter::once(chosen).chain(other.then_some(debian)).collect()
    }
}

/// A test's dealings with one daemon. Dropping it removes what the test made.
#[derive(Debug)]
pub struct Session {
    daemon: Arc<Daemon>,
    prefix: String,
    client: DockerClient,
    named: AtomicU32,
}

impl Session {
    /// A session whose objects are named after `stem`, which no other session of this daemon may use.
    #[must_use]
    pub fn new(daemon: Arc<Daemon>, stem: &str) -> Self {
        let client = DockerClient::from_environment();
        Self { daemon, prefix: format!("{stem}-"), client, named: AtomicU32::new(0) }
    }

    /// The same daemon through another client program; names stay apart from this session's.
    #[must_use]
    pub fn with_client(&self, client: &DockerClient) -> Self {
        let prefix = format!("{}-", self.name("client"));
        Self { daemon: Arc::clone(&self.daemon), prefix, client: client.clone(), named: AtomicU32::new(0) }
    }

    /// The daemon.
    #[must_use]
    pub fn daemon(&self) -> &Arc<Daemon> {
        &self.daemon
    }

    /// A name nobody else uses; `stem` says what for.
    #[must_use]
    pub fn name(&self, stem: &str) -> String {
        let number = self.named.fetch_add(1, Ordering::Relaxed);
        format!("{}{stem}{number}", self.prefix)
    }

    /// The prefix of all names of this session; serves as a filter.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    // ---- versions

    /// Whether the daemon speaks at least this API version.
    #[must_use]
    pub fn api_at_least(&self, major: u32, minor: u32) -> bool {
        self.daemon.api() >= ApiVersion(major, minor)
    }

    /// Skips the test unless the daemon is new enough for a behaviour that the reference cannot show.
    pub fn newer_than_reference(&self, major: u32, minor: u32, why: &str) {
        if !self.api_at_least(major, minor) {
            skip(&format!("newer than the reference (needs API {major}.{minor}): {why}"));
        }
    }

    /// Picks what to expect where the reference (API 1.41) and daemons of API 1.42 and newer are known to differ.
    ///
    /// Each use says why in a comment; a difference nobody can explain is a failure, not a use of this.
    #[must_use]
    pub fn by_age<T>(&self, newer: T, reference: T) -> T {
        if self.api_at_least(1, 42) { newer } else { reference }
    }

    // ---- the command line client

    /// Skips the test if the docker client is older than `major`, the first that has what the test uses.
    #[track_caller]
    pub fn newer_client(&self, major: u32, why: &str) {
        let shown = self.docker("--version").ok();
        let version = shown.strip_prefix("Docker version ").and_then(|rest| rest.split('.').next());
        let version: u32 = version.and_then(|text| text.parse().ok()).expect("the version of the client");
        if version < major {
            skip(&format!("needs a docker client from {major}: {why}"));
        }
    }

    /// Runs `docker LINE`, the line split into words as a shell would.
    #[track_caller]
    pub fn docker(&self, line: &str) -> Outcome {
        self.docker_with_input(line, b"")
    }

    /// Runs `docker LINE` with `input` on its standard input.
    #[track_caller]
    pub fn docker_with_input(&self, line: &str, input: &[u8]) -> Outcome {
        run(self.docker_command(&words::split(line)), input)
    }

    /// Runs `docker` with arguments that need no splitting.
    #[track_caller]
    pub fn docker_args(&self, arguments: &[&str]) -> Outcome {
        run(self.docker_command(arguments), b"")
    }

    /// Starts `docker LINE` and leaves it running.
    #[track_caller]
    pub fn docker_start(&self, line: &str) -> Running {
        Running::start(self.docker_command(&words::split(line)))
    }

    /// The client's command, ready to run.
    pub fn docker_command<S: AsRef<str>>(&self, arguments: &[S]) -> Command {
        let mut docker = command(&self.client.program);
        docker.args(arguments.iter().map(AsRef::as_ref));
        docker.env("DOCKER_HOST", format!("unix://{}", self.daemon.socket().display()));
        docker.env("DOCKER_CLI_HINTS", "false");
        // An empty configuration directory: no plugins of the machine, no stored logins.
        let home = self
            .daemon
            .own_machine()
            .map_or_else(std::env::temp_dir, |machine| machine.root().join("client"));
        docker.env("DOCKER_CONFIG", &home).env("HOME", &home);
        docker
    }

    // ---- raw requests

    /// The raw client of the daemon's socket.
    #[must_use]
    pub fn http(&self) -> Client {
        Client::new(self.daemon.socket())
    }

    /// Sends a request; a path without version is pinned to [`PINNED`].
    #[track_caller]
    pub fn send(&self, request: Request) -> Reply {
        let request = pinned(request);
        self.http()
            .send(&request)
            .unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.target))
    }

    /// Sends a request; the error is that of the connection.
    pub fn try_send(&self, request: Request) -> std::io::Result<Reply> {
        self.http().send(&pinned(request))
    }

    /// Sends a request and returns once the head of the answer is there.
    #[track_caller]
    pub fn open(&self, request: Request) -> Exchange {
        let request = pinned(request);
        self.http()
            .open(&request)
            .unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.target))
    }

    /// GET.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.send(Request::new("GET", path))
    }

    /// POST without a body.
    #[track_caller]
    pub fn post(&self, path: &str) -> Reply {
        self.send(Request::new("POST", path))
    }

    /// POST with a JSON body.
    #[track_caller]
    pub fn post_json(&self, path: &str, body: &Value) -> Reply {
        self.send(Request::new("POST", path).json(body))
    }

    /// DELETE.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Reply {
        self.send(Request::new("DELETE", path))
    }

    /// GET of a list with filters, e.g. `list("/containers/json?all=1", json!({"name": ["x"]}))`.
    #[track_caller]
    pub fn list(&self, path: &str, filters: &Value) -> Vec<Value> {
        let reply = self.get(&with_filters(path, filters)).expect(200);
        reply.json().as_array().cloned().unwrap_or_else(|| panic!("not a list: {reply:?}"))
    }

    // ---- beside the daemon

    /// Runs a shell line on the daemon's machine, in its network and mount namespace.
    #[track_caller]
    pub fn host(&self, script: &str) -> Outcome {
        let mut shell = self.daemon.machine().inside("sh");
        shell.arg("-c").arg(script);
        run(shell, b"")
    }

    /// Runs a shell line on the neighbour: what a client out in the network sees.
    #[track_caller]
    pub fn outside(&self, script: &str) -> Outcome {
        let mut shell = self.daemon.machine().outside("sh");
        shell.arg("-c").arg(script);
        run(shell, b"")
    }

    /// A directory of this session on the daemon's machine, for bind mounts.
    #[must_use]
    pub fn directory(&self, stem: &str) -> PathBuf {
        let path = self.daemon.machine().root().join("files").join(self.name(stem));
        std::fs::create_dir_all(&path).expect("a directory for a bind mount");
        path
    }

    fn clean_up(&self) {
        let client = self.http();
        let send = |method: &str, path: String| client.send(&pinned(Request::new(method, &path))).ok();
        let listed = |path: String, key: &str, pointer: &str| -> Vec<String> {
            let Some(reply) = send("GET", path).filter(|reply| reply.status == 200) else {
                return Vec::new();
            };
            let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            let list = body.as_array().or_else(|| body[key].as_array()).cloned().unwrap_or_default();
            list.iter().filter_map(|item| item.pointer(pointer)?.as_str().map(str::to_owned)).collect()
        };
        let name = json!({"name": [&self.prefix]});
        for id in listed(with_filters("/containers/json?all=1", &name), "", "/Id") {
            send("DELETE", format!("/containers/{id}?force=1&v=1"));
        }
        for id in listed(with_filters("/networks", &name), "", "/Id") {
            send("DELETE", format!("/networks/{id}"));
        }
        for volume in listed(with_filters("/volumes", &name), "Volumes", "/Name") {
            send("DELETE", format!("/volumes/{volume}?force=1"));
        }
        // By name and not by id: another test may have made the same image under a name of its own.
        let images = with_filters("/images/json", &json!({"reference": [format!("{}*", self.prefix)]}));
        for tag in listed(images, "", "/RepoTags/0") {
            send("DELETE", format!("/images/{tag}?force=1"));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.named.load(Ordering::Relaxed) > 0 {
            self.clean_up();
        }
    }
}

/// Appends a filter map to a path, percent-encoded.
#[must_use]
pub fn with_filters(path: &str, filters: &Value) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}filters={}", encode(&filters.to_string()))
}

/// Percent-encodes a query value.
#[must_use]
pub fn encode(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn pinned(mut request: Request) -> Request {
    let versioned =
        request.target.strip_prefix("/v").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if !versioned && request.target != "/_ping" {
        request.target = format!("{PINNED}{}", request.target);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::{ApiVersion, encode};

    #[test]
    fn versions_compare_by_number() {
        assert!(ApiVersion::parse("1.9") < ApiVersion::parse("1.10"));
        assert_eq!(ApiVersion::parse("1.41").to_string(), "1.41");
    }

    #[test]
    fn query_values_are_percent_encoded() {
        assert_eq!(encode("{\"a\":[\"x y\"]}"), "%7B%22a%22%3A%5B%22x%20y%22%5D%7D");
    }
}
