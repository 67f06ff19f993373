//! A container as lists show it.
//!
//! Start reading at [`summary`]; [`status`] is the only part that depends on the time of the question.

use jiff::Timestamp;
use node_agent::api::containers::{ContainerView, RootSizes};
use shoal_types::container::health::{Health, HealthStatus};
use shoal_types::container::state::ContainerState;

use super::image::descriptor;
use super::{mount, network_settings};
use crate::model::container_summary::{
    ContainerSummary, HealthSummary, SummaryDetails, SummaryFacts, SummaryHostConfig, SummaryNetworkSettings,
};

/// A container as lists show it, in the newest shape.
pub(crate) fn summary(view: &ContainerView, sizes: Option<RootSizes>, now: Timestamp) -> ContainerSummary {
    ContainerSummary { facts: facts(view, sizes), status: status(view, now), details: details(view) }
}

/// The part of a list's entry before the state in words.
pub(crate) fn facts(view: &ContainerView, sizes: Option<RootSizes>) -> SummaryFacts {
    let mut names = vec![format!("/{}", view.name)];
    names.extend(view.link_names.iter().map(|name| format!("/{name}")));
    SummaryFacts {
        id: view.id.to_string(),
        names,
        image: view.image_shown.clone(),
        image_id: view.image_id.map(|id| id.to_string()).unwrap_or_default(),
        image_manifest_descriptor: view.image_manifest.as_ref().map(descriptor),
        command: command_line(&view.command),
        created: view.created.as_second(),
        ports: network_settings::port_summaries(view),
        // Docker leaves out what is zero, and the part the container has written often is.
        size_rw: sizes.map(|sizes| sizes.writable).filter(|&bytes| bytes > 0),
        size_root_fs: sizes.map(|sizes| sizes.total).filter(|&bytes| bytes > 0),
        labels: view.spec.labels.clone(),
        state: view.state.name().to_owned(),
    }
}

/// The part of a list's entry after the state in words.
pub(crate) fn details(view: &ContainerView) -> SummaryDetails {
    let annotations = Some(view.spec.annotations.clone()).filter(|map| !map.is_empty());
    SummaryDetails {
        host_config: SummaryHostConfig {
            network_mode: network_settings::shown_network_mode(&view.spec.networking.mode),
            annotations,
        },
        health: Some(HealthSummary {
            status: health_name(view.health.as_ref()).to_owned(),
            failing_streak: view.health.as_ref().map_or(0, |health| health.failing_streak),
        }),
        network_settings: SummaryNetworkSettings { networks: network_settings::shown_endpoints(view) },
        mounts: mount::shown_of(view),
    }
}

/// The program and its arguments as one line; what contains a space stands in quotation marks.
fn command_line(command: &[String]) -> String {
    let quoted: Vec<String> = command
        .iter()
        .enumerate()
        .map(|(place, part)| if place > 0 && part.contains(' ') { format!("'{part}'") } else { part.clone() })
        .collect();
    quoted.join(" ")
}

/// The name of a health check's verdict.
pub(crate) fn health_name(health: Option<&Health>) -> &'static str {
    match health.map(|health| health.status) {
        None => "none",
        Some(HealthStatus::Starting) => "starting",
        Some(HealthStatus::Healthy) => "healthy",
        Some(HealthStatus::Unhealthy) => "unhealthy",
    }
}

/// The state in words, such as `Up 5 minutes (healthy)`.
pub(crate) fn status(view: &ContainerView, now: Timestamp) -> String {
    let since = |then: Timestamp| human_duration(now.as_second() - then.as_second());
    match &view.state {
        ContainerState::Created => "Created".to_owned(),
        ContainerState::Running(run) => {
            let up = since(run.started_at);
            match view.health.as_ref().map(|health| health.status) {
                None => format!("Up {up}"),
                Some(HealthStatus::Starting) => format!("Up {up} (health: starting)"),
                Some(HealthStatus::Healthy) => format!("Up {up} (healthy)"),
                Some(HealthStatus::Unhealthy) => format!("Up {up} (unhealthy)"),
            }
        }
        ContainerState::Paused(run) => format!("Up {} (Paused)", since(run.started_at)),
        ContainerState::Restarting { last, .. } => {
            format!("Restarting ({}) {} ago", last.code, since(last.finished_at))
        }
        ContainerState::Exited(exit) => format!("Exited ({}) {} ago", exit.code, since(exit.finished_at)),
        ContainerState::Removing { .. } => "Removal In Progress".to_owned(),
        ContainerState::Dead { .. } => "Dead".to_owned(),
    }
}

/// A duration in words, by the steps that Docker uses.
fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let (minutes, hours) = (seconds / MINUTE, (seconds + HOUR / 2) / HOUR);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..MINUTE => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / DAY / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_dockers_steps() {
        let (minute, hour, day) = (60, 3600, 86400);
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (minute, "About a minute"),
            (119, "About a minute"),
            (2 * minute, "2 minutes"),
            (59 * minute + 59, "59 minutes"),
            (hour, "About an hour"),
            (89 * minute, "About an hour"),
            (90 * minute, "2 hours"),
            (47 * hour, "47 hours"),
            (48 * hour, "2 days"),
            (13 * day, "13 days"),
            (14 * day, "2 weeks"),
            (59 * day, "8 weeks"),
            (60 * day, "2 months"),
            (729 * day, "24 months"),
            (730 * day, "2 years"),
            (-5, "Less than a second"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn arguments_with_spaces_are_quoted() {
        let command = ["sh", "-c", "sleep 50"].map(str::to_owned);
        assert_eq!(command_line(&command), "sh -c 'sleep 50'");
        assert_eq!(command_line(&[]), "");
    }
}
