//! Figures for Prometheus on a listener of their own, as dockerd's `--metrics-addr` has it.
//!
//! Start reading at [`render`]; names are dockerd's where it has the figure. What is counted and timed for this stands in
//! `node_agent::figures`; everything else is looked at when somebody asks. What there is not: the figures of Go's runtime, and
//! those of builds and of the cluster.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;

use api_compat::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::Service;
use node_agent::api::events::Events as _;
use node_agent::api::system::{System as _, SystemInfo};
use node_agent::events::EventLog;
use node_agent::figures::{Action, BOUNDS_MS, Figures as Actions, Timed};
use node_agent::system::NodeSystem;

/// The only path there is.
const PATH: &str = "/metrics";
/// The version of the text format.
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers with figures. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    system: NodeSystem,
    events: EventLog,
    actions: Actions,
}

/// What figures are made of.
#[derive(Debug, Clone, Default)]
struct Figures {
    info: SystemInfo,
    version: String,
    commit: String,
    n_events: u64,
    n_subscribers: usize,
    actions: Actions,
    process: ProcessFigures,
}

/// What the daemon itself takes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct ProcessFigures {
    resident_bytes: u64,
    virtual_bytes: u64,
    cpu_seconds: f64,
    n_threads: u64,
}

impl Metrics {
    pub(crate) fn new(system: NodeSystem, events: EventLog, actions: Actions) -> Self {
        Self { system, events, actions }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let mut reply = Response::new(Body::empty());
        if request.method() != Method::GET || request.uri().path() != PATH {
            *reply.status_mut() = StatusCode::NOT_FOUND;
            return reply;
        }
        let info = match self.system.info().await {
            Ok(info) => info,
            Err(error) => {
                tracing::error!(%error, "figures cannot be made");
                *reply.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                return reply;
            }
        };
        let figures = Figures {
            info,
            version: crate::VERSION.to_owned(),
            commit: crate::COMMIT.to_owned(),
            n_events: self.events.n_published(),
            n_subscribers: self.events.subscribers(),
            actions: self.actions.clone(),
            process: std::fs::read_to_string("/proc/self/stat").map_or_else(
                |_| ProcessFigures::default(),
                |stat| {
                    parse_stat(
                        &stat,
                        rustix::param::page_size() as u64,
                        rustix::param::clock_ticks_per_second(),
                    )
                },
            ),
        };
        reply.headers_mut().insert(CONTENT_TYPE, TEXT_FORMAT);
        *reply.body_mut() = Body::from(render(&figures));
        reply
    }
}

impl Service<Request<Incoming>> for Metrics {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let metrics = self.clone();
        Box::pin(async move { Ok(metrics.answer(&request).await) })
    }
}

/// Writes figures in Prometheus' text format. PURE.
fn render(figures: &Figures) -> String {
    let Figures { info, version, commit, n_events, n_subscribers, actions, process } = figures;
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
        write_family(&mut text, (name, kind, help), samples);
    };
    let (checks, failed_checks) = actions.health_checks();
    family(
        "engine_daemon_health_checks_total",
        "counter",
        "The total number of health checks",
        &one(&checks),
    );
    family(
        "engine_daemon_health_checks_failed_total",
        "counter",
        "The total number of failed health checks",
        &one(&failed_checks),
    );
    let states = [("paused", info.paused), ("running", info.running), ("stopped", info.stopped)];
    let states = states.map(|(state, count)| (labels(&[("state", state)]), count.to_string()));
    family(
        "engine_daemon_container_states_containers",
        "gauge",
        "The count of containers in various states",
        &states,
    );
    family(
        "engine_daemon_engine_cpus_cpus",
        "gauge",
        "The number of cpus that the host system of the engine has",
        &one(&info.cpus),
    );
    let about = labels(&[
        ("architecture", &info.architecture),
        ("commit", commit),
        ("daemon_id", &info.id),
        ("graphdriver", &info.storage_driver),
        ("kernel", &info.kernel),
        ("os", &info.operating_system),
        ("os_type", "linux"),
        ("os_version", &info.os_version),
        ("version", version),
    ]);
    family(
        "engine_daemon_engine_info",
        "gauge",
        "The information related to the engine and the OS it is running on",
        &[(about, "1".to_owned())],
    );
    family(
        "engine_daemon_engine_memory_bytes",
        "gauge",
        "The number of bytes of memory that the host system of the engine has",
        &one(&info.memory),
    );
    family(
        "engine_daemon_events_subscribers_total",
        "gauge",
        "The number of current subscribers to events",
        &one(n_subscribers),
    );
    family("engine_daemon_events_total", "counter", "The number of events logged", &one(n_events));
    write_process(&mut text, info, *process);
    write_timed(&mut text, actions);
    text
}

/// Writes what the daemon itself takes.
fn write_process(text: &mut String, info: &SystemInfo, process: ProcessFigures) {
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
        write_family(text, (name, kind, help), samples);
    };
    family(
        "process_cpu_seconds_total",
        "counter",
        "Total user and system CPU time spent in seconds.",
        &one(&process.cpu_seconds),
    );
    family("process_open_fds", "gauge", "Number of open file descriptors.", &one(&info.open_files));
    family(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory size in bytes.",
        &one(&process.resident_bytes),
    );
    family("process_threads", "gauge", "Number of threads of the daemon.", &one(&process.n_threads));
    family(
        "process_virtual_memory_bytes",
        "gauge",
        "Virtual memory size in bytes.",
        &one(&process.virtual_bytes),
    );
}

/// Writes one family: its name, kind and help, and its samples.
fn write_family(text: &mut String, (name, kind, help): (&str, &str, &str), samples: &[(String, String)]) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}

/// The sample of a family that has one.
fn one(value: &dyn std::fmt::Display) -> Vec<(String, String)> {
    vec![(String::new(), value.to_string())]
}

/// Writes histograms of how long actions took. Families of which nothing was done yet are left out, but for that of
/// containers, which dockerd shows from the start.
fn write_timed(text: &mut String, actions: &Actions) {
    let mut last = "";
    for action in Action::ALL {
        let timed = actions.timed(action);
        let (name, help, label) = action.family();
        let is_of_container = name == Action::ContainerStart.family().0;
        if timed.count == 0 && !is_of_container {
            continue;
        }
        if name != last {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
            last = name;
        }
        write_histogram(text, name, label, &timed);
    }
}

fn write_histogram(text: &mut String, name: &str, label: Option<(&str, &str)>, timed: &Timed) {
    let with = |bound: Option<String>| {
        let pairs: Vec<(&str, &str)> =
            label.into_iter().chain(bound.as_deref().map(|bound| ("le", bound))).collect();
        if pairs.is_empty() { String::new() } else { labels(&pairs) }
    };
    for (bound, count) in BOUNDS_MS.iter().zip(timed.at_most) {
        // Shown in seconds, as the shortest decimal number.
        let bound = std::time::Duration::from_millis(*bound).as_secs_f64().to_string();
        let _ = writeln!(text, "{name}_bucket{} {count}", with(Some(bound)));
    }
    let _ = writeln!(text, "{name}_bucket{} {}", with(Some("+Inf".to_owned())), timed.count);
    let _ = writeln!(text, "{name}_sum{} {}", with(None), timed.sum.as_secs_f64());
    let _ = writeln!(text, "{name}_count{} {}", with(None), timed.count);
}

/// Labels in braces, with what the format wants escaped.
fn labels(pairs: &[(&str, &str)]) -> String {
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

/// Reads /proc/PID/stat (proc_pid_stat(5)).
fn parse_stat(stat: &str, page_size: u64, ticks_per_second: u64) -> ProcessFigures {
    // The second field is a name in parentheses, which may hold anything.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let ticks = u32::try_from(field(14) + field(15)).unwrap_or(u32::MAX);
    let per_second = u32::try_from(ticks_per_second.max(1)).unwrap_or(u32::MAX);
    ProcessFigures {
        resident_bytes: field(24) * page_size,
        virtual_bytes: field(23),
        cpu_seconds: f64::from(ticks) / f64::from(per_second),
        n_threads: field(20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_dockers_names() {
        let info = SystemInfo {
            running: 2,
            stopped: 1,
            cpus: 4,
            id: "a\"b".to_owned(),
            kernel: "6.1".to_owned(),
            ..SystemInfo::default()
        };
        let figures = Figures { info, n_events: 7, ..Figures::default() };
        let text = render(&figures);
        for line in [
            "engine_daemon_container_states_containers{state=\"running\"} 2",
            "engine_daemon_container_states_containers{state=\"stopped\"} 1",
            "engine_daemon_engine_cpus_cpus 4",
            "# TYPE engine_daemon_events_total counter",
            "engine_daemon_events_total 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(text.contains("daemon_id=\"a\\\"b\"") && text.contains("kernel=\"6.1\""));
    }

    #[test]
    fn actions_are_histograms_and_those_of_containers_are_always_there() {
        let actions = Actions::default();
        actions.note(Action::ImagePull, std::time::Instant::now());
        let text = render(&Figures { actions, ..Figures::default() });
        for line in [
            "# TYPE engine_daemon_container_actions_seconds histogram",
            "engine_daemon_container_actions_seconds_bucket{action=\"start\",le=\"0.005\"} 0",
            "engine_daemon_container_actions_seconds_bucket{action=\"start\",le=\"+Inf\"} 0",
            "engine_daemon_container_actions_seconds_sum{action=\"start\"} 0",
            "engine_daemon_image_actions_seconds_bucket{action=\"pull\",le=\"10\"} 1",
            "engine_daemon_image_actions_seconds_count{action=\"pull\"} 1",
            "engine_daemon_health_checks_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!text.contains("network_actions"), "{text}");
        assert_eq!(text.matches("# TYPE engine_daemon_container_actions_seconds").count(), 1);
    }

    #[test]
    fn the_process_is_read_whatever_it_is_called() {
        let numbers: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        let stat = format!("1 (a) b) S {}", numbers.join(" "));
        let figures = parse_stat(&stat, 4096, 100);
        assert_eq!((figures.n_threads, figures.virtual_bytes, figures.resident_bytes), (20, 23, 24 * 4096));
        assert!((figures.cpu_seconds - 0.29).abs() < 1e-9);
        assert_eq!(parse_stat("", 4096, 100), ProcessFigures::default());
    }
}
