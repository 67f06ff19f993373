//! `test vm-pair`: two guests with a cable between them form a cluster, each on a stock Debian kernel of its own.
//!
//! Start reading at [`smoke`]; what the guests do stands in `pair.sh`. Here is what no test in namespaces can show: two kernels, each
//! with its own tables, and the kernel's own WireGuard.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use super::Guest;
use crate::dist::{self, target_directory};
use crate::{root, setup};

/// MiB of each.
const MEMORY: &str = "1536";

/// Boots both and waits for both, on the release binary, or on the one that `SHOAL_TEST_DAEMON` names.
pub(crate) fn smoke() -> Result<()> {
    setup::for_vm()?;
    let daemon = match std::env::var_os("SHOAL_TEST_DAEMON") {
        Some(given) => PathBuf::from(given),
        None => dist::build()?,
    };
    let work = target_directory()?.join("vm");
    std::fs::create_dir_all(&work)?;
    // The kernel is fetched by whoever boots first; both would do it at once.
    super::fetch_kernel(&work)?;
    let cable = work.join("cable");
    let script = root()?.join("xtask/src/vm/pair.sh");
    if cable.exists() {
        std::fs::remove_file(&cable)?;
    }
    let boot = |number: usize, name: &'static str| {
        let end = if number == 1 { "on" } else { "off" };
        let network = vec![
            "-netdev".to_owned(),
            format!("stream,id=lan,server={end},addr.type=unix,addr.path={}", cable.display()),
            "-device".to_owned(),
            format!("virtio-net-pci,netdev=lan,mac=52:54:00:99:00:0{number}"),
        ];
        let command = format!("exec bash '{}' {number} '{}'", script.display(), daemon.display());
        Guest { name, network, memory: MEMORY }.run(&["bash", "-c", &command])
    };
    let outcomes = std::thread::scope(|scope| {
        let first = scope.spawn(|| boot(1, "vm1"));
        // Who plugs in first must find the other end.
        while !cable.exists() && !first.is_finished() {
            // Nobody tells when QEMU has made it.
            std::thread::sleep(Duration::from_millis(100));
        }
        let second = scope.spawn(|| boot(2, "vm2"));
        [first.join(), second.join()]
    });
    for outcome in outcomes {
        match outcome {
            Ok(outcome) => outcome?,
            Err(_) => bail!("a guest could not be looked after"),
        }
    }
    Ok(())
}
