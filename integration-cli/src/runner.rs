//! Runs cases side by side against one shared daemon, and reports like `cargo test` does.
//!
//! The standard harness has no place to stop a shared daemon and to check that nothing of it is left, no skipping
//! with a reason at run time and no time limit per case; therefore this one. A case is a plain function that takes a
//! [`Test`] and panics when something does not hold. Arguments are those of the standard harness, as far as they make
//! sense: name filters, `--exact`, `--skip`, `--list`, `--test-threads`.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, DaemonOptions, Implementation};
use crate::guard;
use crate::plan;
use crate::report::{Finished, Verdict, note, summarise};
use crate::session::Session;

/// How long one case may take before it is reported as hung.
const CASE_LIMIT: Duration = Duration::from_secs(180);
/// The same when the environment asks for sweeps that take long.
const LONG_CASE_LIMIT: Duration = Duration::from_secs(7200);

fn case_limit() -> Duration {
    if plan::is_long() { LONG_CASE_LIMIT } else { CASE_LIMIT }
}

/// One case: a name and what it does.
#[derive(Clone)]
pub struct Case {
    name: String,
    run: Arc<dyn Fn(&Test) + Send + Sync>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

impl Case {
    /// A case called `name`.
    pub fn new(name: impl Into<String>, run: impl Fn(&Test) + Send + Sync + 'static) -> Self {
        Self { name: name.into(), run: Arc::new(run) }
    }
}

/// Lists the cases of a module: functions of that module, named by their path.
///
/// A function that is missing here is dead code, which the lints refuse, so no case can be forgotten.
#[macro_export]
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        pub(crate) fn cases() -> Vec<$crate::Case> {
            vec![$($crate::Case::new(concat!(module_path!(), "::", stringify!($case)), $case)),*]
        }
    };
}

/// What the runner needs to know of a suite.
#[derive(Debug)]
pub struct Suite {
    /// All cases.
    pub cases: Vec<Case>,
    /// The program `prober`, for images that carry it; only integration-cli has one.
    pub prober: Option<PathBuf>,
    /// What is to be done with the shared daemon before the first case uses it, e.g. loading images.
    pub prepare: fn(&Session),
}

/// What a case is given: a session with the shared daemon, and the means to start daemons of its own.
#[derive(Debug)]
pub struct Test {
    session: OnceLock<Session>,
    number: usize,
    shared: Arc<Shared>,
}

/// What all cases of a run share.
#[derive(Debug)]
struct Shared {
    implementation: Implementation,
    prober: Option<PathBuf>,
    prepare: fn(&Session),
    daemon: Mutex<Option<Result<Arc<Daemon>, String>>>,
}

/// A daemon that one case has for itself. Dropping it tears it down and fails the case if something is left.
#[derive(Debug)]
pub struct OwnDaemon {
    session: Option<Session>,
}

struct Skip(String);

/// Ends the running case as skipped.
pub fn skip(reason: &str) -> ! {
    resume_unwind(Box::new(Skip(reason.to_owned())))
}

impl Test {
    /// Starts a daemon for this case alone, with the suite's images.
    #[track_caller]
    #[must_use]
    pub fn own_daemon(&self, options: &DaemonOptions) -> OwnDaemon {
        let own = self.bare_daemon(options);
        (self.shared.prepare)(&own);
        own
    }

    /// Starts a daemon for this case alone, without any image.
    #[track_caller]
    #[must_use]
    pub fn bare_daemon(&self, options: &DaemonOptions) -> OwnDaemon {
        if matches!(self.shared.implementation, Implementation::External(_)) {
            skip("needs a daemon that the suite starts itself");
        }
        let daemon = Daemon::start(self.shared.implementation.clone(), options);
        OwnDaemon { session: Some(Session::new(daemon, &format!("o{}", self.number))) }
    }

    /// Runs a daemon that has to refuse `options`; returns what it said.
    #[track_caller]
    #[must_use]
    pub fn refuse_to_start(&self, options: &DaemonOptions) -> crate::Outcome {
        Daemon::refuse_to_start(self.shared.implementation.clone(), options)
    }

    /// The program under test.
    #[must_use]
    pub fn implementation(&self) -> &Implementation {
        &self.shared.implementation
    }

    /// The `prober` program.
    #[must_use]
    pub fn prober(&self) -> PathBuf {
        self.shared.prober.clone().unwrap_or_else(|| skip("this suite has no prober"))
    }
}

impl Deref for Test {
    type Target = Session;

    /// The session with the shared daemon, which is started by the first case that needs it.
    fn deref(&self) -> &Session {
        self.session.get_or_init(|| {
            let daemon = self.shared.daemon();
            let daemon = daemon.unwrap_or_else(|message| panic!("the shared daemon is not there: {message}"));
            Session::new(daemon, &format!("t{}", self.number))
        })
    }
}

impl Deref for OwnDaemon {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session.as_ref().expect("an own daemon's session lasts as long as itself")
    }
}

impl Drop for OwnDaemon {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        let daemon = Arc::clone(session.daemon());
        if daemon.is_running() {
            // Removes what the case made, while there is a daemon to ask.
            drop(session);
        } else {
            std::mem::forget(session);
        }
        if std::thread::panicking() {
            let kept = daemon.keep_log();
            daemon.teardown().clear();
            LAST_LOG.with_borrow_mut(|last| *last = kept);
            return;
        }
        let log = daemon.keep_log();
        let problems = daemon.teardown();
        assert!(problems.is_empty(), "after the case, log {log:?}:\n{}", problems.join("\n"));
    }
}

impl Shared {
    fn daemon(&self) -> Result<Arc<Daemon>, String> {
        let mut slot = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        let started = slot.get_or_insert_with(|| {
            let start = || {
                let daemon = Daemon::start(self.implementation.clone(), &DaemonOptions::default());
                (self.prepare)(&Session::new(Arc::clone(&daemon), "prepare"));
                daemon
            };
            catch_unwind(AssertUnwindSafe(start)).map_err(|payload| text_of(payload.as_ref()))
        });
        started.clone()
    }
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    static LAST_LOG: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Runs a suite as the `main` of a test binary.
#[must_use]
pub fn main(suite: Suite) -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if guard::run_as_guard(&arguments) {
        return ExitCode::SUCCESS;
    }
    let selection = Selection::parse();
    let cases: Vec<Case> = suite.cases.into_iter().filter(|case| selection.wants(&case.name)).collect();
    if selection.list {
        cases.iter().for_each(|case| note(&format!("{}: test", case.name)));
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        note("SKIPPED, all of it: daemons, namespaces and mounts need root");
        return ExitCode::SUCCESS;
    }
    let shared = Arc::new(Shared {
        implementation: Implementation::from_environment(),
        prober: suite.prober,
        prepare: suite.prepare,
        daemon: Mutex::new(None),
    });
    note(&format!("\nrunning {} tests against {:?}", cases.len(), shared.implementation));
    let start = Instant::now();
    remember_panics();
    let mut finished = run_all(cases, selection.threads, &shared);
    finished.extend(end_shared(&shared));
    if summarise(&finished, start.elapsed()) { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

fn run_all(cases: Vec<Case>, threads: usize, shared: &Arc<Shared>) -> Vec<Finished> {
    let queue: Mutex<VecDeque<(usize, Case)>> = Mutex::new(cases.into_iter().enumerate().collect());
    let finished = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((number, case)) = next else { break };
                    let done = run_one(case, number, shared);
                    done.print();
                    finished.lock().unwrap_or_else(PoisonError::into_inner).push(done);
                }
            });
        }
    });
    finished.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a case on a thread of its own; a hung one is reported and left behind.
fn run_one(case: Case, number: usize, shared: &Arc<Shared>) -> Finished {
    let start = Instant::now();
    let (sender, receiver) = channel();
    let name = case.name.clone();
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new().name(name.clone());
    let spawned = thread.spawn(move || {
        sender.send(judge(&case, number, shared)).ok();
    });
    spawned.expect("a thread for a case");
    let verdict = receiver.recv_timeout(case_limit());
    let verdict =
        verdict.unwrap_or_else(|_| Verdict::Failed(format!("still running after {:?}", case_limit())));
    Finished { name, verdict, took: start.elapsed() }
}

fn judge(case: &Case, number: usize, shared: Arc<Shared>) -> Verdict {
    let test = Test { session: OnceLock::new(), number, shared };
    match catch_unwind(AssertUnwindSafe(|| (case.run)(&test))) {
        Ok(()) => Verdict::Passed,
        Err(payload) => match payload.downcast::<Skip>() {
            Ok(skip) => Verdict::Skipped(skip.0),
            Err(payload) => {
                let place = LAST_PANIC.take();
                let log = LAST_LOG.take().map(|path| format!("\nlog of its own daemon: {}", path.display()));
                let message = if place.is_empty() { text_of(payload.as_ref()) } else { place };
                Verdict::Failed(message + &log.unwrap_or_default())
            }
        },
    }
}

/// Stops the shared daemon; what is wrong then counts as a case of its own.
fn end_shared(shared: &Shared) -> Option<Finished> {
    let daemon = shared.daemon.lock().unwrap_or_else(PoisonError::into_inner).take()?.ok()?;
    let start = Instant::now();
    daemon.own_machine()?;
    let log = daemon.keep_log();
    let problems = daemon.teardown();
    let verdict = if problems.is_empty() { Verdict::Passed } else { Verdict::Failed(problems.join("\n")) };
    note(&format!("log of the shared daemon: {log:?}"));
    let finished =
        Finished { name: "shared_daemon_leaves_nothing".to_owned(), verdict, took: start.elapsed() };
    finished.print();
    Some(finished)
}

/// Keeps the text of each panic for the report instead of printing it in the middle of other cases' lines.
fn remember_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place =
            info.location().map(|place| format!("{}:{}: ", place.file(), place.line())).unwrap_or_default();
        let text = place + &text_of(info.payload());
        LAST_PANIC.with_borrow_mut(|last| {
            // The first panic of a case is the cause; later ones come from unwinding.
            if last.is_empty() {
                *last = text;
            }
        });
    }));
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.or_else(|| payload.downcast_ref::<Skip>().map(|skip| skip.0.clone())).unwrap_or_default()
}

/// Which cases to run, from the command line.
#[derive(Debug, Default)]
struct Selection {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    threads: usize,
}

impl Selection {
    fn parse() -> Self {
        use lexopt::prelude::{Long, Short, Value, ValueExt};
        // Most of a case is waiting for the daemon; a few more cases than processors keep those busy.
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let mut selection = Self { threads: (processors * 3).min(16), ..Self::default() };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next().expect("readable arguments") {
            match argument {
                Value(filter) => selection.filters.push(filter.string().expect("a filter in UTF-8")),
                Long("skip") => selection.skips.push(text_value(&mut parser)),
                Long("test-threads") => {
                    selection.threads = text_value(&mut parser).parse().expect("a number of threads");
                }
                Long("exact") => selection.exact = true,
                Long("list") => selection.list = true,
                Long("format" | "color" | "logfile") | Short('Z') => drop(text_value(&mut parser)),
                Long("nocapture" | "show-output" | "quiet" | "test") | Short('q') => {}
                other => panic!("unknown argument: {other:?}"),
            }
        }
        selection
    }

    fn wants(&self, name: &str) -> bool {
        let fits = |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(fits)) && !self.skips.iter().any(fits)
    }
}

fn text_value(parser: &mut lexopt::Parser) -> String {
    parser.value().expect("a value after the option").to_string_lossy().into_owned()
}
