//! Where a plugin is: a socket of its name, or a file that says its address.
//!
//! Start reading at [`find`]. The rules are dockerd's: a socket comes before a `.spec` (an address alone) and that before a
//! `.json` (an address with files for TLS); each may lie in a directory of the plugin's name. Everything here blocks.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Places;
use super::client::{Address, TlsFiles};
use crate::error::NodeError;

/// No specification is longer.
const MAX_SPEC: u64 = 64 * 1024;

/// The form of `NAME.json`.
#[derive(Debug, Deserialize)]
struct JsonSpec {
    #[serde(rename = "Addr", default)]
    addr: String,
    #[serde(rename = "TLSConfig")]
    tls: Option<JsonTls>,
}

#[derive(Debug, Deserialize)]
struct JsonTls {
    #[serde(rename = "InsecureSkipVerify", default)]
    insecure_skip_verify: bool,
    #[serde(rename = "CAFile", default)]
    ca_file: String,
    #[serde(rename = "CertFile", default)]
    cert_file: String,
    #[serde(rename = "KeyFile", default)]
    key_file: String,
}

/// Looks for a plugin; `None` if there is none of that name.
pub(super) fn find(places: &Places, name: &str) -> Result<Option<Address>, NodeError> {
    // A name comes from a client and becomes a path.
    if name.is_empty() || name.contains('/') || name.starts_with('.') || name.contains('\0') {
        return Ok(None);
    }
    let failed = |path: &Path, source: io::Error| {
        NodeError::failed(format!("read plugin specification {}", path.display()), source)
    };
    for path in candidates(&places.sockets, name, "sock") {
        if path.metadata().is_ok_and(|found| found.file_type().is_socket()) {
            return Ok(Some(Address::Unix(path)));
        }
    }
    for path in candidates(&places.specs, name, "spec") {
        if let Some(text) = read(&path).map_err(|source| failed(&path, source))? {
            return parse_address(text.trim(), None, &path).map(Some);
        }
    }
    for path in candidates(&places.specs, name, "json") {
        if let Some(text) = read(&path).map_err(|source| failed(&path, source))? {
            let spec: JsonSpec = serde_json::from_str(&text).map_err(|error| failed(&path, error.into()))?;
            return parse_address(&spec.addr, spec.tls, &path).map(Some);
        }
    }
    Ok(None)
}

/// Names of everything that looks like a plugin, each once.
pub(super) fn list(places: &Places) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let specs = places.specs.iter().map(|directory| (directory, ["spec", "json"].as_slice()));
    let sockets = places.sockets.iter().map(|directory| (directory, ["sock"].as_slice()));
    for (directory, extensions) in sockets.chain(specs) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            let is_nested = || {
                let name = entry.file_name();
                extensions.iter().any(|extension| path.join(&name).with_extension(extension).exists())
            };
            let name = match extension {
                Some(extension) if extensions.contains(&extension) => path.file_stem(),
                _ if is_nested() => path.file_name(),
                _ => None,
            };
            names.extend(name.and_then(|name| name.to_str()).map(str::to_owned));
        }
    }
    names
}

fn candidates(directories: &[PathBuf], name: &str, extension: &str) -> Vec<PathBuf> {
    let file = format!("{name}.{extension}");
    directories
        .iter()
        .flat_map(|directory| [directory.join(&file), directory.join(name).join(&file)])
        .collect()
}

fn read(path: &Path) -> io::Result<Option<String>> {
    use std::io::Read as _;
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MAX_SPEC).read_to_string(&mut text)?;
    Ok(Some(text))
}

fn parse_address(written: &str, tls: Option<JsonTls>, path: &Path) -> Result<Address, NodeError> {
    let wrong = || NodeError::invalid(format!("{}: unknown protocol in {written:?}", path.display()));
    let (scheme, rest) = written.split_once("://").ok_or_else(wrong)?;
    let authority = rest.split('/').next().unwrap_or_default();
    match scheme {
        "unix" if rest.starts_with('/') => Ok(Address::Unix(rest.into())),
        "tcp" | "http" if !authority.is_empty() && tls.is_none() => Ok(Address::Tcp(authority.to_owned())),
        "tcp" | "https" if !authority.is_empty() => {
            let file = |path: String| (!path.is_empty()).then(|| PathBuf::from(path));
            let files = tls.map_or_else(
                || TlsFiles { is_proven: true, ..TlsFiles::default() },
                |tls| TlsFiles {
                    ca_file: file(tls.ca_file),
                    identity: file(tls.cert_file).zip(file(tls.key_file)),
                    is_proven: !tls.insecure_skip_verify,
                },
            );
            Ok(Address::Tls(authority.to_owned(), files))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_come_before_specs_and_those_before_json() {
        let dir = tempfile::tempdir().unwrap();
        let (sockets, specs) = (dir.path().join("sockets"), dir.path().join("specs"));
        fs::create_dir_all(sockets.join("nested")).unwrap();
        fs::create_dir_all(&specs).unwrap();
        let places = Places { sockets: vec![sockets.clone()], specs: vec![specs.clone()] };
        let find = |name: &str| find(&places, name).unwrap();
        assert_eq!(find("p"), None);
        let json =
            r#"{"Name":"p","Addr":"https://h:1/x","TLSConfig":{"InsecureSkipVerify":true,"CAFile":"/ca"}}"#;
        fs::write(specs.join("p.json"), json).unwrap();
        let files = TlsFiles { ca_file: Some("/ca".into()), identity: None, is_proven: false };
        assert_eq!(find("p"), Some(Address::Tls("h:1".to_owned(), files)));
        fs::write(specs.join("p.spec"), "tcp://localhost:8080\n").unwrap();
        assert_eq!(find("p"), Some(Address::Tcp("localhost:8080".to_owned())));
        // A file of that name is no socket.
        fs::write(sockets.join("p.sock"), "").unwrap();
        assert_eq!(find("p"), Some(Address::Tcp("localhost:8080".to_owned())));
        let nested = sockets.join("nested/nested.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&nested).unwrap();
        assert_eq!(find("nested"), Some(Address::Unix(nested)));
        assert_eq!(list(&places), BTreeSet::from(["nested".to_owned(), "p".to_owned()]));
    }

    #[test]
    fn names_that_lead_elsewhere_are_not_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.spec"), "unix:///x").unwrap();
        let below = dir.path().join("below");
        let places = Places { sockets: vec![], specs: vec![below] };
        for name in ["../x", "", ".", "a/b", "a\0b"] {
            assert_eq!(find(&places, name).unwrap(), None, "{name:?}");
        }
    }

    #[test]
    fn an_address_of_no_known_kind_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.spec"), "ftp://h").unwrap();
        let places = Places { sockets: vec![], specs: vec![dir.path().to_owned()] };
        assert!(find(&places, "x").is_err());
    }
}
