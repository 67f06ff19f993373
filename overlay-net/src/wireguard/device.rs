//! A WireGuard device of either kind: made, found again, removed.
//!
//! Start reading at [`Workshop::ensure`]. A device is known by its name, which follows from the slot of its key; what is
//! there with that key and port is taken over as it is, anything else is made anew.

use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::kernel::{self, Configuration};
use super::key::OwnKey;
use super::plan::{PeerChange, Present};
use super::process::Begin;
use super::userspace::Process;
use crate::error::{NetError, Result};
use crate::host::SpawnNetd;
use crate::netlink::codec::Batch;
use crate::netlink::link::Link;
use crate::netlink::{Socket, addr, link};
use crate::netns::Netns;
use crate::spec::IfName;
use crate::sysctl;

/// Every slot's number.
const SLOTS: [u8; 2] = [0, 1];

/// A device that is there, with its peers as they were found.
#[derive(Debug)]
pub(super) struct Device {
    index: u32,
    name: IfName,
    kind: Kind,
    peers: Vec<Present>,
}

#[derive(Debug)]
enum Kind {
    Kernel(Configuration),
    Process(Process),
}

/// What it takes to make devices.
pub(super) struct Workshop<'a> {
    pub(super) dir: &'a Path,
    pub(super) spawn: &'a SpawnNetd,
    /// Of the node's namespace.
    pub(super) host: &'a mut Socket,
    /// Of the devices' namespace.
    pub(super) inside: &'a mut Socket,
    pub(super) netns: &'a Netns,
    pub(super) first_port: u16,
    pub(super) mtu: u32,
}

impl Device {
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn peers(&self) -> &[Present] {
        &self.peers
    }

    /// The process that it is, if it is not the kernel's.
    pub(super) fn process(&self) -> Option<Process> {
        match &self.kind {
            Kind::Kernel(_) => None,
            Kind::Process(process) => Some(process.clone()),
        }
    }

    /// Changes its peers.
    pub(super) fn change(&mut self, changes: &[PeerChange]) -> Result<()> {
        let changed = match &mut self.kind {
            Kind::Kernel(configuration) => configuration.change(&self.name, changes),
            Kind::Process(process) => process.change(changes),
        };
        changed.map_err(NetError::kernel(format!("change the peers of WireGuard device {}", self.name)))
    }
}

impl Workshop<'_> {
    /// Finds the device of a key, or makes it.
    pub(super) fn ensure(&mut self, key: &OwnKey) -> Result<Device> {
        let name = name_of(key.slot().number())?;
        let device = match self.adopt(key, &name)? {
            Some(device) => device,
            None => {
                self.remove(&name)?;
                self.make(key, &name)?
            }
        };
        self.settle(key, &device)?;
        Ok(device)
    }

    /// Removes the devices of all other keys.
    pub(super) fn remove_all_but(&mut self, keys: &[OwnKey]) -> Result<()> {
        for slot in SLOTS.into_iter().filter(|slot| keys.iter().all(|key| key.slot().number() != *slot)) {
            self.remove(&name_of(slot)?)?;
        }
        Ok(())
    }

    fn adopt(&mut self, key: &OwnKey, name: &IfName) -> Result<Option<Device>> {
        let Some(found) = self.find(name)? else { return Ok(None) };
        let wanted = (key.private.public(), key.slot().port(self.first_port));
        let device = |kind, peers| Device { index: found.index, name: name.clone(), kind, peers };
        Ok(match found.kind.as_str() {
            "wireguard" => {
                let mut configuration = self.configuration()?;
                let read = configuration.read(name).map_err(failed("read", name))?;
                (read.public == Some(wanted.0) && read.port == wanted.1)
                    .then(|| device(Kind::Kernel(configuration), read.peers))
            }
            "tun" => {
                let process = process_of(self.dir, name);
                let read = process.read().filter(|(public, port, _)| (*public, *port) == wanted);
                read.map(|(_, _, peers)| device(Kind::Process(process), peers))
            }
            _ => None,
        })
    }

    fn make(&mut self, key: &OwnKey, name: &IfName) -> Result<Device> {
        let port = key.slot().port(self.first_port);
        let mut batch = Batch::default();
        link::add_wireguard(&mut batch, name, self.mtu, std::os::fd::AsFd::as_fd(self.netns));
        let kind = match self.host.run_all(&batch) {
            Ok(()) => {
                let mut configuration = self.configuration()?;
                configuration.set_key(name, &key.private, port).map_err(failed("set the key of", name))?;
                Kind::Kernel(configuration)
            }
            Err(error) if kernel::is_missing(&error) => {
                let process = process_of(self.dir, name);
                let begin = Begin {
                    netns: self.netns.path().to_owned(),
                    name: name.clone(),
                    port,
                    private: key.private.clone(),
                };
                process.start(self.spawn, begin).map_err(failed("start a process for", name))?;
                tracing::info!(device = %name, "the kernel has no WireGuard: packets are encrypted by a process");
                Kind::Process(process)
            }
            Err(error) => return Err(failed("create", name)(error)),
        };
        let index = crate::driver::link_index(self.inside, name)?;
        Ok(Device { index, name: name.clone(), kind, peers: Vec::new() })
    }

    /// Address, size and state of a device. The kernel binds its port when it is set up.
    fn settle(&mut self, key: &OwnKey, device: &Device) -> Result<()> {
        let name = &device.name;
        let disabled = sysctl::interface_key("net.ipv6.conf", name.as_str(), "disable_ipv6");
        self.netns.run(|| sysctl::ensure(&disabled, "0")).and_then(std::convert::identity)?;
        let own = IpNet::from(std::net::IpAddr::V6(key.private.public().address()));
        let mut batch = Batch::default();
        link::set_up_with(&mut batch, device.index, self.mtu);
        addr::add(&mut batch, device.index, own);
        self.inside.run_all(&batch).map_err(failed("set up", name))
    }

    fn remove(&mut self, name: &IfName) -> Result<()> {
        process_of(self.dir, name).stop().map_err(failed("end the process of", name))?;
        if self.find(name)?.is_some() {
            link::delete(self.inside, name).map_err(failed("delete", name))?;
        }
        Ok(())
    }

    fn find(&mut self, name: &IfName) -> Result<Option<Link>> {
        link::find(self.inside, name).map_err(failed("look up", name))
    }

    fn configuration(&self) -> Result<Configuration> {
        let opened = self.netns.run(Configuration::open)?;
        opened.map_err(NetError::kernel("speak to the kernel's WireGuard"))
    }
}

/// Ends the processes of all devices, if there are any.
pub(super) fn stop_processes(dir: &Path) -> Vec<NetError> {
    let stop = |slot| {
        let name = name_of(slot)?;
        process_of(dir, &name).stop().map_err(failed("end the process of", &name))
    };
    SLOTS.into_iter().filter_map(|slot| stop(slot).err()).collect()
}

fn failed(what: &str, name: &IfName) -> impl FnOnce(io::Error) -> NetError {
    NetError::kernel(format!("{what} WireGuard device {name}"))
}

fn name_of(slot: u8) -> Result<IfName> {
    format!("wg{slot}").parse()
}

fn process_of(dir: &Path, name: &IfName) -> Process {
    Process::at(socket_of(dir, name))
}

fn socket_of(dir: &Path, name: &IfName) -> PathBuf {
    dir.join(format!("{name}.sock"))
}
