//! Device control on cgroup v2: a small eBPF program attached to the container's cgroup.
//!
//! Start reading at [`assemble`] (pure): it turns rules into instructions; [`enforce`] loads and attaches them. The
//! program tries the rules from the last to the first, because the last match decides, and denies what none matches.
//! The instruction encoding is that of `linux/bpf.h`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::devices::{Access, DeviceClass, DeviceRule, Verdict};
use crate::error::{Context, Result};
use crate::sys;

/// `struct bpf_insn` as its 64-bit value.
type Instruction = u64;

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbf;
const AND_IMMEDIATE: u8 = 0x57;
const RIGHT_SHIFT: u8 = 0x77;
const MOVE_IMMEDIATE: u8 = 0xb7;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

const DEVICE_BLOCK: i32 = 1;
const DEVICE_CHARACTER: i32 = 2;

/// Registers: 1 is the context, 2 the class, 3 the access, 4 the major and 5 the minor number; 6 is for arithmetic.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    let registers = destination | source << 4;
    u64::from(code)
        | u64::from(registers) << 8
        | u64::from(u16::from_ne_bytes(offset.to_ne_bytes())) << 16
        | u64::from(u32::from_ne_bytes(immediate.to_ne_bytes())) << 32
}

/// Turns rules into a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
pub(crate) fn assemble(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        // struct bpf_cgroup_dev_ctx { u32 access_type: class in the low half, access in the high half; u32 major, minor }
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND_IMMEDIATE, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(RIGHT_SHIFT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(assemble_rule(*rule));
        if rule.is_wildcard() {
            // Nothing after it can be reached, and the verifier refuses unreachable instructions.
            return program;
        }
    }
    program.extend(verdict(Verdict::Deny));
    program
}

fn assemble_rule(rule: DeviceRule) -> Vec<Instruction> {
    // Each group ends with a jump over the rest of the rule, whose distance is filled in at the end.
    let mut groups: Vec<(Vec<Instruction>, u8, u8, i32)> = Vec::new();
    match rule.class {
        DeviceClass::All => {}
        DeviceClass::Block => groups.push((Vec::new(), JUMP_NOT_EQUAL, 2, DEVICE_BLOCK)),
        DeviceClass::Character => groups.push((Vec::new(), JUMP_NOT_EQUAL, 2, DEVICE_CHARACTER)),
    }
    if rule.access != Access::ALL {
        // Matches when the access asked for is within the rule's: (access & rule) == access.
        let copy = instruction(MOVE_REGISTER, 6, 3, 0, 0);
        let mask = instruction(AND_IMMEDIATE, 6, 0, 0, i32::from(rule.access.0));
        groups.push((vec![copy, mask], JUMP_NOT_EQUAL_REGISTER, 6, 0));
    }
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        if let Some(number) = number {
            let number = i32::from_ne_bytes(number.to_ne_bytes());
            groups.push((Vec::new(), JUMP_NOT_EQUAL, register, number));
        }
    }
    let mut remaining = groups.iter().map(|(before, ..)| before.len() + 1).sum::<usize>() + 2;
    let mut program = Vec::with_capacity(remaining);
    for (before, jump, register, immediate) in groups {
        remaining -= before.len() + 1;
        program.extend(before);
        let source = if jump == JUMP_NOT_EQUAL_REGISTER { 3 } else { 0 };
        let distance = i16::try_from(remaining).unwrap_or(i16::MAX);
        program.push(instruction(jump, register, source, distance, immediate));
    }
    program.extend(verdict(rule.verdict));
    program
}

fn verdict(verdict: Verdict) -> [Instruction; 2] {
    let value = i32::from(verdict == Verdict::Allow);
    [instruction(MOVE_IMMEDIATE, 0, 0, 0, value), instruction(EXIT, 0, 0, 0, 0)]
}

const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const PROG_DETACH: u32 = 9;
const PROG_GET_FD_BY_ID: u32 = 13;
const PROG_QUERY: u32 = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// Loads the rules and attaches them to the cgroup, replacing what was attached before.
///
/// The old program is detached only after the new one is in force: both must allow an access, so the change never opens a gap.
pub(crate) fn enforce(directory: &Path, rules: &[DeviceRule]) -> Result<()> {
    let describe = || format!("attach the device program to {}", directory.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cgroup = rustix::fs::open(directory, flags, Mode::empty()).step(describe)?;
    let program = load(rules).step(|| "load the device program")?;
    let old = attached(&cgroup).step(describe)?;
    attach(PROG_ATTACH, &cgroup, &program).step(describe)?;
    for id in old {
        let program = program_by_id(id).step(describe)?;
        attach(PROG_DETACH, &cgroup, &program).step(describe)?;
    }
    Ok(())
}

fn load(rules: &[DeviceRule]) -> std::io::Result<OwnedFd> {
    let program: Vec<u8> = assemble(rules).iter().flat_map(|instruction| instruction.to_ne_bytes()).collect();
    let count = u32::try_from(program.len() / 8).map_err(std::io::Error::other)?;
    let license = c"Apache-2.0".to_bytes_with_nul();
    // union bpf_attr for BPF_PROG_LOAD: type, count, instructions, license, then the verifier's log, which stays empty.
    let mut attributes = [0_u8; 48];
    put(&mut attributes, 0, &PROG_TYPE_CGROUP_DEVICE.to_ne_bytes());
    put(&mut attributes, 4, &count.to_ne_bytes());
    put(&mut attributes, 8, &sys::address_of(&program).to_ne_bytes());
    put(&mut attributes, 16, &sys::address_of(license).to_ne_bytes());
    descriptor(sys::bpf(PROG_LOAD, &mut attributes)?)
}

fn attach(command: u32, cgroup: &OwnedFd, program: &OwnedFd) -> std::io::Result<()> {
    let mut attributes = [0_u8; 20];
    put(&mut attributes, 0, &cgroup.as_raw_fd().to_ne_bytes());
    put(&mut attributes, 4, &program.as_fd().as_raw_fd().to_ne_bytes());
    put(&mut attributes, 8, &ATTACH_CGROUP_DEVICE.to_ne_bytes());
    if command == PROG_ATTACH {
        put(&mut attributes, 12, &ALLOW_MULTI.to_ne_bytes());
    }
    sys::bpf(command, &mut attributes).map(drop)
}

/// Lists the programs attached to this cgroup itself; more than the buffer holds were not put there by this runtime.
fn attached(cgroup: &OwnedFd) -> std::io::Result<Vec<u32>> {
    let mut ids = [0_u8; 4 * 64];
    let mut attributes = [0_u8; 32];
    put(&mut attributes, 0, &cgroup.as_raw_fd().to_ne_bytes());
    put(&mut attributes, 4, &ATTACH_CGROUP_DEVICE.to_ne_bytes());
    put(&mut attributes, 16, &sys::address_of_mut(&mut ids).to_ne_bytes());
    put(&mut attributes, 24, &64_u32.to_ne_bytes());
    sys::bpf(PROG_QUERY, &mut attributes)?;
    let count = attributes.get(24..28).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
    // The compiler does not know that the call has written here.
    let ids = std::hint::black_box(ids);
    let ids = ids.chunks_exact(4).take(usize::try_from(count).unwrap_or(0));
    Ok(ids.filter_map(|bytes| bytes.try_into().ok().map(u32::from_ne_bytes)).collect())
}

fn program_by_id(id: u32) -> std::io::Result<OwnedFd> {
    let mut attributes = [0_u8; 12];
    put(&mut attributes, 0, &id.to_ne_bytes());
    descriptor(sys::bpf(PROG_GET_FD_BY_ID, &mut attributes)?)
}

fn descriptor(result: i64) -> std::io::Result<OwnedFd> {
    Ok(sys::adopt(i32::try_from(result).map_err(std::io::Error::other)?))
}

fn put(attributes: &mut [u8], offset: usize, bytes: &[u8]) {
    if let Some(place) = attributes.get_mut(offset..offset + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::devices::effective_rules;

    /// Runs a program as the kernel would, for the handful of instructions that are used.
    fn run(program: &[Instruction], class: u32, access: u32, major: u32, minor: u32) -> bool {
        let mut registers = [0_u64; 11];
        let mut at = 0_usize;
        loop {
            let [code, both, offset_low, offset_high, immediate @ ..] = program[at].to_le_bytes();
            let (destination, source) = (usize::from(both & 0xf), usize::from(both >> 4));
            let offset = usize::from(u16::from_le_bytes([offset_low, offset_high]));
            let immediate = u64::from(u32::from_le_bytes(immediate));
            at += 1;
            match code {
                LOAD_WORD => {
                    registers[destination] = u64::from(match offset {
                        0 => class | access << 16,
                        4 => major,
                        _ => minor,
                    });
                }
                MOVE_REGISTER => registers[destination] = registers[source],
                MOVE_IMMEDIATE => registers[destination] = immediate,
                AND_IMMEDIATE => registers[destination] &= immediate,
                RIGHT_SHIFT => registers[destination] >>= immediate,
                JUMP_NOT_EQUAL if registers[destination] != immediate => at += offset,
                JUMP_NOT_EQUAL_REGISTER if registers[destination] != registers[source] => at += offset,
                JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER => {}
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_program_decides_as_the_rules_say() {
        let rules: Vec<oci_spec::runtime::LinuxDeviceCgroup> = serde_json::from_str(
            r#"[{"allow":false,"access":"rwm"},
                {"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
                {"allow":true,"type":"b","major":8,"access":"r"},
                {"allow":false,"type":"b","major":8,"minor":3,"access":"r"}]"#,
        )
        .unwrap();
        let program = assemble(&effective_rules(&rules).unwrap());
        let (read, write, mknod) = (2, 4, 1);
        let cases = [
            (2, read, 1, 3, true),
            (2, read | write, 10, 229, true),
            (2, mknod, 10, 229, true),
            (2, read, 10, 228, false),
            (1, read, 8, 0, true),
            (1, write, 8, 0, false),
            (1, read | write, 8, 0, false),
            (1, read, 8, 3, false),
            (1, mknod, 200, 3, true),
            (2, read, 136, 77, true),
        ];
        for (class, access, major, minor, allowed) in cases {
            assert_eq!(
                run(&program, class, access, major, minor),
                allowed,
                "{class} {access} {major}:{minor}"
            );
        }
    }

    #[test]
    fn a_wildcard_ends_the_program() {
        let rules =
            effective_rules(&[serde_json::from_str(r#"{"allow":true,"access":"rwm"}"#).unwrap()]).unwrap();
        let program = assemble(&rules);
        assert_eq!(program.len(), 8);
        assert!(run(&program, 1, 7, 5, 5));
    }
}
