//! Containers as tests handle them: made by the command line or by a raw request, then looked at and waited for.
//!
//! Everything here is an extension of [`Session`]; the container itself is only a name and an id.

use std::fmt;

use serde_json::{Value, json};

use crate::condition::eventually;
use crate::http::Reply;
use crate::process::Outcome;
use crate::session::Session;

/// A container that a test made; shows itself as its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Name without slash.
    pub name: String,
    /// Full id.
    pub id: String,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Container {
    /// The twelve digits clients show.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.id[..12]
    }
}

impl Session {
    /// `docker run -d --name NEW LINE`.
    #[track_caller]
    pub fn start(&self, line: &str) -> Container {
        let name = self.name("c");
        let id = self.docker(&format!("run -d --name {name} {line}")).ok();
        Container { name, id }
    }

    /// `docker create --name NEW LINE`.
    #[track_caller]
    pub fn create(&self, line: &str) -> Container {
        let name = self.name("c");
        let id = self.docker(&format!("create --name {name} {line}")).ok();
        Container { name, id }
    }

    /// `docker run --rm --name NEW LINE`; the output.
    #[track_caller]
    pub fn run(&self, line: &str) -> Outcome {
        self.docker(&format!("run --rm --name {} {line}", self.name("r")))
    }

    /// Raw create with a body; the answer whatever it is. The name is new.
    #[track_caller]
    pub fn create_raw(&self, body: &Value) -> Reply {
        self.post_json(&format!("/containers/create?name={}", self.name("c")), body)
    }

    /// Raw create that has to succeed.
    #[track_caller]
    pub fn create_json(&self, body: &Value) -> Container {
        let name = self.name("c");
        let reply = self.post_json(&format!("/containers/create?name={name}"), body).expect(201);
        let id = reply.json()["Id"].as_str().expect("an id").to_owned();
        Container { name, id }
    }

    /// Raw create and start.
    #[track_caller]
    pub fn start_json(&self, body: &Value) -> Container {
        let container = self.create_json(body);
        self.post(&format!("/containers/{container}/start")).expect(204);
        container
    }

    /// Raw inspect.
    #[track_caller]
    pub fn inspect(&self, container: &Container) -> Value {
        self.get(&format!("/containers/{}/json", container.id)).expect(200).json()
    }

    /// `State.Status`.
    #[track_caller]
    pub fn status(&self, container: &Container) -> String {
        self.inspect(container)["State"]["Status"].as_str().expect("a status").to_owned()
    }

    /// Waits until `State.Status` is `status`.
    #[track_caller]
    pub fn await_status(&self, container: &Container, status: &str) {
        eventually(&format!("{container} is {status}"), || (self.status(container) == status).then_some(()));
    }

    /// Waits until the container does not run and returns its exit code.
    #[track_caller]
    pub fn wait(&self, container: &Container) -> i64 {
        let reply = self.post(&format!("/containers/{}/wait", container.id)).expect(200);
        reply.json()["StatusCode"].as_i64().expect("a status code")
    }

    /// Standard output and error of the container so far, in this order.
    #[track_caller]
    pub fn logs(&self, container: &Container) -> String {
        let outcome = self.docker(&format!("logs {container}"));
        let stderr = outcome.stderr.clone();
        let stdout = outcome.ok();
        format!("{stdout}{stderr}")
    }

    /// Waits until the container's log holds `text`.
    #[track_caller]
    pub fn await_log(&self, container: &Container, text: &str) {
        eventually(&format!("{container} logs {text:?}"), || {
            self.logs(container).contains(text).then_some(())
        });
    }

    /// `docker exec CONTAINER LINE`.
    #[track_caller]
    pub fn exec(&self, container: &Container, line: &str) -> Outcome {
        self.docker(&format!("exec {container} {line}"))
    }

    /// `docker exec CONTAINER sh -c SCRIPT`, the output.
    #[track_caller]
    pub fn shell(&self, container: &Container, script: &str) -> String {
        self.docker_args(&["exec", &container.name, "sh", "-c", script]).ok()
    }

    /// The container's address on one of its networks.
    #[track_caller]
    pub fn address(&self, container: &Container, network: &str) -> String {
        let inspected = self.inspect(container);
        let address = &inspected["NetworkSettings"]["Networks"][network]["IPAddress"];
        address.as_str().unwrap_or_else(|| panic!("no address on {network}: {inspected}")).to_owned()
    }

    /// The IPv4 addresses that `name` has inside the container, by its own resolver, sorted.
    #[track_caller]
    pub fn resolve(&self, container: &Container, name: &str) -> Vec<String> {
        // The final dot keeps busybox from trying search domains, which it does even for names that were found.
        let answer = self.exec(container, &format!("nslookup -type=a {name}.")).stdout;
        // The first address is that of the server asked.
        let answers = answer.lines().skip_while(|line| !line.starts_with("Name:"));
        let addresses = answers.filter_map(|line| line.strip_prefix("Address"));
        let mut addresses: Vec<String> =
            addresses.filter_map(|line| line.rsplit(' ').next()).map(str::to_owned).collect();
        addresses.sort();
        addresses
    }

    /// The host port that `port` (e.g. `80/tcp`) of the container is published on.
    #[track_caller]
    pub fn published_port(&self, container: &Container, port: &str) -> u16 {
        let inspected = self.inspect(container);
        let bound = &inspected["NetworkSettings"]["Ports"][port][0]["HostPort"];
        bound
            .as_str()
            .and_then(|port| port.parse().ok())
            .unwrap_or_else(|| panic!("{port} is not published: {inspected}"))
    }

    /// The body of a small create request: image and command, everything else by default.
    #[must_use]
    pub fn body(&self, command: &[&str]) -> Value {
        json!({"Image": "busybox", "Cmd": command})
    }
}
