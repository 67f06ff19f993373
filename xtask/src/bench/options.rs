//! What the command line asks for.
//!
//! Start reading at [`Options`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::setup;

/// Name of the directory below `--work` that holds everything; it is removed at the end.
const DIRECTORY: &str = "shoal-bench";

/// A program that speaks Docker's API and can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What is being built here.
    Shoal,
    /// Debian's dockerd, with the containerd that it starts.
    Dockerd,
    /// podman's service.
    Podman,
}

impl Kind {
    /// How it is called in tables and on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Shoal => "shoal",
            Self::Dockerd => "dockerd",
            Self::Podman => "podman",
        }
    }
}

/// The command line.
#[derive(Debug, Clone)]
pub(super) struct Options {
    /// Only tell how this is used.
    pub(super) is_help: bool,
    /// Whether Shoal is measured.
    pub(super) is_shoal_measured: bool,
    /// Shoal's binary; `None` builds it.
    pub(super) shoald: Option<PathBuf>,
    /// Those it is compared with, the first being what ratios refer to.
    pub(super) peers: Vec<Kind>,
    /// Names of cases; empty for all.
    pub(super) only: Vec<String>,
    /// Overrides how often each case is repeated.
    pub(super) rounds: Option<usize>,
    /// Multiplies repetitions, container counts and durations.
    pub(super) scale: f64,
    /// How long a round waits for a machine that is otherwise idle.
    pub(super) quiet: Duration,
    /// Where all values are written.
    pub(super) json: Option<PathBuf>,
    /// Where everything is kept. Belongs to this program alone and is removed as a whole.
    pub(super) directory: PathBuf,
}

impl Options {
    /// Reads the arguments after `bench`.
    pub(super) fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            is_help: false,
            is_shoal_measured: true,
            shoald: None,
            peers: Vec::new(),
            only: Vec::new(),
            rounds: None,
            scale: 1.0,
            quiet: Duration::ZERO,
            json: None,
            directory: Path::new("/var/tmp").join(DIRECTORY),
        };
        let mut is_peer_named = false;
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            if matches!(flag.as_str(), "--help" | "-h") {
                options.is_help = true;
                continue;
            }
            let value = rest.next().with_context(|| format!("{flag} needs a value"))?;
            is_peer_named |= flag == "--peer";
            options.set(flag, value)?;
        }
        if !is_peer_named {
            options.peers = default_peers();
        }
        if options.engines().is_empty() {
            bail!("nothing to measure: neither Shoal nor a peer");
        }
        Ok(options)
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<()> {
        match (flag, value) {
            ("--shoald", "none") => self.is_shoal_measured = false,
            ("--shoald", path) => self.shoald = Some(PathBuf::from(path)),
            ("--peer", "none") => {}
            ("--peer", "dockerd") => self.peers.push(Kind::Dockerd),
            ("--peer", "podman") => self.peers.push(Kind::Podman),
            ("--only", names) => self.only.extend(names.split(',').map(str::to_owned)),
            ("--rounds", count) => self.rounds = Some(positive(flag, count)?),
            ("--scale", factor) => self.scale = positive(flag, factor)?,
            ("--quiet", seconds) => self.quiet = Duration::from_secs_f64(positive(flag, seconds)?),
            ("--json", path) => self.json = Some(PathBuf::from(path)),
            ("--work", path) => self.directory = Path::new(path).join(DIRECTORY),
            _ => bail!("bench does not know {flag} {value}; `cargo xtask bench --help` says what it knows"),
        }
        Ok(())
    }

    /// The engines in the order of the tables: what ratios refer to comes first.
    pub(super) fn engines(&self) -> Vec<Kind> {
        let shoal = self.is_shoal_measured.then_some(Kind::Shoal);
        self.peers.iter().copied().chain(shoal).collect()
    }
}

/// Text of `--help`.
pub(super) fn usage(cases: &str) -> String {
    format!(
        "cargo xtask bench [FLAGS]: Shoal beside a peer, in turns, as ratios

  --peer dockerd|podman|none  whom to compare with (default: dockerd, and podman if it is installed); may be repeated, the
                              first is the reference
  --shoald PATH|none          Shoal's binary (default: build the release binary), or leave Shoal out
  --only CASE,CASE            only these cases
  --rounds N                  repeat every case N times
  --scale FACTOR              repetitions, container counts and durations times this; 0.1 for a first look
  --quiet SECONDS             before a round, wait up to this long for a machine that is otherwise idle
  --json FILE                 write all values
  --work DIR                  where images and data are kept while it runs (default /var/tmp; needs 3 GB)

Cases:
{cases}"
    )
}

/// dockerd is what ratios refer to and is installed if need be; podman is compared where it is there.
fn default_peers() -> Vec<Kind> {
    let podman = setup::find("podman").map(|_| Kind::Podman);
    [Kind::Dockerd].into_iter().chain(podman).collect()
}

fn positive<T: std::str::FromStr + PartialOrd + Default>(flag: &str, text: &str) -> Result<T> {
    match text.parse() {
        Ok(value) if value > T::default() => Ok(value),
        _ => bail!("{flag} wants a number above zero, not {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_ratios_refer_to_comes_first() {
        let table: &[(&str, &[Kind])] = &[
            ("--peer dockerd", &[Kind::Dockerd, Kind::Shoal]),
            ("--peer podman --peer dockerd", &[Kind::Podman, Kind::Dockerd, Kind::Shoal]),
            ("--peer none", &[Kind::Shoal]),
            ("--peer dockerd --shoald none", &[Kind::Dockerd]),
        ];
        for (text, engines) in table {
            assert_eq!(parse(text).unwrap().engines(), *engines, "{text}");
        }
        assert_eq!(parse("").unwrap().engines().first(), Some(&Kind::Dockerd));
    }

    #[test]
    fn a_run_that_cannot_measure_anything_is_refused() {
        for text in
            ["--peer none --shoald none", "--peer lxc", "--rounds 0", "--scale -1", "--json", "--frob 1"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_directory_of_its_own_is_ever_removed() {
        assert_eq!(parse("--work /srv").unwrap().directory, Path::new("/srv/shoal-bench"));
    }
}
