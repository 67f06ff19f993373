//! A plugin of the old kind: a small HTTP server on a daemon's machine, and the file by which the daemon finds it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::machine::Machine;
use crate::net::Place;

/// What a plugin answers to a method and its arguments.
type Answer = dyn Fn(&str, &Value) -> Value + Send + Sync;

/// A plugin that answers as long as its machine lives.
#[derive(Debug)]
pub struct FakePlugin {
    calls: Arc<Mutex<Vec<(String, Value)>>>,
}

impl FakePlugin {
    /// Serves a plugin on `machine` under this name. `Plugin.Activate` says that it implements `subsystem`.
    #[must_use]
    pub fn start(
        machine: &Machine,
        name: &str,
        subsystem: &'static str,
        answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
    ) -> Self {
        let listener = Place::inside(machine).enter(|| TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let directory = machine.path_inside("/etc/docker/plugins");
        std::fs::create_dir_all(&directory).expect("a directory for plugins");
        let spec = directory.join(format!("{name}.spec"));
        std::fs::write(spec, format!("tcp://127.0.0.1:{port}")).expect("the plugin's specification");
        let calls = Arc::<Mutex<Vec<(String, Value)>>>::default();
        let (answer, seen): (Arc<Answer>, _) = (Arc::new(answer), Arc::clone(&calls));
        // Ends with the test process; a listener in a namespace that is gone gets no connections.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                std::thread::spawn(move || serve(&stream, subsystem, &*answer, &seen));
            }
        });
        Self { calls }
    }

    /// What was called so far, with which arguments.
    #[must_use]
    pub fn calls(&self) -> Vec<(String, Value)> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers requests on one connection until the other side ends it.
fn serve(stream: &TcpStream, subsystem: &str, answer: &Answer, seen: &Mutex<Vec<(String, Value)>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let method = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let mut len = 0;
        let mut is_chunked = false;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 {
                return;
            }
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                len = value.trim().parse().unwrap_or(0);
            }
            is_chunked |= header == "transfer-encoding: chunked";
        }
        let Some(body) = (if is_chunked { read_chunks(&mut reader) } else { read_exactly(&mut reader, len) })
        else {
            return;
        };
        let arguments = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let told = match method.as_str() {
            "Plugin.Activate" => serde_json::json!({"Implements": [subsystem]}),
            _ => answer(&method, &arguments),
        };
        seen.lock().unwrap_or_else(PoisonError::into_inner).push((method, arguments));
        let text = told.to_string();
        // How plugins of this kind say that they have failed.
        let has_failed = told.get("Allow").is_some() && told.get("Err").is_some();
        let status = if has_failed { "500 Internal Server Error" } else { "200 OK" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/vnd.docker.plugins.v1+json\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        let mut writer = stream;
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(text.as_bytes())).is_err() {
            return;
        }
    }
}

fn read_exactly(reader: &mut BufReader<&TcpStream>, len: usize) -> Option<Vec<u8>> {
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn read_chunks(reader: &mut BufReader<&TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let len = usize::from_str_radix(line.trim(), 16).ok()?;
        body.extend(read_exactly(reader, len)?);
        read_exactly(reader, 2)?;
        if len == 0 {
            return Some(body);
        }
    }
}
