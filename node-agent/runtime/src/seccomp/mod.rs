//! System call filters: from the rules of a spec, or of a Docker profile, to a program in the kernel.
//!
//! Start reading at [`compile`], then `compiler.rs` for what the rules mean and `profile.rs` for Docker's profile format.
//! No library is involved: compiling the default profile takes a fraction of a millisecond, where libseccomp needs ten.

mod arch;
mod assembler;
mod compiler;
#[cfg(test)]
mod interpreter;
pub mod profile;
mod syscalls;

use std::io;
use std::os::fd::OwnedFd;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};

use crate::error::{Result, RuntimeError};
use crate::sys::{self, BpfInstruction};

/// A compiled filter: classic BPF for seccomp(2), ready to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<BpfInstruction>,
}

/// The most instructions that the kernel takes.
const LONGEST: usize = 4096;

impl Program {
    /// Reads a program that [`Program::to_bytes`] wrote; `None` when the bytes cannot be one.
    ///
    /// The kernel verifies what is loaded; but the caller must trust whoever wrote the bytes to have meant this filter.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (instructions, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || instructions.is_empty() || instructions.len() > LONGEST {
            return None;
        }
        let instructions = instructions
            .iter()
            .map(|[code_low, code_high, jump_true, jump_false, operand @ ..]| BpfInstruction {
                code: u16::from_ne_bytes([*code_low, *code_high]),
                jump_true: *jump_true,
                jump_false: *jump_false,
                operand: u32::from_ne_bytes(*operand),
            })
            .collect();
        Some(Self { instructions })
    }

    /// Writes the program down, eight bytes an instruction, in the byte order of this machine.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.instructions.len() * 8);
        for instruction in &self.instructions {
            bytes.extend(instruction.code.to_ne_bytes());
            bytes.extend([instruction.jump_true, instruction.jump_false]);
            bytes.extend(instruction.operand.to_ne_bytes());
        }
        bytes
    }

    /// Returns the number of instructions; never zero.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a program is never empty")]
    pub fn len(&self) -> usize {
        self.instructions.len()
    }
}

/// Compiles `linux.seccomp` of a spec into one program for all its architectures that this kernel can run.
///
/// System calls that an architecture does not have are skipped, as by other runtimes.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Program> {
    let instructions = compiler::compile(seccomp)?;
    if instructions.len() > LONGEST {
        return Err(RuntimeError::Unsupported(format!(
            "a seccomp filter of {} instructions; the kernel takes {LONGEST}",
            instructions.len()
        )));
    }
    Ok(Program { instructions })
}

/// A program with the way it is loaded.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    program: Program,
    flags: u64,
}

const FLAG_LOG: u64 = 2;
const FLAG_SPECULATION_ALLOWED: u64 = 4;
const FLAG_NEW_LISTENER: u64 = 8;
const FLAG_WAIT_KILLABLE: u64 = 32;

impl Filter {
    /// Compiles a filter; `None` when the spec allows everything, so that loading it would change nothing.
    pub(crate) fn compile(seccomp: &LinuxSeccomp) -> Result<Option<Self>> {
        let allows_all = seccomp.default_action() == LinuxSeccompAction::ScmpActAllow
            && seccomp.syscalls().as_ref().is_none_or(Vec::is_empty);
        if allows_all {
            return Ok(None);
        }
        Self::of(&compile(seccomp)?, seccomp)
    }

    /// Takes a program that was compiled before from the same rules.
    pub(crate) fn of(program: &Program, seccomp: &LinuxSeccomp) -> Result<Option<Self>> {
        let notifies = seccomp.default_action() == LinuxSeccompAction::ScmpActNotify
            || seccomp
                .syscalls()
                .iter()
                .flatten()
                .any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify);
        if notifies && seccomp.listener_path().is_none() {
            return Err(RuntimeError::InvalidSpec(
                "linux.seccomp: notifications need a listenerPath".to_owned(),
            ));
        }
        let mut flags = load_flags(seccomp.flags().as_deref());
        if notifies {
            flags |= FLAG_NEW_LISTENER;
        }
        Ok(Some(Self { program: program.clone(), flags }))
    }

    /// Puts the filter in force for the calling process, for good; returns the listener of notifications if there are any.
    pub(crate) fn load(&self) -> io::Result<Option<OwnedFd>> {
        sys::load_seccomp(&self.program.instructions, self.flags)
    }
}

/// Translates the flags; without any the filter does not switch speculation off, as in runc since 1.2.
///
/// `TSYNC` concerns other threads, and there are none.
fn load_flags(flags: Option<&[LinuxSeccompFilterFlag]>) -> u64 {
    let Some(flags) = flags else { return FLAG_SPECULATION_ALLOWED };
    flags.iter().fold(0, |bits, flag| {
        bits | match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPECULATION_ALLOWED,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => FLAG_WAIT_KILLABLE,
        }
    })
}
