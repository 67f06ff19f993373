//! What the cases ask of an engine, in terms of Docker's API.
//!
//! Start reading at [`Api::run_to_end`], the life of one container. Paths carry no version: every engine speaks its newest.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::http::{Body, Client, Refusal};
use super::samples::{Clock, Milliseconds};

/// Image of all containers here.
pub(super) const IMAGE: &str = "benchbox:latest";
/// Everything that is made carries it, so that it can be found and removed.
pub(super) const LABEL: &str = "shoal-bench";
/// `{"label":["shoal-bench"]}`, percent-encoded.
const OURS: &str = "%7B%22label%22%3A%5B%22shoal-bench%22%5D%7D";

/// A network that containers can be in without having made one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    Bridge,
    None,
}

/// How long the steps of a container's life took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) create: Milliseconds,
    pub(super) start: Milliseconds,
    pub(super) wait: Milliseconds,
    pub(super) remove: Milliseconds,
}

/// One connection to one engine.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    cgroup_parent: String,
}

impl Api {
    /// `cgroup_parent` is where containers are to be accounted.
    pub(super) fn new(client: Client, cgroup_parent: &str) -> Self {
        Self { client, cgroup_parent: cgroup_parent.to_owned() }
    }

    pub(super) fn get(&mut self, target: &str) -> Result<Value> {
        let reply = self.client.call("GET", target, Body::Nothing)?;
        serde_json::from_slice(&reply.body).with_context(|| format!("answer to GET {target}"))
    }

    pub(super) fn post(&mut self, target: &str, body: Body<'_>) -> Result<Vec<u8>> {
        Ok(self.client.call("POST", target, body)?.body)
    }

    pub(super) fn delete(&mut self, target: &str) -> Result<()> {
        self.client.call("DELETE", target, Body::Nothing).map(|_| ())
    }

    pub(super) fn ping(&mut self) -> Result<()> {
        self.client.call("GET", "/_ping", Body::Nothing).map(|_| ())
    }

    /// Name and version of the engine, for the heading of a table.
    pub(super) fn version(&mut self) -> Result<String> {
        let version = self.get("/version")?;
        let text = |key: &str| version[key].as_str().unwrap_or("?").to_owned();
        Ok(format!("{} (API {})", text("Version"), text("ApiVersion")))
    }

    /// Creates a container; `host` are fields of HostConfig.
    pub(super) fn create(&mut self, command: &[&str], host: &Value) -> Result<String> {
        self.create_with(command, host, &json!({}), "")
    }

    /// Creates a container with more fields, and with a query such as `?name=x`.
    pub(super) fn create_with(
        &mut self,
        command: &[&str],
        host: &Value,
        more: &Value,
        query: &str,
    ) -> Result<String> {
        let mut host = host.clone();
        host["CgroupParent"] = json!(self.cgroup_parent);
        let mut body = json!({"Image": IMAGE, "Cmd": command, "Labels": {LABEL: "1"}, "HostConfig": host});
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        let answer = self.post(&format!("/containers/create{query}"), Body::Json(&body))?;
        let answer: Value = serde_json::from_slice(&answer)?;
        answer["Id"].as_str().map(str::to_owned).context("no Id in the answer to create")
    }

    pub(super) fn start(&mut self, id: &str) -> Result<()> {
        self.post(&format!("/containers/{id}/start"), Body::Nothing).map(|_| ())
    }

    /// Waits for the end and returns the exit code.
    pub(super) fn wait(&mut self, id: &str) -> Result<i64> {
        let answer: Value =
            serde_json::from_slice(&self.post(&format!("/containers/{id}/wait"), Body::Nothing)?)?;
        answer["StatusCode"].as_i64().context("no StatusCode in the answer to wait")
    }

    /// A container that runs until it is removed.
    pub(super) fn sleeper(&mut self) -> Result<String> {
        let id = self.create(&["sleep", "86400"], &json!({}))?;
        self.start(&id)?;
        Ok(id)
    }

    /// Removes a container whatever its state; one that is gone is fine.
    pub(super) fn remove(&mut self, id: &str) -> Result<()> {
        let removed = self.client.call("DELETE", &format!("/containers/{id}?force=1&v=1"), Body::Nothing);
        match removed {
            Err(error) if status_of(&error) == Some(404) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Create, start, wait, remove, one after the other.
    pub(super) fn run_to_end(&mut self, command: &[&str], network: Network) -> Result<Life> {
        let host = match network {
            Network::Bridge => json!({}),
            Network::None => json!({"NetworkMode": "none"}),
        };
        let mut clock = Clock::start();
        let id = self.create(command, &host)?;
        let create = clock.lap();
        self.start(&id)?;
        let start = clock.lap();
        let code = self.wait(&id)?;
        let wait = clock.lap();
        self.client.call("DELETE", &format!("/containers/{id}"), Body::Nothing)?;
        let remove = clock.lap();
        ensure!(code == 0, "the container ended with {code}");
        Ok(Life { create, start, wait, remove })
    }

    /// Ids of containers that the bench made; of the running ones or of all.
    pub(super) fn ours(&mut self, state: State) -> Result<Vec<String>> {
        let all = if state == State::Any { "all=1&" } else { "" };
        let list = self.get(&format!("/containers/json?{all}filters={OURS}"))?;
        let list = list.as_array().context("a list of containers is not a list")?;
        Ok(list.iter().filter_map(|container| container["Id"].as_str().map(str::to_owned)).collect())
    }

    /// Runs a program in a running container and returns what it writes to both streams.
    pub(super) fn exec(&mut self, id: &str, command: &[&str]) -> Result<Vec<u8>> {
        let asked = json!({"AttachStdout": true, "AttachStderr": true, "Cmd": command});
        let answer: Value =
            serde_json::from_slice(&self.post(&format!("/containers/{id}/exec"), Body::Json(&asked))?)?;
        let exec = answer["Id"].as_str().context("no Id in the answer to exec")?;
        let mut written = Vec::new();
        let detached = json!({"Detach": false, "Tty": false});
        let target = format!("/exec/{exec}/start");
        self.client.stream("POST", &target, Body::Json(&detached))?.read_to_end(&mut written)?;
        let state = self.get(&format!("/exec/{exec}/json"))?;
        ensure!(state["ExitCode"] == 0, "exec of {command:?} ended with {}", state["ExitCode"]);
        Ok(written)
    }

    /// All that a container has written, as it comes: a multiplexed stream.
    pub(super) fn logs(&mut self, id: &str) -> Result<Vec<u8>> {
        let reply = self.client.call("GET", &format!("/containers/{id}/logs?stdout=1"), Body::Nothing)?;
        Ok(reply.body)
    }

    /// A second connection, handed over after the head of the answer.
    pub(super) fn stream(
        &self,
        method: &str,
        target: &str,
    ) -> Result<std::io::BufReader<super::http::Stream>> {
        self.client.stream(method, target, Body::Nothing)
    }

    /// Makes an image of one layer from an archive.
    pub(super) fn import(&mut self, archive: &Path) -> Result<()> {
        let (repository, tag) = IMAGE.split_once(':').unwrap_or((IMAGE, "latest"));
        let target = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}");
        let body = Body::File { content_type: "application/x-tar", path: archive };
        check_progress(&self.post(&target, body)?)
    }

    /// Unpacks an archive in a directory of a container.
    pub(super) fn put_archive(&mut self, id: &str, directory: &str, archive: &Path) -> Result<()> {
        let target = format!("/containers/{id}/archive?path={directory}");
        let body = Body::File { content_type: "application/x-tar", path: archive };
        self.client.call("PUT", &target, body).map(|_| ())
    }

    /// Takes a path of a container as an archive and returns how long it is.
    pub(super) fn count_archive(&mut self, id: &str, path: &str) -> Result<u64> {
        self.client.count(&format!("/containers/{id}/archive?path={path}"))
    }

    /// Pulls `name:latest`.
    pub(super) fn pull(&mut self, name: &str) -> Result<()> {
        check_progress(&self.post(&format!("/images/create?fromImage={name}&tag=latest"), Body::Nothing)?)
    }

    /// Removes an image if it is there.
    pub(super) fn remove_image(&mut self, name: &str) -> Result<()> {
        match self.client.call("DELETE", &format!("/images/{name}?force=1"), Body::Nothing) {
            Err(error) if status_of(&error) == Some(404) => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

/// Which containers are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Running,
    Any,
}

/// The status of an answer that said no.
pub(super) fn status_of(error: &anyhow::Error) -> Option<u16> {
    error.downcast_ref::<Refusal>().map(|refusal| refusal.status)
}

/// Progress streams tell their failure in a line, after the status 200.
fn check_progress(lines: &[u8]) -> Result<()> {
    for line in serde_json::Deserializer::from_slice(lines).into_iter::<Value>() {
        if let Some(error) = line?.get("error") {
            bail!("{error}");
        }
    }
    Ok(())
}
