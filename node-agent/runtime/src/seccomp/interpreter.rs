//! Runs a filter as the kernel would, for tests: (architecture, number, arguments) in, return value out.

use super::arch::Arch;
use crate::sys::BpfInstruction;

/// Gives what the filter returns for a call, and how many instructions that took.
pub(crate) fn run(program: &[BpfInstruction], arch: u32, number: u32, arguments: &[u64]) -> (u32, usize) {
    let word = |offset: u32| -> u32 {
        match offset {
            0 => number,
            4 => arch,
            16.. => {
                let index = usize::try_from((offset - 16) / 8).unwrap();
                let argument = arguments.get(index).copied().unwrap_or(0).to_le_bytes();
                let half =
                    if offset.is_multiple_of(8) { argument.first_chunk() } else { argument.last_chunk() };
                u32::from_le_bytes(*half.unwrap())
            }
            other => panic!("load of offset {other}"),
        }
    };
    let (mut accumulator, mut at, mut steps) = (0_u32, 0_usize, 0);
    loop {
        let BpfInstruction { code, jump_true, jump_false, operand } = program[at];
        at += 1;
        steps += 1;
        let mut jump = |condition: bool| at += usize::from(if condition { jump_true } else { jump_false });
        match code {
            0x20 => accumulator = word(operand),
            0x54 => accumulator &= operand,
            0x06 => return (operand, steps),
            0x05 => at += usize::try_from(operand).unwrap(),
            0x15 => jump(accumulator == operand),
            0x25 => jump(accumulator > operand),
            0x35 => jump(accumulator >= operand),
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

/// Runs a call by name.
pub(crate) fn call(program: &[BpfInstruction], arch: Arch, name: &str, arguments: &[u64]) -> u32 {
    let number = super::syscalls::find(name).and_then(|numbers| numbers.on(arch));
    let number = number.unwrap_or_else(|| panic!("{name} on {arch:?}"));
    run(program, arch.audit_number(), number, arguments).0
}
