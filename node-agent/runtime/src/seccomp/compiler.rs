//! From the rules of a spec to a filter program.
//!
//! Start reading at [`compile`]. For each architecture the numbers are cut into ranges with the same outcome, and a
//! binary search leads to the range of a call; calls whose arguments matter get a block of comparisons of their own. So a
//! call costs about eight comparisons instead of hundreds, the filter is short, and the kernel is quick to work
//! out which calls are always allowed.
//!
//! What the rules mean follows libseccomp and runc: see [`Table::decide`] for which rule wins, and [`enosys_above`] for
//! calls that are newer than the profile.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};

use super::arch::{Arch, X32_BIT};
use super::assembler::{Assembler, Comparison, Label};
use super::syscalls::{Numbers, find};
use crate::error::{Result, RuntimeError};
use crate::sys::BpfInstruction;

const RETURN_KILL_PROCESS: u32 = 0x8000_0000;
const RETURN_KILL_THREAD: u32 = 0;
const RETURN_TRAP: u32 = 0x0003_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_NOTIFY: u32 = 0x7fc0_0000;
const RETURN_TRACE: u32 = 0x7ff0_0000;
const RETURN_LOG: u32 = 0x7ffc_0000;
pub(crate) const RETURN_ALLOW: u32 = 0x7fff_0000;

/// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// Compiles the filter of a spec.
pub(crate) fn compile(seccomp: &LinuxSeccomp) -> Result<Vec<BpfInstruction>> {
    let default = return_value(seccomp.default_action(), seccomp.default_errno_ret())?;
    let rules = Rule::read_all(seccomp, default)?;
    let mut assembler = Assembler::default();
    let mut sections = Vec::new();
    let archs = architectures(seccomp);
    for arch in archs.iter().copied().filter(|arch| *arch != Arch::X32) {
        let table = Table::build(&rules, arch, default);
        let unknown = enosys_above(seccomp, default);
        let mut body = table.emit(&mut assembler, unknown);
        if arch == Arch::X86_64 {
            let beyond = if archs.contains(&Arch::X32) {
                Table::build(&rules, Arch::X32, default).emit(&mut assembler, unknown)
            } else {
                assembler.returning(RETURN_KILL_THREAD)
            };
            // The number -1 is what a tracer sets to skip a call; no architecture claims it.
            let skipped = assembler.returning(default);
            let beyond = assembler.branch(Comparison::Equal, u32::MAX, skipped, beyond);
            body = assembler.branch(Comparison::GreaterOrEqual, X32_BIT, beyond, body);
        }
        assembler.continue_at(body);
        sections.push((arch, assembler.load(OFFSET_NUMBER)));
    }
    // A process that switches to a convention without rules is killed, as by libseccomp.
    let mut next = assembler.returning(RETURN_KILL_THREAD);
    sections.sort_by_key(|(arch, _)| *arch != Arch::NATIVE);
    for (arch, section) in sections.into_iter().rev() {
        next = assembler.branch(Comparison::Equal, arch.audit_number(), section, next);
    }
    assembler.continue_at(next);
    assembler.load(OFFSET_ARCH);
    Ok(assembler.finish())
}

/// Lists the conventions of the spec that this kernel can see; the native one is always among them.
fn architectures(seccomp: &LinuxSeccomp) -> Vec<Arch> {
    let mut archs = vec![Arch::NATIVE];
    let can_run = |arch: &Arch| match Arch::NATIVE {
        Arch::X86_64 => matches!(arch, Arch::X86_64 | Arch::X86 | Arch::X32),
        _ => matches!(arch, Arch::Aarch64 | Arch::Arm),
    };
    archs.extend(seccomp.architectures().iter().flatten().filter_map(|arch| Arch::of(*arch)).filter(can_run));
    archs.sort_unstable();
    archs.dedup();
    archs
}

/// Gives the outcome of an action in the form of the kernel.
fn return_value(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32> {
    let data = errno.unwrap_or(libc::EPERM.unsigned_abs());
    if data > 0xffff {
        return Err(RuntimeError::InvalidSpec(format!("linux.seccomp: errno {data} does not fit")));
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => RETURN_KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => RETURN_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => RETURN_TRAP,
        LinuxSeccompAction::ScmpActErrno => RETURN_ERRNO | data,
        LinuxSeccompAction::ScmpActTrace => RETURN_TRACE | data,
        LinuxSeccompAction::ScmpActNotify => RETURN_NOTIFY,
        LinuxSeccompAction::ScmpActLog => RETURN_LOG,
        LinuxSeccompAction::ScmpActAllow => RETURN_ALLOW,
    })
}

/// What a call gets whose number is above all that the profile names: ENOSYS under a restrictive default.
///
/// Such a call is newer than the profile. C libraries fall back to an older call on ENOSYS and give up on EPERM, so runc
/// answers ENOSYS here, and so do we; a profile that states ENOSYS as its default needs no help.
fn enosys_above(seccomp: &LinuxSeccomp, default: u32) -> u32 {
    let permissive = matches!(
        seccomp.default_action(),
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace
    );
    if permissive { default } else { RETURN_ERRNO | libc::ENOSYS.unsigned_abs() }
}

/// One comparison of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Test {
    argument: u32,
    operator: LinuxSeccompOperator,
    value: u64,
    second: u64,
}

impl Test {
    fn of(argument: &LinuxSeccompArg) -> Result<Self> {
        let index = u32::try_from(argument.index()).ok().filter(|index| *index < 6);
        let index = index.ok_or_else(|| {
            RuntimeError::InvalidSpec(format!("linux.seccomp: there is no argument {}", argument.index()))
        })?;
        Ok(Self {
            argument: index,
            operator: argument.op(),
            value: argument.value(),
            second: argument.value_two().unwrap_or(0),
        })
    }
}

/// A rule of the spec, read once for all architectures.
struct Rule {
    calls: Vec<Numbers>,
    /// Any of these, all tests of one; empty tests always hold.
    alternatives: Vec<Vec<Test>>,
    outcome: u32,
    /// Whether it says what happens anyway; such a rule is none, as in runc, but its calls are known to the profile.
    is_void: bool,
    /// For which calls of old i386 programs it stands in, as arguments of their multiplexers.
    multiplexed: Vec<(Numbers, Test)>,
}

impl Rule {
    fn read_all(seccomp: &LinuxSeccomp, default: u32) -> Result<Vec<Self>> {
        let rules = seccomp.syscalls().iter().flatten();
        rules
            .map(|rule| {
                let outcome = return_value(rule.action(), rule.errno_ret())?;
                let alternatives = alternatives(rule.args().as_deref().unwrap_or_default())?;
                let is_plain = alternatives.iter().all(Vec::is_empty);
                Ok(Self {
                    calls: rule.names().iter().filter_map(|name| find(name)).collect(),
                    multiplexed: if is_plain {
                        rule.names().iter().filter_map(|name| multiplexed(name)).collect()
                    } else {
                        // The multiplexers pass arguments in memory, where no filter can look.
                        Vec::new()
                    },
                    alternatives,
                    outcome,
                    is_void: outcome == default,
                })
            })
            .collect()
    }

    fn is_unconditional(&self) -> bool {
        self.alternatives.iter().any(Vec::is_empty)
    }
}

/// What becomes of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Always(u32),
    /// The first alternative whose tests all hold, else the default.
    Tested(Vec<(Vec<Test>, u32)>),
}

impl Outcome {
    /// Reads the alternatives as ranges of one argument's small values, sorted, if that is all they are.
    ///
    /// Profiles list address families one by one; a search among ranges is shorter than a test for each.
    fn as_ranges(alternatives: &[(Vec<Test>, u32)]) -> Option<(u32, u32, Ranges)> {
        let (tests, value) = alternatives.first()?;
        let argument = tests.first()?.argument;
        let mut ranges = Vec::with_capacity(alternatives.len());
        for (tests, other_value) in alternatives {
            let [test] = tests.as_slice() else { return None };
            if test.argument != argument || other_value != value {
                return None;
            }
            let number = u32::try_from(test.value).ok()?;
            ranges.push(match test.operator {
                LinuxSeccompOperator::ScmpCmpEq => (number, number),
                LinuxSeccompOperator::ScmpCmpLe => (0, number),
                LinuxSeccompOperator::ScmpCmpLt => (0, number.checked_sub(1)?),
                _ => return None,
            });
        }
        ranges.sort_unstable();
        let overlaps = ranges.windows(2).any(|pair| matches!(pair, [(_, last), (first, _)] if first <= last));
        (!overlaps).then_some((argument, *value, ranges))
    }
}

/// First and last value of each range.
type Ranges = Vec<(u32, u32)>;

/// The calls of one architecture that have rules.
struct Table {
    arch: Arch,
    default: u32,
    calls: Vec<(u32, Outcome)>,
    /// The highest number that the profile names, also by rules that change nothing.
    highest: Option<u32>,
}

impl Table {
    fn build(rules: &[Rule], arch: Arch, default: u32) -> Self {
        let mut entries: Vec<(u32, usize, Option<Test>)> = Vec::with_capacity(512);
        let mut highest = None;
        for (index, rule) in rules.iter().enumerate() {
            for number in rule.calls.iter().filter_map(|call| call.on(arch)) {
                highest = highest.max(Some(number));
                entries.push((number, index, None));
            }
            if arch == Arch::X86 {
                let multiplexed = rule.multiplexed.iter();
                entries.extend(
                    multiplexed.filter_map(|(call, test)| Some((call.on(arch)?, index, Some(*test)))),
                );
            }
        }
        // Stable: rules of one call stay in the order of the spec.
        entries.sort_by_key(|(number, _, _)| *number);
        let calls = entries.chunk_by(|(left, ..), (right, ..)| left == right);
        let calls = calls.filter_map(|entries| {
            let (number, ..) = entries.first()?;
            Some((*number, Self::decide(rules, entries)?))
        });
        Self { arch, default, calls: calls.collect(), highest }
    }

    /// Decides one call: a rule without tests is stronger than all with tests, and of two without tests the first counts.
    /// That is libseccomp's order of strength.
    fn decide(rules: &[Rule], entries: &[(u32, usize, Option<Test>)]) -> Option<Outcome> {
        let effective = entries.iter().filter_map(|(_, index, test)| Some((rules.get(*index)?, test)));
        let effective = effective.filter(|(rule, _)| !rule.is_void);
        let unconditional = effective.clone().find(|(rule, test)| test.is_none() && rule.is_unconditional());
        if let Some((rule, _)) = unconditional {
            return Some(Outcome::Always(rule.outcome));
        }
        let mut alternatives = Vec::new();
        for (rule, test) in effective {
            match test {
                Some(test) => alternatives.push((vec![*test], rule.outcome)),
                None => {
                    alternatives.extend(rule.alternatives.iter().map(|tests| (tests.clone(), rule.outcome)));
                }
            }
        }
        (!alternatives.is_empty()).then_some(Outcome::Tested(alternatives))
    }

    /// Emits the search for a call's range; returns where it begins.
    fn emit(&self, assembler: &mut Assembler, unknown: u32) -> Label {
        let default = assembler.returning(self.default);
        let mut blocks: Vec<(&Outcome, Label)> = Vec::new();
        let mut ranges: Vec<(u32, Label)> = vec![(self.arch.number_bit(), default)];
        for (number, outcome) in &self.calls {
            let known = blocks.iter().find(|(block, _)| *block == outcome).map(|(_, label)| *label);
            let label = known.unwrap_or_else(|| {
                let label = self.emit_outcome(assembler, outcome, default);
                blocks.push((outcome, label));
                label
            });
            append(&mut ranges, *number, label);
            append(&mut ranges, number + 1, default);
        }
        if let Some(highest) = self.highest {
            let label = assembler.returning(unknown);
            append(&mut ranges, highest + 1, label);
        }
        emit_search(assembler, &ranges)
    }

    fn emit_outcome(&self, assembler: &mut Assembler, outcome: &Outcome, default: Label) -> Label {
        let alternatives = match outcome {
            Outcome::Always(value) => return assembler.returning(*value),
            Outcome::Tested(alternatives) => alternatives,
        };
        if let Some((argument, value, ranges)) = Outcome::as_ranges(alternatives) {
            return self.emit_ranges(assembler, argument, &ranges, (value, default));
        }
        let mut next = default;
        for (tests, value) in alternatives.iter().rev() {
            let mut matched = assembler.returning(*value);
            for test in tests.iter().rev() {
                matched = emit_test(assembler, *test, self.arch.has_wide_arguments(), matched, next);
            }
            next = matched;
        }
        next
    }

    /// Emits a search of one argument among ranges of small values.
    fn emit_ranges(
        &self,
        assembler: &mut Assembler,
        argument: u32,
        ranges: &[(u32, u32)],
        (value, default): (u32, Label),
    ) -> Label {
        let matched = assembler.returning(value);
        let mut steps = vec![(0, default)];
        for (first, last) in ranges {
            append(&mut steps, *first, matched);
            if let Some(after) = last.checked_add(1) {
                append(&mut steps, after, default);
            }
        }
        let offset = OFFSET_ARGUMENTS + 8 * argument;
        let low = emit_search(assembler, &steps);
        let low = load_masked(assembler, low, offset, u32::MAX);
        if !self.arch.has_wide_arguments() {
            return low;
        }
        let high = assembler.branch(Comparison::Equal, 0, low, default);
        load_masked(assembler, high, offset + 4, u32::MAX)
    }
}

/// Splits the arguments of a rule: all must hold, unless two are about the same argument, then each is a rule of its
/// own (a promise of old that runc keeps).
fn alternatives(arguments: &[LinuxSeccompArg]) -> Result<Vec<Vec<Test>>> {
    let tests = arguments.iter().map(Test::of).collect::<Result<Vec<_>>>()?;
    let repeated = tests
        .iter()
        .enumerate()
        .any(|(index, test)| tests.iter().skip(index + 1).any(|other| other.argument == test.argument));
    Ok(if repeated { tests.into_iter().map(|test| vec![test]).collect() } else { vec![tests] })
}

/// Calls that old i386 programs make through `socketcall` and `ipc`, with their numbers there.
const SOCKET_CALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];
const IPC_CALLS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

fn multiplexed(name: &str) -> Option<(Numbers, Test)> {
    let test = |value| Test { argument: 0, operator: LinuxSeccompOperator::ScmpCmpEq, value, second: 0 };
    if let Some(index) = SOCKET_CALLS.iter().position(|call| *call == name) {
        return Some((find("socketcall")?, test(u64::try_from(index + 1).ok()?)));
    }
    let (_, value) = IPC_CALLS.iter().find(|(call, _)| *call == name)?;
    Some((find("ipc")?, test(*value)))
}

/// Starts a range, replacing an empty one and joining equal ones.
fn append(ranges: &mut Vec<(u32, Label)>, start: u32, label: Label) {
    if ranges.last().is_some_and(|(last, _)| *last == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|(_, last)| *last != label) {
        ranges.push((start, label));
    }
}

/// Emits a binary search over ranges for the number in the accumulator.
fn emit_search(assembler: &mut Assembler, ranges: &[(u32, Label)]) -> Label {
    match ranges {
        [] => assembler.returning(RETURN_KILL_THREAD),
        [(_, label)] => *label,
        _ => {
            let (below, above) = ranges.split_at(ranges.len() / 2);
            let start = above.first().map_or(0, |(start, _)| *start);
            let above = emit_search(assembler, above);
            let below = emit_search(assembler, below);
            assembler.branch(Comparison::GreaterOrEqual, start, above, below)
        }
    }
}

/// Emits one comparison of an argument; returns where it begins.
fn emit_test(assembler: &mut Assembler, test: Test, wide: bool, yes: Label, no: Label) -> Label {
    use LinuxSeccompOperator as Operator;
    let (yes, no) = match test.operator {
        Operator::ScmpCmpNe | Operator::ScmpCmpLt | Operator::ScmpCmpLe => (no, yes),
        _ => (yes, no),
    };
    let (value, mask) = match test.operator {
        Operator::ScmpCmpMaskedEq => (test.second & test.value, test.value),
        _ => (test.value, u64::MAX),
    };
    let comparison = match test.operator {
        Operator::ScmpCmpEq | Operator::ScmpCmpNe | Operator::ScmpCmpMaskedEq => Comparison::Equal,
        // Less is the opposite of greater-or-equal, less-or-equal of greater.
        Operator::ScmpCmpGe | Operator::ScmpCmpLt => Comparison::GreaterOrEqual,
        Operator::ScmpCmpGt | Operator::ScmpCmpLe => Comparison::Greater,
    };
    let half = |value: u64, shift: u32| u32::try_from(value >> shift & 0xffff_ffff).unwrap_or(u32::MAX);
    let offset = OFFSET_ARGUMENTS + 8 * test.argument;
    // Words of the argument as this machine stores them; all supported ones are little-endian.
    let low = assembler.branch(comparison, half(value, 0), yes, no);
    let low = load_masked(assembler, low, offset, half(mask, 0));
    if !wide {
        return low;
    }
    let high = assembler.branch(Comparison::Equal, half(value, 32), low, no);
    let high = match comparison {
        Comparison::Equal => high,
        Comparison::Greater | Comparison::GreaterOrEqual => {
            assembler.branch(Comparison::Greater, half(value, 32), yes, high)
        }
    };
    load_masked(assembler, high, offset + 4, half(mask, 32))
}

fn load_masked(assembler: &mut Assembler, then: Label, offset: u32, mask: u32) -> Label {
    assembler.continue_at(then);
    if mask != u32::MAX {
        assembler.mask(mask);
    }
    assembler.load(offset)
}

#[cfg(test)]
mod tests;
