//! What a process of a container is to become, worked out from the spec before the kernel is touched.
//!
//! Start reading at [`ProcessPlan::resolve`]. Pure: no IO, so that create and exec share one set of rules and a wrong
//! configuration is refused before anything exists. How a plan is carried out is in `credentials.rs` and
//! `execute.rs`.

use std::ffi::CString;

use oci_spec::runtime::{
    IOPriorityClass, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    PosixRlimit, Process, Scheduler,
};

use crate::capabilities::CapabilitySets;
use crate::error::{Result, RuntimeError};
use crate::sys::{SchedulerAttributes, StringVector};

/// What a process is to become.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    pub(crate) arguments: StringVector,
    /// The environment without `HOME` when the spec has none; see [`ProcessPlan::environment_with_home`].
    pub(crate) environment: Vec<CString>,
    /// Whether `HOME` has to be looked up in the container's passwd file.
    pub(crate) wants_home: bool,
    /// The value of `PATH`.
    pub(crate) search_path: Vec<u8>,
    pub(crate) cwd: CString,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: u32,
    pub(crate) capabilities: CapabilitySets,
    pub(crate) rlimits: Vec<PosixRlimit>,
    pub(crate) no_new_privileges: bool,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) apparmor_profile: Option<String>,
    pub(crate) selinux_label: Option<String>,
    pub(crate) scheduler: Option<SchedulerAttributes>,
    pub(crate) io_priority: Option<i32>,
}

/// The umask of a process that names none; runc's default.
const DEFAULT_UMASK: u32 = 0o022;

impl ProcessPlan {
    /// Works out a plan, or says what is wrong with the configuration.
    pub(crate) fn resolve(process: &Process) -> Result<Self> {
        let arguments = process.args().as_deref().unwrap_or_default();
        if arguments.is_empty() {
            return Err(RuntimeError::InvalidSpec("process.args must not be empty".to_owned()));
        }
        let cwd = process.cwd();
        if !cwd.is_absolute() {
            return Err(RuntimeError::InvalidSpec(format!("process.cwd {cwd:?} must be an absolute path")));
        }
        let user = process.user();
        let environment = c_strings(process.env().as_deref().unwrap_or_default(), "process.env")?;
        let wants_home = value_of(&environment, b"HOME=").is_none_or(<[u8]>::is_empty);
        let search_path = value_of(&environment, b"PATH=").unwrap_or_default().to_vec();
        Ok(Self {
            arguments: StringVector::new(c_strings(arguments, "process.args")?),
            search_path,
            wants_home,
            environment,
            cwd: c_string(cwd.as_os_str().as_encoded_bytes(), "process.cwd")?,
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(DEFAULT_UMASK),
            capabilities: CapabilitySets::resolve(process.capabilities().as_ref()),
            rlimits: distinct_rlimits(process.rlimits().as_deref().unwrap_or_default())?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            oom_score_adj: checked_oom_score(process.oom_score_adj())?,
            apparmor_profile: process.apparmor_profile().clone().filter(|profile| !profile.is_empty()),
            selinux_label: process.selinux_label().clone().filter(|label| !label.is_empty()),
            scheduler: process.scheduler().as_ref().map(scheduler_attributes).transpose()?,
            io_priority: process
                .io_priority()
                .as_ref()
                .map(|priority| io_priority(priority.class(), priority.priority()))
                .transpose()?,
        })
    }

    /// Returns the environment in the form of execve(2), with `HOME` of the passwd file where the spec has none.
    pub(crate) fn environment_with_home(&self, home: Option<CString>) -> StringVector {
        let mut environment = self.environment.clone();
        if let Some(home) = home {
            environment.retain(|entry| !entry.as_bytes().starts_with(b"HOME="));
            let mut entry = b"HOME=".to_vec();
            entry.extend_from_slice(home.as_bytes());
            environment.extend(CString::new(entry));
        }
        StringVector::new(environment)
    }
}

fn c_string(bytes: &[u8], what: &str) -> Result<CString> {
    CString::new(bytes).map_err(|_| RuntimeError::InvalidSpec(format!("{what} contains a NUL byte")))
}

fn c_strings(strings: &[String], what: &str) -> Result<Vec<CString>> {
    strings.iter().map(|string| c_string(string.as_bytes(), what)).collect()
}

/// Finds the value that a program sees: the first entry wins in getenv(3).
fn value_of<'a>(environment: &'a [CString], key: &[u8]) -> Option<&'a [u8]> {
    environment.iter().find_map(|entry| entry.as_bytes().strip_prefix(key))
}

fn distinct_rlimits(rlimits: &[PosixRlimit]) -> Result<Vec<PosixRlimit>> {
    for (index, rlimit) in rlimits.iter().enumerate() {
        if rlimits.iter().skip(index + 1).any(|other| other.typ() == rlimit.typ()) {
            return Err(RuntimeError::InvalidSpec(format!("process.rlimits has {} twice", rlimit.typ())));
        }
        if rlimit.soft() > rlimit.hard() {
            return Err(RuntimeError::InvalidSpec(format!(
                "process.rlimits: the soft limit of {} is above the hard limit",
                rlimit.typ()
            )));
        }
    }
    Ok(rlimits.to_vec())
}

fn checked_oom_score(score: Option<i32>) -> Result<Option<i32>> {
    match score {
        Some(score) if !(-1000..=1000).contains(&score) => Err(RuntimeError::InvalidSpec(format!(
            "process.oomScoreAdj {score} is not between -1000 and 1000"
        ))),
        other => Ok(other),
    }
}

/// Encodes a class and a level the way ioprio_set(2) wants them.
fn io_priority(class: IOPriorityClass, level: i64) -> Result<i32> {
    let class = match class {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match i32::try_from(level) {
        Ok(level @ 0..=7) => Ok(class << 13 | level),
        _ => Err(RuntimeError::InvalidSpec(format!("process.ioPriority {level} is not between 0 and 7"))),
    }
}

fn scheduler_attributes(scheduler: &Scheduler) -> Result<SchedulerAttributes> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => {
            return Err(RuntimeError::Unsupported("process.scheduler policy SCHED_ISO".to_owned()));
        }
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flags = scheduler.flags().as_deref().unwrap_or_default().iter().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSchedulerFlag::SchedResetOnFork => 0x01,
                LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
                LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
                LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
                LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
                LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
                LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
            }
    });
    let priority = scheduler.priority().unwrap_or(0);
    Ok(SchedulerAttributes {
        size: u32::try_from(size_of::<SchedulerAttributes>()).unwrap_or(48),
        policy,
        flags,
        nice: scheduler.nice().unwrap_or(0),
        priority: u32::try_from(priority).map_err(|_| {
            RuntimeError::InvalidSpec(format!("process.scheduler priority {priority} is negative"))
        })?,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    })
}

/// Encodes `linux.personality` the way personality(2) wants it.
pub(crate) fn persona(personality: &LinuxPersonality) -> Result<u64> {
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(RuntimeError::Unsupported(
            "linux.personality.flags (the specification defines none)".to_owned(),
        ));
    }
    Ok(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}
