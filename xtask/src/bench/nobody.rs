//! An engine that does nothing but take archives and hand out prepared ones: what is left of `docker cp` is the client's own cost.
//!
//! Start reading at [`listen`]. It knows the four requests that `docker cp` makes and no others; containers are called `in`
//! and `out`, and nothing is kept.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// As much as is read at once.
const BUFFER: usize = 256 * 1024;
/// A directory and a file, as the header of the archive's answer describes them: JSON in base64.
const DIRECTORY: &str = "eyJuYW1lIjoicm9vdCIsInNpemUiOjAsIm1vZGUiOjIxNDc0ODQxNDEsIm10aW1lIjoiMjAyNC0wMS0wMVQwMDowMDowMFoiLCJsaW5rVGFyZ2V0IjoiIn0=";
const FILE: &str = "eyJuYW1lIjoiZmlsZSIsInNpemUiOjAsIm1vZGUiOjQyMCwibXRpbWUiOiIyMDI0LTAxLTAxVDAwOjAwOjAwWiIsImxpbmtUYXJnZXQiOiIifQ==";

/// Listens at `socket` until the process ends; `file.tar` and `tree.tar` of `archives` are handed out.
pub(super) fn listen(socket: &Path, archives: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket).with_context(|| format!("bind {}", socket.display()))?;
    let archives = archives.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let archives = archives.clone();
            // A client that hangs up in the middle is the client's business.
            std::thread::spawn(move || serve(&stream, &archives));
        }
    });
    Ok(())
}

fn serve(stream: &UnixStream, archives: &Path) -> io::Result<()> {
    let mut input = BufReader::with_capacity(BUFFER, stream);
    while let Some(request) = Request::read(&mut input)? {
        request.skip_body(&mut input)?;
        answer(&request, stream, archives)?;
    }
    Ok(())
}

fn answer(request: &Request, mut stream: &UnixStream, archives: &Path) -> io::Result<()> {
    let head = |status: &str, length: u64, more: &str| {
        format!(
            "HTTP/1.1 {status}\r\nApi-Version: 1.41\r\nOstype: linux\r\nContent-Length: {length}\r\n{more}\r\n"
        )
    };
    let described =
        |what: &str| format!("Content-Type: application/x-tar\r\nX-Docker-Container-Path-Stat: {what}\r\n");
    let is_archive = request.target.contains("/archive?");
    match request.method.as_str() {
        // What is copied in is not there yet; where it goes is.
        "HEAD" if is_archive && request.target.ends_with("root%2Ffile") => {
            stream.write_all(head("404 Not Found", 0, "").as_bytes())
        }
        "HEAD" if is_archive => stream.write_all(head("200 OK", 0, &described(DIRECTORY)).as_bytes()),
        "GET" if is_archive => {
            let is_tree = request.target.contains("tree");
            let (name, what) = if is_tree { ("tree.tar", DIRECTORY) } else { ("file.tar", FILE) };
            let mut archive = File::open(archives.join(name))?;
            let length = archive.metadata()?.len();
            stream.write_all(head("200 OK", length, &described(what)).as_bytes())?;
            copy(&mut archive, &mut stream)
        }
        "HEAD" => stream.write_all(head("200 OK", 0, "").as_bytes()),
        "GET" => stream.write_all((head("200 OK", 2, "") + "OK").as_bytes()),
        _ => stream.write_all(head("200 OK", 0, "").as_bytes()),
    }
}

/// Copies in large steps, as the load generator does.
pub(super) fn copy(from: &mut impl io::Read, to: &mut impl io::Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(buffer.get(..count).unwrap_or_default())?,
        }
    }
}

/// The head of a request.
#[derive(Debug, Default)]
struct Request {
    method: String,
    target: String,
    length: u64,
    is_chunked: bool,
}

impl Request {
    /// `None` when the client has closed.
    fn read(input: &mut BufReader<&UnixStream>) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut request = Self { method, target, ..Self::default() };
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            let Some((name, value)) = line.split_once(':') else { return Ok(Some(request)) };
            match name {
                "content-length" => request.length = value.trim().parse().unwrap_or_default(),
                "transfer-encoding" => request.is_chunked = value.trim() == "chunked",
                _ => {}
            }
        }
    }

    fn skip_body(&self, input: &mut BufReader<&UnixStream>) -> io::Result<()> {
        if !self.is_chunked {
            return skip(input, self.length);
        }
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            skip(input, size)?;
            input.read_line(&mut String::new())?;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

fn skip(input: &mut BufReader<&UnixStream>, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut input.take(length), &mut io::sink())?;
    if skipped == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Where the archives and the socket of a run are.
pub(super) fn socket(directory: &Path) -> PathBuf {
    directory.join("nobody.sock")
}
