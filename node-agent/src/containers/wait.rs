//! Waiting for an exit or a removal.
//!
//! Start reading at [`wait`]. A wait follows what is published and asks nobody; it is registered when it is made, not when
//! it is first polled, and dropping it ends it.

use shoal_types::container::state::{ContainerState, Exit};
use tokio::sync::watch;

use super::slot::{Presence, Published};
use crate::api::containers::{ExitFuture, ExitReport, WaitCondition};

/// Registers interest in an exit.
pub(crate) fn wait(published: watch::Receiver<Published>, condition: WaitCondition) -> ExitFuture {
    let n_exits = published.borrow().n_exits;
    Box::pin(async move {
        Ok(match condition {
            // An exit counts although the restart policy starts the container again at once.
            WaitCondition::NotRunning => {
                until(published, move |now: &Published| is_not_running(now) || now.n_exits > n_exits).await
            }
            WaitCondition::NextExit => {
                until(published, move |now: &Published| {
                    now.n_exits > n_exits || now.presence == Presence::Removed
                })
                .await
            }
            WaitCondition::Removed => {
                until(published, |now: &Published| {
                    now.presence == Presence::Removed || matches!(now.view.state, ContainerState::Dead { .. })
                })
                .await
            }
        })
    })
}

async fn until(
    mut published: watch::Receiver<Published>,
    is_over: impl FnMut(&Published) -> bool,
) -> ExitReport {
    let over = published.wait_for(is_over).await.map(|now| report(&now));
    // The sender goes only when the daemon ends, together with this wait.
    over.unwrap_or_else(|_| report(&published.borrow()))
}

fn is_not_running(now: &Published) -> bool {
    now.presence == Presence::Removed
        || !matches!(
            now.view.state,
            ContainerState::Running(_) | ContainerState::Paused(_) | ContainerState::Restarting { .. }
        )
}

fn report(now: &Published) -> ExitReport {
    let last_exit = now.last_exit.as_deref().map_or(0, |exit: &Exit| exit.code);
    // A start that failed counts as an exit for those who ask for the code.
    let code = now.view.start_failure.as_ref().map_or(last_exit, |failure| failure.code);
    let error = match &now.view.state {
        ContainerState::Dead { reason, .. } if now.presence == Presence::Here => Some(reason.clone()),
        _ => now.last_exit.as_deref().map(|exit| exit.error.clone()).filter(|error| !error.is_empty()),
    };
    ExitReport { code, error }
}
