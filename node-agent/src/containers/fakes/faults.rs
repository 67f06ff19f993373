//! Failures on demand: which call of which seam shall fail, or never come back.
//!
//! Start reading at [`Faults`]. Every fake asks at its every call; a test arms one fault at a time and can list the
//! calls of a good run to try them one after the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::error::NodeError;

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails without having done anything.
    Fail,
    /// The daemon dies before the call has done anything.
    CrashBefore,
    /// The daemon dies when the call has done its work.
    CrashAfter,
}

/// Arms faults and records calls. Cheap to clone; all fakes of one machine share one.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    plan: Mutex<Plan>,
    crashed: watch::Sender<bool>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { plan: Mutex::default(), crashed: watch::Sender::new(false) }
    }
}

#[derive(Debug, Default)]
struct Plan {
    calls: Vec<&'static str>,
    armed: Option<(usize, Fault)>,
}

impl Faults {
    /// Nothing fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the call with this index, counted from now on, meet a fault.
    pub fn arm(&self, call_idx: usize, fault: Fault) {
        *self.plan() = Plan { calls: Vec::new(), armed: Some((call_idx, fault)) };
        self.shared.crashed.send_replace(false);
    }

    /// Forgets the fault and the calls: the daemon of the next boot meets none.
    pub fn disarm(&self) {
        *self.plan() = Plan::default();
        self.shared.crashed.send_replace(false);
    }

    /// The calls since the last arming.
    pub fn calls(&self) -> Vec<&'static str> {
        self.plan().calls.clone()
    }

    /// Waits until the daemon has died of a fault.
    pub async fn crashed(&self) {
        let mut crashed = self.shared.crashed.subscribe();
        // The sender lives as long as this value, so waiting cannot fail.
        let _ = crashed.wait_for(|crashed| *crashed).await;
    }

    /// Called by a fake at the begin of a call; the guard's [`CallGuard::done`] belongs at its end.
    pub(crate) async fn enter(&self, call: &'static str) -> Result<CallGuard<'_>, NodeError> {
        let fault = {
            let mut plan = self.plan();
            let call_idx = plan.calls.len();
            plan.calls.push(call);
            plan.armed.filter(|(armed_idx, _)| *armed_idx == call_idx).map(|(_, fault)| fault)
        };
        if *self.shared.crashed.borrow() {
            std::future::pending::<()>().await;
        }
        match fault {
            Some(Fault::Fail) => Err(NodeError::failed(call, std::io::Error::other("injected failure"))),
            Some(Fault::CrashBefore) => {
                self.crash().await;
                Ok(CallGuard { faults: self, crash: false })
            }
            Some(Fault::CrashAfter) => Ok(CallGuard { faults: self, crash: true }),
            None => Ok(CallGuard { faults: self, crash: false }),
        }
    }

    async fn crash(&self) {
        self.shared.crashed.send_replace(true);
        std::future::pending::<()>().await;
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call that may end in a crash.
#[derive(Debug)]
#[must_use = "a call that is not ended cannot crash at its end"]
pub(crate) struct CallGuard<'a> {
    faults: &'a Faults,
    crash: bool,
}

impl CallGuard<'_> {
    /// The call has done its work.
    pub(crate) async fn done(self) {
        if self.crash {
            self.faults.crash().await;
        }
    }
}
