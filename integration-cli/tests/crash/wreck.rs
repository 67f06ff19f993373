//! One daemon that dies many times, and the loops that let it.
//!
//! Start reading at [`Wreck::at_every_point`]. The daemon counts the points that it passes down in a file, the fuse, and
//! kills itself at the last one (`node-agent/src/crash_point.rs`; debug builds only).

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use integration_cli::condition::poll;
use integration_cli::{DaemonOptions, OwnDaemon, Test, skip};

use super::inventory;

/// How long leftovers may take to disappear: boots remove them before they serve, but exits take a moment.
const SETTLING: Duration = Duration::from_secs(15);
/// No operation has so many points; one that does never ends.
const N_POINTS_MAX: u32 = 400;

/// An operation on objects with a name, and what must hold afterwards. Each is repeated for each death.
pub(crate) struct Operation {
    /// Makes what the operation works on, while the daemon is healthy.
    pub(crate) prepare: fn(&Wreck, &str),
    /// What the daemon may die of. Whether the client was told that it is done.
    pub(crate) act: fn(&Wreck, &str) -> bool,
    /// Panics when something was lost or doubled; `told` is what `act` returned.
    pub(crate) check: fn(&Wreck, &str, bool),
    /// Removes everything that may be left; must succeed.
    pub(crate) remove: fn(&Wreck, &str),
}

/// A daemon that dies on demand.
pub(crate) struct Wreck {
    daemon: OwnDaemon,
    fuse: PathBuf,
    options: DaemonOptions,
    healthy: BTreeSet<String>,
}

impl std::ops::Deref for Wreck {
    type Target = OwnDaemon;

    fn deref(&self) -> &OwnDaemon {
        &self.daemon
    }
}

/// Whether the long version of the suite was asked for.
pub(crate) fn is_long() -> bool {
    std::env::var_os("SHOAL_CRASH_SWEEP").is_some_and(|wanted| wanted == "long")
}

impl Wreck {
    /// A daemon with the suite's images that has run a container before, so that what is made once is made.
    pub(crate) fn new(t: &Test) -> Self {
        if t.implementation().is_reference() {
            skip("the reference does not find its way");
        }
        let fuse = t.directory("fuse").join("fuse");
        let path = fuse.display().to_string();
        let options = DaemonOptions {
            environment: vec![("SHOAL_CRASH_FUSE".to_owned(), path)],
            ..DaemonOptions::default()
        };
        let daemon = t.own_daemon(&options);
        // What a dead daemon left half-made or half-removed is cleared away with a word.
        for text in ["no record", "a snapshot is dropped", "refers to a volume that does not exist"] {
            daemon.daemon().announce(text);
        }
        let mut wreck = Self { daemon, fuse, options, healthy: BTreeSet::new() };
        wreck.docker("network create warm").ok();
        wreck.docker("run --rm --network warm -p 80 -v warm:/data busybox true").ok();
        wreck.docker("network rm warm").ok();
        wreck.docker("volume rm warm").ok();
        wreck.docker("image prune -f").ok();
        wreck.healthy = inventory::take(&wreck.daemon);
        wreck
    }

    /// Takes what is there now for healthy: after the case has made something of its own.
    pub(crate) fn accept_what_is_there(&mut self) {
        self.healthy = inventory::take(&self.daemon);
    }

    /// Lets the daemon die at the first point, at the second, and so on, until the operation passes fewer.
    pub(crate) fn at_every_point(&self, operation: &Operation) {
        self.require_fuse();
        for point in 1..=N_POINTS_MAX {
            let name = self.name("wreck");
            (operation.prepare)(self, &name);
            let told = self.while_armed(point, || (operation.act)(self, &name));
            let place = self.place();
            let died = self.daemon().wait_if_dying();
            if died {
                if is_long() {
                    // The next one dies as well, a little further each time.
                    self.arm(1 + point % 6);
                    if self.daemon().try_start(&self.options) {
                        self.daemon().kill();
                    }
                }
                self.disarm();
                self.come_back();
            }
            (operation.check)(self, &name, told);
            (operation.remove)(self, &name);
            self.assert_clean(&format!("after a death at point {point} ({place})"));
            if !died {
                assert!(point > 1, "the operation passes no point");
                return;
            }
        }
        panic!("more than {N_POINTS_MAX} points");
    }

    /// Kills the daemon some time after the operation has begun, again and again with growing delays.
    pub(crate) fn at_moments(&self, n_moments: u32, step: Duration, operation: &Operation) {
        for moment in 0..n_moments {
            let name = self.name("moment");
            (operation.prepare)(self, &name);
            let delay = step * moment;
            let told = std::thread::scope(|scope| {
                let acting = scope.spawn(|| (operation.act)(self, &name));
                // Not a wait for anything: the moment is what is tested.
                std::thread::sleep(delay);
                self.daemon().kill();
                acting.join().unwrap_or(false)
            });
            self.come_back();
            (operation.check)(self, &name, told);
            (operation.remove)(self, &name);
            self.assert_clean(&format!("after a death {delay:?} into the operation"));
        }
    }

    /// Waits until the machine looks as it did at first.
    fn assert_clean(&self, when: &str) {
        let mut now = BTreeSet::new();
        let clean = poll(SETTLING, &mut || {
            now = inventory::take(&self.daemon);
            (now == self.healthy).then_some(())
        });
        let more: Vec<_> = now.difference(&self.healthy).collect();
        let less: Vec<_> = self.healthy.difference(&now).collect();
        assert!(clean.is_some(), "{when}: too much {more:#?}, too little {less:#?}");
    }

    fn while_armed(&self, point: u32, act: impl FnOnce() -> bool) -> bool {
        self.arm(point);
        let told = act();
        // What the daemon still does on its own account belongs to the operation; it may die of it, too.
        poll(Duration::from_millis(150), &mut || (!self.daemon().is_running()).then_some(()));
        let place = self.place();
        if self.daemon().is_running() && !place.starts_with("0 ") {
            self.disarm();
        }
        told
    }

    fn arm(&self, points: u32) {
        fs::write(&self.fuse, points.to_string()).unwrap();
    }

    fn disarm(&self) {
        fs::write(&self.fuse, "").unwrap();
    }

    /// Name of the last point that was passed, behind the number of those that are left.
    fn place(&self) -> String {
        fs::read_to_string(&self.fuse).unwrap_or_default()
    }

    /// Starts the next daemon.
    pub(crate) fn come_back(&self) {
        self.daemon().start_again(&self.options);
    }

    fn require_fuse(&self) {
        self.arm(1);
        self.docker("volume create probe");
        if !self.daemon().wait_if_dying() {
            self.disarm();
            skip("needs a debug build of shoald: a release build has no fuse");
        }
        self.disarm();
        self.come_back();
        self.docker("volume rm -f probe").ok();
    }
}
