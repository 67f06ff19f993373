//! What a task does next.
//!
//! Start reading at [`next`]. Pure. A task does one thing at a time; what that leads to decides the next. Observed states only grow.

use shoal_types::cluster::task_state::TaskState;

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Say that the node has taken it.
    Accept,
    /// Fetch the image, make the container.
    Prepare,
    /// Start the container, and wait until it is healthy if it has a check.
    Start,
    /// Wait for its end.
    Wait,
    /// Stop it.
    ShutDown,
    /// Nothing, until something else is wanted.
    Rest,
}

/// What a task does next that has come so far and shall come so far.
pub(super) fn next(observed: TaskState, desired: TaskState) -> Step {
    if observed.is_terminal() {
        return Step::Rest;
    }
    if desired >= TaskState::Shutdown {
        return Step::ShutDown;
    }
    match observed {
        TaskState::New | TaskState::Pending | TaskState::Assigned => Step::Accept,
        TaskState::Accepted | TaskState::Preparing => Step::Prepare,
        // A replacement is held ready until the one before it has gone.
        TaskState::Ready if desired <= TaskState::Ready => Step::Rest,
        TaskState::Ready | TaskState::Starting => Step::Start,
        _ => Step::Wait,
    }
}

/// Whether a step under way must be given up because another one is wanted now. A stop is never given up: it ends by itself.
pub(super) fn gives_way(step: Step, observed: TaskState, desired: TaskState) -> bool {
    step != Step::ShutDown && next(observed, desired) == Step::ShutDown
}

/// The state of a task that has failed: before it was started the node has rejected it.
pub(super) fn failed(observed: TaskState) -> TaskState {
    if observed < TaskState::Starting { TaskState::Rejected } else { TaskState::Failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_one_next_step() {
        use TaskState::*;
        let cases = [
            (Assigned, Running, Step::Accept),
            (Assigned, Ready, Step::Accept),
            (Assigned, Shutdown, Step::ShutDown),
            (Accepted, Ready, Step::Prepare),
            (Preparing, Running, Step::Prepare),
            (Preparing, Remove, Step::ShutDown),
            (Ready, Ready, Step::Rest),
            (Ready, Running, Step::Start),
            (Ready, Complete, Step::Start),
            (Starting, Running, Step::Start),
            (Running, Running, Step::Wait),
            (Running, Complete, Step::Wait),
            (Running, Shutdown, Step::ShutDown),
            (Complete, Running, Step::Rest),
            (Failed, Shutdown, Step::Rest),
            (Rejected, Remove, Step::Rest),
        ];
        for (observed, desired, wanted) in cases {
            assert_eq!(next(observed, desired), wanted, "{observed} {desired}");
        }
    }

    #[test]
    fn only_a_stop_interrupts_and_nothing_interrupts_a_stop() {
        use TaskState::*;
        assert!(gives_way(Step::Prepare, Preparing, Shutdown));
        assert!(gives_way(Step::Wait, Running, Remove));
        assert!(!gives_way(Step::Prepare, Preparing, Running));
        assert!(!gives_way(Step::ShutDown, Running, Remove));
    }

    #[test]
    fn a_failure_before_the_start_is_a_rejection() {
        assert_eq!(failed(TaskState::Preparing), TaskState::Rejected);
        assert_eq!(failed(TaskState::Ready), TaskState::Rejected);
        assert_eq!(failed(TaskState::Starting), TaskState::Failed);
        assert_eq!(failed(TaskState::Running), TaskState::Failed);
    }
}
