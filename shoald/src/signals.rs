//! What the operator and the service manager tell the daemon by signals.
//!
//! Start reading at [`Signals::next`]. SIGPIPE is ignored by the language's runtime; SIGCHLD is tokio's.

use tokio::signal::unix::{self, SignalKind};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGTERM, SIGINT or SIGQUIT: end.
    End,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: say in the log how the daemon is.
    Report,
}

/// The signals that the daemon handles; without this they would end it.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
    hang_up: unix::Signal,
    user: unix::Signal,
}

impl Signals {
    /// Takes over the signals. Must be called within the runtime.
    pub(crate) fn watch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            quit: unix::signal(SignalKind::quit())?,
            hang_up: unix::signal(SignalKind::hangup())?,
            user: unix::signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next signal. May be dropped without losing one.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
            _ = self.quit.recv() => Signal::End,
            _ = self.hang_up.recv() => Signal::Reload,
            _ = self.user.recv() => Signal::Report,
        }
    }
}
