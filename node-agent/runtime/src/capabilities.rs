//! The five capability sets of a process as bit masks.
//!
//! Start reading at [`CapabilitySets::resolve`] (pure) and [`CapabilitySets::limit_to`]; the system calls that put them
//! in force are in `credentials.rs`.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

/// The five sets; bit numbers are those of `linux/capability.h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CapabilitySets {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) inheritable: u64,
    pub(crate) permitted: u64,
    pub(crate) ambient: u64,
}

impl CapabilitySets {
    /// Reads the sets of a spec; a missing set is empty, and so are all when the spec has none.
    pub(crate) fn resolve(capabilities: Option<&LinuxCapabilities>) -> Self {
        let Some(sets) = capabilities else { return Self::default() };
        Self {
            bounding: mask(sets.bounding().as_ref()),
            effective: mask(sets.effective().as_ref()),
            inheritable: mask(sets.inheritable().as_ref()),
            permitted: mask(sets.permitted().as_ref()),
            ambient: mask(sets.ambient().as_ref()),
        }
    }

    /// Takes away what the giver does not hold itself; returns what was missing.
    pub(crate) fn limit_to(&mut self, held: u64) -> u64 {
        let asked = self.bounding | self.effective | self.inheritable | self.permitted | self.ambient;
        for set in [
            &mut self.bounding,
            &mut self.effective,
            &mut self.inheritable,
            &mut self.permitted,
            &mut self.ambient,
        ] {
            *set &= held;
        }
        asked & !held
    }
}

fn mask(set: Option<&Capabilities>) -> u64 {
    set.into_iter().flatten().fold(0, |mask, capability| mask | 1 << number(*capability))
}

/// Gives the kernel's number of a capability.
pub(crate) fn number(capability: Capability) -> u32 {
    match capability {
        Capability::Chown => 0,
        Capability::DacOverride => 1,
        Capability::DacReadSearch => 2,
        Capability::Fowner => 3,
        Capability::Fsetid => 4,
        Capability::Kill => 5,
        Capability::Setgid => 6,
        Capability::Setuid => 7,
        Capability::Setpcap => 8,
        Capability::LinuxImmutable => 9,
        Capability::NetBindService => 10,
        Capability::NetBroadcast => 11,
        Capability::NetAdmin => 12,
        Capability::NetRaw => 13,
        Capability::IpcLock => 14,
        Capability::IpcOwner => 15,
        Capability::SysModule => 16,
        Capability::SysRawio => 17,
        Capability::SysChroot => 18,
        Capability::SysPtrace => 19,
        Capability::SysPacct => 20,
        Capability::SysAdmin => 21,
        Capability::SysBoot => 22,
        Capability::SysNice => 23,
        Capability::SysResource => 24,
        Capability::SysTime => 25,
        Capability::SysTtyConfig => 26,
        Capability::Mknod => 27,
        Capability::Lease => 28,
        Capability::AuditWrite => 29,
        Capability::AuditControl => 30,
        Capability::Setfcap => 31,
        Capability::MacOverride => 32,
        Capability::MacAdmin => 33,
        Capability::Syslog => 34,
        Capability::WakeAlarm => 35,
        Capability::BlockSuspend => 36,
        Capability::AuditRead => 37,
        Capability::Perfmon => 38,
        Capability::Bpf => 39,
        Capability::CheckpointRestore => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_a_spec_becomes_its_own_mask() {
        let mut sets = LinuxCapabilities::default();
        sets.set_bounding(Some([Capability::Chown, Capability::CheckpointRestore].into_iter().collect()));
        sets.set_effective(Some([Capability::DacOverride].into_iter().collect()));
        sets.set_permitted(None);
        sets.set_inheritable(None);
        sets.set_ambient(Some(Capabilities::new()));
        let masks = CapabilitySets::resolve(Some(&sets));
        assert_eq!(masks.bounding, 1 | 1 << 40);
        assert_eq!(masks.effective, 2);
        assert_eq!((masks.permitted, masks.inheritable, masks.ambient), (0, 0, 0));
    }

    #[test]
    fn a_giver_cannot_give_what_it_does_not_hold() {
        let mut sets = CapabilitySets { bounding: 0b111, effective: 0b011, ..CapabilitySets::default() };
        assert_eq!(sets.limit_to(0b101), 0b010);
        assert_eq!((sets.bounding, sets.effective), (0b101, 0b001));
    }
}
