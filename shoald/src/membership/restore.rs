//! `shoald restore-swarm`: makes this machine the first manager of a cluster from its backup.
//!
//! Start reading at [`run`]. The daemon must not run; the next one finds a manager that is alone with everything that the backup holds.
//! How a backup is taken and what it is: `manager::backup`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use manager::ClusterError;
use manager::backup::{Restored, restore};
use manager::node::ManagerConfig;
use shoal_types::ErrorKind;

use super::address::DEFAULT_PORT;
use super::record::Record;
use crate::config::{self, CommandLine, Config};
use crate::pidfile::Pidfile;
use crate::{fail, say, with_command_line};

const USAGE: &str = "usage: shoald restore-swarm --from FILE --advertise-addr IP[:PORT] [--listen-addr IP[:PORT]] \
     [--unlock-key-file FILE] [flags of the daemon that say where its data is]";

/// What shall be restored, and where the manager will be.
#[derive(Debug, Default)]
struct Wish {
    from: Option<String>,
    advertise: Option<String>,
    listen: Option<String>,
    unlock_key_file: Option<String>,
}

/// Carries out the command line.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match read(arguments) {
        Ok((wish, rest)) => with_command_line(rest.into_iter(), |line| carry_out(&wish, line)),
        Err(text) => fail(&format!("{text}\n{USAGE}")),
    }
}

/// Our own flags, and those that are the daemon's.
fn read(arguments: impl Iterator<Item = OsString>) -> Result<(Wish, Vec<OsString>), String> {
    let (mut wish, mut rest) = (Wish::default(), Vec::new());
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text, None),
        };
        let field = match name.as_str() {
            "--from" => &mut wish.from,
            "--advertise-addr" => &mut wish.advertise,
            "--listen-addr" => &mut wish.listen,
            "--unlock-key-file" => &mut wish.unlock_key_file,
            _ => {
                rest.push(argument);
                continue;
            }
        };
        let value = match value {
            Some(value) => value,
            None => {
                let next = arguments.next().ok_or_else(|| format!("flag needs an argument: {name}"))?;
                next.to_string_lossy().into_owned()
            }
        };
        *field = Some(value);
    }
    Ok((wish, rest))
}

fn carry_out(wish: &Wish, line: &CommandLine) -> ExitCode {
    let config = match config::load(line) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(restored(wish, &config)) {
        Ok(Restored { node, cluster, taken, .. }) => {
            say(&format!(
                "Swarm {cluster} as of {taken} is restored; this machine is its node {node} and its only manager.\n\
                 Start the daemon, then let the other machines join anew and remove the nodes that they were.\n"
            ));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("the swarm was not restored: {error}")),
    }
}

async fn restored(wish: &Wish, config: &Config) -> Result<Restored, ClusterError> {
    let from = wish.from.as_ref().map(PathBuf::from).ok_or_else(|| refused(USAGE))?;
    let advertise = wish.advertise.as_deref().ok_or_else(|| refused(USAGE))?;
    let advertise = socket_address(advertise)?;
    let listen = socket_address(wish.listen.as_deref().unwrap_or("0.0.0.0"))?;
    let text = read_file(&from)?;
    let unlock_key = wish.unlock_key_file.as_ref().map(|path| read_file(&PathBuf::from(path))).transpose()?;
    // Two daemons on one directory would be two, and so would be a daemon and this.
    let _pidfile = Pidfile::create(&config.pidfile).map_err(|error| refused(&error.to_string()))?;
    let directory = config.data_root.join("swarm");
    let place = ManagerConfig { directory: directory.clone(), listen, advertise };
    let restored = restore(&text, unlock_key.as_deref().map(str::trim), &place).await?;
    let mut record = Record::new(listen, advertise, None);
    record.managers = vec![advertise];
    record
        .store(&directory)
        .map_err(|error| refused(&format!("writing to {}: {error}", directory.display())))?;
    Ok(restored)
}

fn read_file(path: &std::path::Path) -> Result<String, ClusterError> {
    std::fs::read_to_string(path).map_err(|error| refused(&format!("reading {}: {error}", path.display())))
}

fn socket_address(text: &str) -> Result<SocketAddr, ClusterError> {
    let with_usual_port = text.parse().map(|ip| SocketAddr::new(ip, DEFAULT_PORT));
    text.parse().or(with_usual_port).map_err(|_| refused(&format!("{text} is no address")))
}

fn refused(message: &str) -> ClusterError {
    ClusterError::Refused { kind: ErrorKind::InvalidArgument, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_flags_are_taken_and_the_daemons_are_left() {
        let line =
            ["--from", "f", "--data-root", "/d", "--advertise-addr=10.0.0.1", "--listen-addr", "0.0.0.0:1"];
        let (wish, rest) = read(line.into_iter().map(OsString::from)).unwrap();
        assert_eq!((wish.from.as_deref(), wish.advertise.as_deref()), (Some("f"), Some("10.0.0.1")));
        assert_eq!(wish.listen.as_deref(), Some("0.0.0.0:1"));
        assert_eq!(rest, ["--data-root", "/d"]);
        assert!(read(["--from"].into_iter().map(OsString::from)).is_err());
    }

    #[test]
    fn an_address_has_the_usual_port_unless_it_names_one() {
        assert_eq!(socket_address("10.0.0.1").unwrap(), "10.0.0.1:2377".parse().unwrap());
        assert_eq!(socket_address("[fd00::1]:7").unwrap(), "[fd00::1]:7".parse().unwrap());
        assert!(socket_address("manager").is_err());
    }
}
