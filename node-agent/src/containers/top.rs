//! The processes of a container, as the host's `ps` shows them.
//!
//! Start reading at [`Engine::processes`]; [`parse`] is PURE. Process ids are the host's. Docker runs the host's `ps` as well,
//! because images seldom have one.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use node_runtime::cgroup::Cgroup;
use regex_lite::Regex;
use shoal_types::ErrorKind;
use shoal_types::container::state::ContainerState;

use super::lifecycle::is_restarting;
use super::{Engine, run_blocking};
use crate::api::containers::ProcessTable;
use crate::command;
use crate::error::NodeError;
use crate::runtime::cgroup;

/// How long `ps` may take.
const LIMIT: Duration = Duration::from_secs(10);
/// What `ps` is asked for when the client does not say.
const DEFAULT_ARGUMENTS: &str = "-ef";

impl Engine {
    /// Lists the processes of a running container.
    pub(super) async fn processes(&self, name: &str, ps_args: &str) -> Result<ProcessTable, NodeError> {
        let handle = self.find(name)?;
        let view = handle.view();
        match &view.state {
            ContainerState::Running(_) | ContainerState::Paused(_) => {}
            ContainerState::Restarting { .. } => return Err(NodeError::conflict(is_restarting(view.id))),
            ContainerState::Created
            | ContainerState::Exited(_)
            | ContainerState::Removing { .. }
            | ContainerState::Dead { .. } => {
                return Err(NodeError::conflict(format!("container {} is not running", view.id)));
            }
        }
        let ps_args = if ps_args.trim().is_empty() { DEFAULT_ARGUMENTS } else { ps_args };
        check(ps_args)?;
        let path = cgroup::path_of(view.id, &view.spec.resources, &self.shared.config());
        let pids = run_blocking(move || Cgroup::at(Path::new(&path)).and_then(|cgroup| cgroup.pids()))
            .await?
            .map_err(|source| NodeError::failed("list the container's processes", source))?;
        let pids: BTreeSet<i32> = pids.into_iter().collect();
        let output = ps(ps_args, &pids).await?;
        let table = parse(&output, &pids)?;
        self.shared.emit(&view, "top", []);
        Ok(table)
    }
}

/// Refuses columns that only pretend to be the process id, by which rows are chosen.
fn check(ps_args: &str) -> Result<(), NodeError> {
    let renamed = Regex::new(r"\s+(\S*)=\s*(PID\S*)")
        .map_err(|source| NodeError::failed("compile a pattern", source))?;
    match renamed.captures(ps_args) {
        Some(found) if !found[1].eq_ignore_ascii_case("pid") => {
            Err(NodeError::invalid(format!("specifying \"{}={}\" is not allowed", &found[1], &found[2])))
        }
        _ => Ok(()),
    }
}

async fn ps(ps_args: &str, pids: &BTreeSet<i32>) -> Result<String, NodeError> {
    let arguments: Vec<String> = ps_args.split_whitespace().map(str::to_owned).collect();
    let wanted: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let mut restricted = arguments.clone();
    restricted.push(format!("-q{}", wanted.join(",")));
    let failed = |source| NodeError::failed("ps", source);
    let mut output = command::run("ps", &restricted, LIMIT).await.map_err(failed)?;
    if !output.status.success() {
        // Some options of `ps` cannot be used together with a choice of processes.
        output = command::run("ps", &arguments, LIMIT).await.map_err(failed)?;
    }
    if !output.status.success() {
        let complaint = output.complaint();
        return Err(NodeError::Refused { kind: ErrorKind::Internal, message: format!("ps: {complaint}") });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Takes the output of `ps` apart and keeps the rows of these processes. The last column may hold spaces.
fn parse(output: &str, pids: &BTreeSet<i32>) -> Result<ProcessTable, NodeError> {
    let mut lines = output.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let Some(pid_idx) = titles.iter().position(|title| title == "PID") else {
        return Err(NodeError::Refused {
            kind: ErrorKind::Internal,
            message: "Couldn't find PID field in ps output".to_owned(),
        });
    };
    let mut processes = Vec::new();
    let mut is_threads_of_ours = false;
    for line in lines {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let Some(pid) = fields.get(pid_idx) else { continue };
        // With -m, `ps` shows threads as rows without a process id below their process.
        let is_ours = if *pid == "-" {
            is_threads_of_ours
        } else {
            is_threads_of_ours = pid.parse().is_ok_and(|pid| pids.contains(&pid));
            is_threads_of_ours
        };
        if is_ours {
            let n_plain = titles.len().saturating_sub(1).min(fields.len());
            let mut row: Vec<String> = fields[..n_plain].iter().map(|&field| field.to_owned()).collect();
            row.push(fields[n_plain..].join(" "));
            processes.push(row);
        }
    }
    Ok(ProcessTable { titles, processes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "UID          PID    PPID  C STIME TTY          TIME CMD\n\
                          root           1       0  0 08:00 ?        00:00:01 /sbin/init splash\n\
                          root         700       1  0 08:01 ?        00:00:00 sleep 100\n\
                          app          701     700  0 08:01 pts/0    00:00:00 sh -c a b\n";

    #[test]
    fn rows_are_those_of_the_container_and_commands_keep_their_spaces() {
        let table = parse(OUTPUT, &[700, 701].into()).unwrap();
        assert_eq!(table.titles.len(), 8);
        let commands: Vec<&str> = table.processes.iter().map(|row| row.last().unwrap().as_str()).collect();
        assert_eq!(commands, ["sleep 100", "sh -c a b"]);
        assert!(table.processes.iter().all(|row| row.len() == 8));
    }

    #[test]
    fn threads_follow_their_process() {
        let output = "PID LWP CMD\n700 - sleep\n- 700 -\n1 - init\n- 1 -\n";
        assert_eq!(parse(output, &[700].into()).unwrap().processes.len(), 2);
    }

    #[test]
    fn output_without_process_ids_is_refused_with_dockers_words() {
        let error = parse("USER CMD\n", &[1].into()).unwrap_err();
        assert_eq!(error.to_string(), "Couldn't find PID field in ps output");
        assert!(check("-o pid,cmd").is_ok() && check("-o pid=PID").is_ok());
        assert!(check("-o uid=PID").is_err());
    }
}
