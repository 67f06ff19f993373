//! Programs run in the interpreter: (convention, number, arguments) in, decision out.

use std::collections::HashSet;

use super::*;
use crate::seccomp::interpreter::{call, run};
use crate::seccomp::profile::{KernelVersion, Profile};

const ERRNO_EPERM: u32 = RETURN_ERRNO | 1;
const ERRNO_ENOSYS: u32 = RETURN_ERRNO | 38;

fn program(json: &str) -> Vec<BpfInstruction> {
    compile(&serde_json::from_str(json).unwrap()).unwrap()
}

fn default_profile() -> LinuxSeccomp {
    let profile = Profile::default_profile().unwrap();
    profile.resolve(&HashSet::new(), KernelVersion { version: 6, revision: 1 }).unwrap()
}

#[test]
fn the_default_profile_decides_as_its_rules_say() {
    let program = compile(&default_profile()).unwrap();
    let new_user = 0x1000_0000;
    let cases: [(Arch, &str, &[u64], u32); 24] = [
        (Arch::X86_64, "read", &[], RETURN_ALLOW),
        (Arch::X86_64, "execve", &[], RETURN_ALLOW),
        (Arch::X86_64, "mount", &[], ERRNO_EPERM),
        (Arch::X86_64, "keyctl", &[], ERRNO_EPERM),
        (Arch::X86_64, "io_uring_setup", &[], ERRNO_EPERM),
        (Arch::X86_64, "clone3", &[], ERRNO_ENOSYS),
        (Arch::X86_64, "clone", &[0x11], RETURN_ALLOW),
        (Arch::X86_64, "clone", &[new_user], ERRNO_EPERM),
        (Arch::X86_64, "socket", &[2], RETURN_ALLOW),
        (Arch::X86_64, "socket", &[16], RETURN_ALLOW),
        (Arch::X86_64, "socket", &[38], ERRNO_EPERM),
        (Arch::X86_64, "socket", &[40], ERRNO_EPERM),
        (Arch::X86_64, "socket", &[1 << 32 | 2], ERRNO_EPERM),
        (Arch::X86_64, "personality", &[8], RETURN_ALLOW),
        (Arch::X86_64, "personality", &[0xffff_ffff], RETURN_ALLOW),
        (Arch::X86_64, "personality", &[u64::MAX], ERRNO_EPERM),
        (Arch::X86_64, "personality", &[9], ERRNO_EPERM),
        (Arch::X86, "socketcall", &[1], RETURN_ALLOW),
        (Arch::X86, "clone", &[new_user], ERRNO_EPERM),
        (Arch::X86, "waitpid", &[], RETURN_ALLOW),
        (Arch::X86, "modify_ldt", &[], RETURN_ALLOW),
        (Arch::X32, "read", &[], RETURN_ALLOW),
        (Arch::X32, "ioctl", &[], RETURN_ALLOW),
        (Arch::X32, "mount", &[], ERRNO_EPERM),
    ];
    if Arch::NATIVE == Arch::X86_64 {
        for (arch, name, arguments, expected) in cases {
            assert_eq!(call(&program, arch, name, arguments), expected, "{arch:?} {name} {arguments:?}");
        }
    }
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let program = compile(&default_profile()).unwrap();
    let native = Arch::NATIVE.audit_number();
    assert_eq!(run(&program, native, 900, &[]).0, ERRNO_ENOSYS);
    assert_eq!(
        run(&program, native, u32::MAX, &[]).0,
        if Arch::NATIVE == Arch::X86_64 { ERRNO_EPERM } else { ERRNO_ENOSYS }
    );
    assert_eq!(run(&program, 0xdead_beef, 0, &[]).0, RETURN_KILL_THREAD);
}

#[test]
fn the_default_profile_is_short_and_its_search_is_shallow() {
    let program = compile(&default_profile()).unwrap();
    assert!(program.len() < 600, "{}", program.len());
    let deepest = (0..500).map(|number| run(&program, Arch::NATIVE.audit_number(), number, &[0; 6]).1).max();
    assert!(deepest.unwrap() < 60, "{deepest:?}");
}

#[test]
fn x32_is_killed_where_the_profile_does_not_name_it() {
    let program = program(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
        "syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}"#,
    );
    if Arch::NATIVE == Arch::X86_64 {
        assert_eq!(call(&program, Arch::X32, "chmod", &[]), RETURN_KILL_THREAD);
        assert_eq!(call(&program, Arch::X86, "chmod", &[]), RETURN_KILL_THREAD);
        assert_eq!(call(&program, Arch::X86_64, "chmod", &[]), ERRNO_EPERM);
        assert_eq!(run(&program, Arch::X86_64.audit_number(), 900, &[]).0, RETURN_ALLOW);
    }
}

#[test]
fn every_action_has_its_value() {
    for (action, value) in [
        ("KILL", RETURN_KILL_THREAD),
        ("KILL_THREAD", RETURN_KILL_THREAD),
        ("KILL_PROCESS", RETURN_KILL_PROCESS),
        ("TRAP", RETURN_TRAP),
        ("ERRNO", RETURN_ERRNO | 7),
        ("TRACE", RETURN_TRACE | 7),
        ("LOG", RETURN_LOG),
        ("NOTIFY", RETURN_NOTIFY),
    ] {
        let program = program(&format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x",
            "syscalls":[{{"names":["chmod","fchmodat"],"action":"SCMP_ACT_{action}","errnoRet":7}}]}}"#
        ));
        assert_eq!(call(&program, Arch::NATIVE, "fchmodat", &[]), value, "{action}");
        assert_eq!(call(&program, Arch::NATIVE, "read", &[]), RETURN_ALLOW);
    }
}

#[test]
fn every_comparison_looks_at_all_64_bits() {
    let big = 5_u64 << 32 | 7;
    let cases: [(&str, &[(u64, bool)]); 7] = [
        ("NE", &[(big, false), (7, true), (5 << 32, true)]),
        ("EQ", &[(big, true), (7, false), (5 << 32 | 8, false)]),
        ("LT", &[(big, false), (7, true), (5 << 32 | 6, true), (6 << 32, false), (4 << 32 | 9, true)]),
        ("LE", &[(big, true), (5 << 32 | 8, false), (4 << 32 | 9, true), (6 << 32, false)]),
        ("GT", &[(big, false), (5 << 32 | 8, true), (6 << 32, true), (4 << 32 | 9, false)]),
        ("GE", &[(big, true), (5 << 32 | 6, false), (6 << 32, true), (9, false)]),
        ("MASKED_EQ", &[(0, false)]),
    ];
    for (operator, values) in cases {
        let program = program(&format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW",
            "args":[{{"index":3,"value":{big},"valueTwo":{big},"op":"SCMP_CMP_{operator}"}}]}}]}}"#
        ));
        for (value, allowed) in values {
            let result = call(&program, Arch::NATIVE, "read", &[0, 0, 0, *value]);
            assert_eq!(result == RETURN_ALLOW, *allowed, "{operator} {value:#x}");
        }
    }
}

#[test]
fn a_mask_selects_the_bits_that_must_match() {
    let program = program(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW",
        "args":[{"index":0,"value":1095216660735,"valueTwo":4294967297,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#,
    );
    for (value, allowed) in
        [(0x1_0000_0001_u64, true), (0x0f01_0000_0001, true), (1, false), (0x1_0000_0002, false)]
    {
        assert_eq!(call(&program, Arch::NATIVE, "read", &[value]) == RETURN_ALLOW, allowed, "{value:#x}");
    }
}

#[test]
fn all_tests_of_a_rule_must_hold_and_any_rule_may() {
    let program = program(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
        {"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":2,"op":"SCMP_CMP_EQ"}]},
        {"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":9,"op":"SCMP_CMP_EQ"}]},
        {"names":["write"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
        {"names":["lseek"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
        {"names":["lseek"],"action":"SCMP_ACT_LOG"}]}"#,
    );
    for (name, arguments, expected) in [
        ("read", [1, 2], RETURN_ALLOW),
        ("read", [1, 3], ERRNO_EPERM),
        ("read", [9, 3], RETURN_LOG),
        ("write", [1, 0], RETURN_ALLOW),
        ("write", [2, 0], RETURN_ALLOW),
        ("write", [3, 0], ERRNO_EPERM),
        ("lseek", [1, 0], RETURN_LOG),
        ("lseek", [2, 0], RETURN_LOG),
    ] {
        assert_eq!(call(&program, Arch::NATIVE, name, &arguments), expected, "{name} {arguments:?}");
    }
}

#[test]
fn old_i386_programs_reach_sockets_through_the_multiplexer() {
    let program = program(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],
        "syscalls":[{"names":["connect","shmat"],"action":"SCMP_ACT_ALLOW"}]}"#,
    );
    if Arch::NATIVE == Arch::X86_64 {
        assert_eq!(call(&program, Arch::X86, "socketcall", &[3]), RETURN_ALLOW);
        assert_eq!(call(&program, Arch::X86, "socketcall", &[2]), ERRNO_EPERM);
        assert_eq!(call(&program, Arch::X86, "ipc", &[21]), RETURN_ALLOW);
        assert_eq!(call(&program, Arch::X86, "ipc", &[22]), ERRNO_EPERM);
    }
}

#[test]
fn nonsense_is_refused() {
    for json in [
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":70000}"#,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO",
            "args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
    ] {
        assert!(compile(&serde_json::from_str(json).unwrap()).is_err(), "{json}");
    }
}
