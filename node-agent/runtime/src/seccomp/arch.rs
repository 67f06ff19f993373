//! The architectures that a filter can tell apart.
//!
//! One filter serves all that a kernel can run: x86_64 with i386 and x32, or aarch64 with 32-bit arm.

use oci_spec::runtime::Arch as SpecArch;

/// One system call convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// The bit that distinguishes x32 calls from x86_64 ones of the same audit number.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// The architecture that this program was built for.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const NATIVE: Self = Self::X86_64;
    /// The architecture that this program was built for.
    #[cfg(target_arch = "aarch64")]
    pub(crate) const NATIVE: Self = Self::Aarch64;

    /// Translates a name of the runtime spec; `None` for those whose calls this kernel never sees.
    pub(crate) fn of(arch: SpecArch) -> Option<Self> {
        match arch {
            SpecArch::ScmpArchNative => Some(Self::NATIVE),
            SpecArch::ScmpArchX86_64 => Some(Self::X86_64),
            SpecArch::ScmpArchX86 => Some(Self::X86),
            SpecArch::ScmpArchX32 => Some(Self::X32),
            SpecArch::ScmpArchAarch64 => Some(Self::Aarch64),
            SpecArch::ScmpArchArm => Some(Self::Arm),
            _ => None,
        }
    }

    /// The kernel's `AUDIT_ARCH_*` number.
    pub(crate) fn audit_number(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Bits that all numbers of the architecture have.
    pub(crate) fn number_bit(self) -> u32 {
        if self == Self::X32 { X32_BIT } else { 0 }
    }

    /// The column of the table in `syscalls.rs`.
    pub(crate) fn column(self) -> usize {
        match self {
            Self::X86_64 => 0,
            Self::X86 => 1,
            Self::X32 => 2,
            Self::Aarch64 => 3,
            Self::Arm => 4,
        }
    }

    /// Whether arguments are compared in all 64 bits; x32's are 32-bit values, as libseccomp sees it too.
    pub(crate) fn has_wide_arguments(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }
}
