//! A network that several machines share, for clusters: a bridge in a namespace of its own, a cable to each machine.
//!
//! ```text
//!   lan (netns)                 machine 1 (netns)           machine 2
//!   br0 -- port1 <-- veth --> lan0 192.0.2.1     port2 <-- veth --> lan0 192.0.2.2
//! ```
//! Cables can be cut and mended, one way too. The namespace goes with the test process, and a cable with its machine.

use std::process::Command;

use crate::machine::{Machine, hold};
use crate::net::Place;
use crate::process::{Running, command, run};

/// A shared network.
#[derive(Debug)]
pub struct Lan {
    holder: Running,
}

impl Lan {
    /// A network without machines.
    #[track_caller]
    #[must_use]
    pub fn create() -> Self {
        let script = "ip link set lo up; ip link add br0 type bridge; ip addr add 192.0.2.254/24 dev br0; \
                      ip link set br0 up";
        Self { holder: hold(&["--net"], script, &[]) }
    }

    /// Connects a machine; returns its address there. `number` is 1 to 253 and used once.
    #[track_caller]
    pub fn plug(&self, machine: &Machine, number: u8) -> String {
        let address = format!("192.0.2.{number}");
        let mut inside = machine.inside("sh");
        inside.arg("-ec").arg(format!(
            "ip link add lan0 type veth peer name port{number} netns {}; ip addr add {address}/24 dev lan0; \
             ip link set lan0 up",
            self.holder.pid()
        ));
        run(inside, b"").ok();
        run(self.inside(&format!("ip link set port{number} master br0 up")), b"").ok();
        address
    }

    /// Somebody on this network who is none of the machines, at 192.0.2.254.
    #[must_use]
    pub fn stranger(&self) -> Place {
        Place::of_process(self.holder.pid())
    }

    /// Cuts a machine's cable.
    #[track_caller]
    pub fn cut(&self, number: u8) {
        run(self.inside(&format!("ip link set port{number} down")), b"").ok();
    }

    /// Mends it.
    #[track_caller]
    pub fn mend(&self, number: u8) {
        run(self.inside(&format!("ip link set port{number} up")), b"").ok();
    }

    /// Loses whatever a machine sends; it still hears the others. One machine at a time.
    #[track_caller]
    pub fn mute(&self, number: u8) {
        self.lose(&format!("iifname port{number}"));
    }

    /// Loses whatever is sent to a machine; the others still hear it. One machine at a time.
    #[track_caller]
    pub fn deafen(&self, number: u8) {
        self.lose(&format!("oifname port{number}"));
    }

    #[track_caller]
    fn lose(&self, frames: &str) {
        let script = format!(
            "nft add table bridge cuts; \
             nft add chain bridge cuts pass '{{ type filter hook forward priority 0; }}'; \
             nft add rule bridge cuts pass {frames} drop"
        );
        run(self.inside(&script), b"").ok();
    }

    /// Ends what [`Self::mute`] or [`Self::deafen`] has begun.
    #[track_caller]
    pub fn unmute(&self) {
        run(self.inside("nft delete table bridge cuts"), b"").ok();
    }

    fn inside(&self, script: &str) -> Command {
        let mut command = command("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.pid())).args(["--", "sh", "-ec", script]);
        command
    }
}
