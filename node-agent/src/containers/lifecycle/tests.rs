//! The tables of the machine: for each state and input, the effects and the state after them.

mod boot;
mod stop;

use shoal_types::ErrorKind;

use super::*;
use crate::api::containers::OfRunning;
use crate::containers::signal::StopSignal;

const ID: ContainerId = ContainerId::from_bytes([0xa1; 32]);
const T: Ticket = Ticket(1);
const U: Ticket = Ticket(2);

fn at(seconds: u64) -> Now {
    let wall = Timestamp::from_second(1_000_000 + i64::try_from(seconds).unwrap()).unwrap();
    Now { moment: Moment(Duration::from_secs(seconds)), wall }
}

fn run() -> shoal_types::container::state::Run {
    shoal_types::container::state::Run {
        pid: 42,
        started_at: at(0).wall,
        oom_killed: false,
        previous_end: None,
    }
}

fn exit(code: i32, seconds: u64) -> Exit {
    Exit {
        code,
        oom_killed: false,
        started_at: Some(at(0).wall),
        finished_at: at(seconds).wall,
        error: String::new(),
    }
}

fn ended(code: i32, seconds: u64) -> Ended {
    Ended { code, oom_killed: false, checkpointed: false, at: at(seconds).wall }
}

fn failure() -> StartFailure {
    StartFailure { code: 127, error: "no such program".to_owned(), kind: ErrorKind::InvalidArgument }
}

fn created() -> ContainerState {
    ContainerState::Created
}
fn running() -> ContainerState {
    ContainerState::Running(run())
}
/// Running after a run that ended like that of [`exited`] and [`restarting`].
fn running_again() -> ContainerState {
    ContainerState::Running(shoal_types::container::state::Run { previous_end: Some(at(5).wall), ..run() })
}
fn paused() -> ContainerState {
    ContainerState::Paused(run())
}
fn restarting() -> ContainerState {
    ContainerState::Restarting { last: exit(1, 5), due: at(6).wall }
}
fn exited() -> ContainerState {
    ContainerState::Exited(exit(0, 5))
}
fn removing() -> ContainerState {
    ContainerState::Removing { last: None }
}
fn dead() -> ContainerState {
    ContainerState::Dead { last: None, reason: "busy".to_owned() }
}

fn rules() -> Rules {
    Rules { policy: RestartPolicy::No, auto_remove: false, stop_signal: StopSignal::Unnamed }
}

fn machine_with(state: ContainerState, rules: Rules) -> Lifecycle {
    let mut machine = Lifecycle::new(ID, Condition { state, ..Condition::default() }, rules);
    if matches!(machine.condition.state, ContainerState::Restarting { .. }) {
        machine.due = Some(at(6).moment);
    }
    machine
}

fn machine(state: ContainerState) -> Lifecycle {
    machine_with(state, rules())
}

fn booting(state: ContainerState, policy: RestartPolicy) -> Lifecycle {
    let rules = Rules { policy, ..rules() };
    Lifecycle::booting(ID, Condition { state, ..Condition::default() }, rules)
}

fn always() -> Rules {
    Rules { policy: RestartPolicy::Always, ..rules() }
}

fn plan() -> StopPlan {
    StopPlan { signal: 15, grace: Some(Duration::from_secs(10)) }
}

fn ok(ticket: Ticket) -> Effect {
    Effect::Answer(ticket, Ok(()))
}

fn conflict(message: &str) -> Effect {
    Effect::Answer(T, Err(Refusal::Conflict(message.replace("ID", &ID.to_string()))))
}

fn failed(message: &str) -> Effect {
    Effect::Answer(T, Err(Refusal::Failed(message.replace("ID", &ID.to_string()))))
}

fn impossible(message: &str) -> Effect {
    Effect::Answer(T, Err(Refusal::Impossible(message.replace("ID", &ID.to_string()))))
}

fn not_modified() -> Effect {
    Effect::Answer(T, Err(Refusal::NotModified))
}

fn signal(signal: i32, scope: Scope) -> Effect {
    Effect::Signal { signal, scope, ticket: Some(T) }
}

fn emit(happening: Happening) -> Effect {
    Effect::Emit(happening)
}

fn die(code: i32, seconds: u64) -> Effect {
    Effect::Emit(Happening::Die { code, seconds })
}

/// Runs the machine like the actor does, with outcomes of a world in which everything succeeds, and returns the
/// effects in the order in which they were done.
fn play(machine: &mut Lifecycle, input: Input, now: Now) -> Vec<Effect> {
    let mut done = Vec::new();
    let mut queue: std::collections::VecDeque<Effect> = machine.step(input, now).into();
    while let Some(effect) = queue.pop_front() {
        let outcome = match &effect {
            Effect::Launch => Some(Input::Launched(run())),
            Effect::TearDown => Some(Input::TornDown),
            Effect::Erase(_) => Some(Input::Erased(Ok(()))),
            Effect::Signal { signal, ticket, .. } => {
                Some(Input::Signalled(*ticket, *signal, SignalOutcome::Sent))
            }
            Effect::Freeze(ticket) => Some(Input::Frozen(*ticket, Ok(()))),
            Effect::Thaw(ticket) => Some(Input::Thawed(*ticket, Ok(()))),
            Effect::Commit
            | Effect::Discard
            | Effect::Emit(_)
            | Effect::Answer(..)
            | Effect::Health(_)
            | Effect::Vanish => None,
        };
        done.push(effect);
        for effect in outcome.map(|input| machine.step(input, now)).unwrap_or_default().into_iter().rev() {
            queue.push_front(effect);
        }
    }
    done
}

#[test]
fn what_is_refused_is_refused_with_dockers_words() {
    const MARKED: &str = "container is marked for removal and cannot be started";
    const NOT_RUNNING: &str = "container ID is not running";
    let start = || Input::Start(T);
    let stop = || Input::Stop(T, plan());
    let restart = || Input::Restart(T, plan());
    let kill = || Input::Kill(T, 9);
    let pause = || Input::Pause(T);
    let unpause = || Input::Unpause(T);
    let remove = || Input::Remove(T, OfRunning::Refuse, OfVolumes::Keep);
    let cases = [
        (running(), start(), not_modified()),
        (restarting(), start(), not_modified()),
        (paused(), start(), conflict("cannot start a paused container, try unpause instead")),
        (removing(), start(), conflict(MARKED)),
        (dead(), start(), conflict(MARKED)),
        (created(), stop(), not_modified()),
        (exited(), stop(), not_modified()),
        (removing(), stop(), not_modified()),
        (dead(), stop(), not_modified()),
        (removing(), restart(), conflict(MARKED)),
        (dead(), restart(), conflict(MARKED)),
        (created(), kill(), conflict(NOT_RUNNING)),
        (exited(), kill(), conflict(NOT_RUNNING)),
        (dead(), kill(), conflict(NOT_RUNNING)),
        (created(), pause(), conflict(NOT_RUNNING)),
        (exited(), pause(), conflict(NOT_RUNNING)),
        (paused(), pause(), conflict("container ID is already paused")),
        (restarting(), pause(), conflict("Container ID is restarting, wait until the container is running")),
        (running(), unpause(), impossible("Container ID is not paused")),
        (created(), unpause(), impossible("Container ID is not paused")),
        (
            running(),
            remove(),
            conflict("container is running: stop the container before removing or force remove"),
        ),
        (
            restarting(),
            remove(),
            conflict("container is restarting: stop the container before removing or force remove"),
        ),
        (paused(), remove(), conflict("container is paused and must be unpaused first")),
        (removing(), remove(), Effect::Answer(T, Err(Refusal::RemovalInProgress))),
    ];
    for (state, input, answer) in cases {
        let case = format!("{input:?} of {}", state.name());
        let mut machine = machine(state.clone());
        assert_eq!(machine.step(input, at(1)), [answer], "{case}");
        assert_eq!(machine.condition.state, state, "{case}");
    }
}

#[test]
fn a_start_runs_from_created_and_from_exited() {
    for (state, after) in [(created(), running()), (exited(), running_again())] {
        let mut machine = machine(state);
        machine.condition.restart_count = 3;
        machine.condition.last_wish = LastWish::Stop;
        machine.condition.start_failure = Some(failure());
        let done = play(&mut machine, Input::Start(T), at(1));
        let begin = Effect::Health(HealthOrder::Begin);
        assert_eq!(done, [Effect::Launch, begin, Effect::Commit, emit(Happening::Start), ok(T)]);
        assert_eq!(machine.condition, Condition { state: after, ..Condition::default() });
    }
}

#[test]
fn a_failed_start_leaves_the_state_and_keeps_the_reason() {
    for state in [created(), exited()] {
        let mut machine = machine(state.clone());
        assert_eq!(machine.step(Input::Start(T), at(1)), [Effect::Launch]);
        let done = machine.step(Input::LaunchFailed(failure()), at(1));
        assert_eq!(done, [Effect::Commit, Effect::Answer(T, Err(Refusal::StartFailed(failure())))]);
        assert_eq!(machine.condition.state, state);
        assert_eq!(machine.condition.start_failure, Some(failure()));
    }
}

#[test]
fn a_failed_start_with_auto_remove_answers_after_the_removal() {
    let mut machine = machine_with(created(), Rules { auto_remove: true, ..rules() });
    machine.step(Input::Start(T), at(1));
    let erase = Effect::Erase(OfVolumes::RemoveAnonymous);
    assert_eq!(machine.step(Input::LaunchFailed(failure()), at(1)), [erase]);
    let answer = Effect::Answer(T, Err(Refusal::StartFailed(failure())));
    let done = machine.step(Input::Erased(Ok(())), at(1));
    assert_eq!(done, [emit(Happening::Destroy), answer, Effect::Vanish]);
}

#[test]
fn pause_and_unpause_mirror_each_other() {
    let mut machine = machine(running());
    let done = play(&mut machine, Input::Pause(T), at(1));
    let halt = Effect::Health(HealthOrder::Halt);
    assert_eq!(done, [Effect::Freeze(Some(T)), halt, Effect::Commit, emit(Happening::Pause), ok(T)]);
    assert_eq!(machine.condition.state, paused());
    let done = play(&mut machine, Input::Unpause(T), at(1));
    let resume = Effect::Health(HealthOrder::Resume);
    assert_eq!(done, [Effect::Thaw(Some(T)), resume, Effect::Commit, emit(Happening::Unpause), ok(T)]);
    assert_eq!(machine.condition.state, running());
}

#[test]
fn a_freezer_that_fails_leaves_the_state() {
    let mut machine = machine(running());
    machine.step(Input::Pause(T), at(1));
    let effects = machine.step(Input::Frozen(Some(T), Err("EBUSY".to_owned())), at(1));
    assert_eq!(effects, [failed("cannot pause container ID: EBUSY")]);
    assert_eq!(machine.condition.state, running());
}

#[test]
fn an_exit_by_itself_is_torn_down_before_die() {
    let mut machine = machine(running());
    let done = play(&mut machine, Input::Exited(ended(3, 7)), at(7));
    let halt = Effect::Health(HealthOrder::Halt);
    assert_eq!(done, [halt, Effect::TearDown, Effect::Commit, Effect::Discard, die(3, 7)]);
    assert_eq!(machine.condition.state, ContainerState::Exited(exit(3, 7)));
}

#[test]
fn exits_with_a_policy_back_off_and_start_again_with_growing_counts() {
    let mut machine = machine_with(running(), always());
    let done = play(&mut machine, Input::Exited(ended(1, 1)), at(1));
    assert_eq!(done[2..], [Effect::Commit, Effect::Discard, die(1, 1)]);
    assert!(matches!(machine.condition.state, ContainerState::Restarting { .. }));
    assert_eq!(machine.condition.restart_count, 1);
    assert_eq!(machine.next_deadline(), Some(Moment(Duration::from_millis(1100))));
    assert_eq!(play(&mut machine, Input::Tick, at(1)), []);
    let done = play(&mut machine, Input::Tick, at(2));
    let begin = Effect::Health(HealthOrder::Begin);
    assert_eq!(done, [Effect::Launch, begin, Effect::Commit, emit(Happening::Start)]);
    assert_eq!((machine.condition.restart_count, machine.next_deadline()), (1, None));
    play(&mut machine, Input::Exited(ended(1, 1)), at(3));
    assert_eq!(machine.next_deadline(), Some(Moment(Duration::from_millis(3200))));
    assert_eq!(machine.condition.restart_count, 2);
}

#[test]
fn a_start_by_the_policy_that_fails_ends_in_exited() {
    let mut machine = machine_with(restarting(), always());
    assert_eq!(machine.step(Input::Tick, at(6)), [Effect::Launch]);
    assert_eq!(machine.step(Input::LaunchFailed(failure()), at(6)), [Effect::Commit]);
    assert_eq!(machine.condition.state, ContainerState::Exited(exit(1, 5)));
    assert_eq!(machine.condition.start_failure, Some(failure()));
}

#[test]
fn on_failure_counts_its_retries() {
    let policy = RestartPolicy::OnFailure { max_retries: 1 };
    let mut machine = machine_with(running(), Rules { policy, ..rules() });
    play(&mut machine, Input::Exited(ended(1, 1)), at(1));
    play(&mut machine, Input::Tick, at(2));
    play(&mut machine, Input::Exited(ended(1, 1)), at(3));
    assert_eq!(machine.condition.state, ContainerState::Exited(exit(1, 1)));
    assert_eq!(machine.condition.restart_count, 1);
}

#[test]
fn an_exit_with_auto_remove_removes_after_die() {
    let mut machine = machine_with(running(), Rules { auto_remove: true, ..rules() });
    let done = play(&mut machine, Input::Exited(ended(0, 1)), at(1));
    let erase = Effect::Erase(OfVolumes::RemoveAnonymous);
    assert_eq!(
        done[2..],
        [Effect::Commit, Effect::Discard, die(0, 1), erase, emit(Happening::Destroy), Effect::Vanish]
    );
}

#[test]
fn a_restart_stops_starts_and_does_not_auto_remove() {
    let mut machine = machine_with(running(), Rules { auto_remove: true, ..rules() });
    play(&mut machine, Input::Restart(T, plan()), at(0));
    let done = play(&mut machine, Input::Exited(ended(0, 1)), at(1));
    assert_eq!(
        done[2..],
        [
            Effect::Commit,
            Effect::Discard,
            die(0, 1),
            emit(Happening::Stop),
            Effect::Launch,
            Effect::Health(HealthOrder::Begin),
            Effect::Commit,
            emit(Happening::Start),
            emit(Happening::Restart),
            ok(T),
        ]
    );
    assert_eq!(machine.condition.last_wish, LastWish::Run);
}

#[test]
fn a_restart_of_what_does_not_run_is_a_start() {
    for state in [created(), exited()] {
        let done = play(&mut machine(state), Input::Restart(T, plan()), at(0));
        assert_eq!(done.first(), Some(&Effect::Launch));
        assert_eq!(done[done.len() - 2..], [emit(Happening::Restart), ok(T)]);
    }
    let done = play(&mut machine_with(restarting(), always()), Input::Restart(T, plan()), at(5));
    assert_eq!(done[..3], [Effect::Commit, emit(Happening::Stop), Effect::Launch]);
}

#[test]
fn a_removal_erases_then_tells_then_forgets() {
    for state in [created(), exited(), dead()] {
        let mut machine = machine(state);
        let remove = Input::Remove(T, OfRunning::Refuse, OfVolumes::RemoveAnonymous);
        let done = play(&mut machine, remove, at(0));
        let erase = Effect::Erase(OfVolumes::RemoveAnonymous);
        assert_eq!(done, [erase, emit(Happening::Destroy), ok(T), Effect::Vanish]);
    }
}

#[test]
fn a_removal_that_fails_leaves_it_dead_and_removable() {
    let mut machine = machine(exited());
    machine.step(Input::Remove(T, OfRunning::Refuse, OfVolumes::Keep), at(0));
    let effects = machine.step(Input::Erased(Err("busy".to_owned())), at(0));
    assert_eq!(effects, [Effect::Commit, failed("busy")]);
    let reason = "busy".to_owned();
    assert_eq!(machine.condition.state, ContainerState::Dead { last: Some(exit(0, 5)), reason });
    let done = play(&mut machine, Input::Remove(T, OfRunning::Refuse, OfVolumes::Keep), at(1));
    assert_eq!(done.last(), Some(&Effect::Vanish));
}

#[test]
fn a_forced_removal_kills_first_and_refuses_a_second_one() {
    let mut machine = machine(running());
    let remove = Input::Remove(T, OfRunning::Kill, OfVolumes::Keep);
    let done = play(&mut machine, remove, at(0));
    assert_eq!(done, [signal(9, Scope::Init), emit(Happening::Kill { signal: 9 })]);
    let second = machine.step(Input::Remove(U, OfRunning::Kill, OfVolumes::Keep), at(0));
    assert_eq!(second, [Effect::Answer(U, Err(Refusal::RemovalInProgress))]);
    let done = play(&mut machine, Input::Exited(ended(137, 1)), at(1));
    let erase = Effect::Erase(OfVolumes::Keep);
    assert_eq!(
        done[2..],
        [
            Effect::Commit,
            Effect::Discard,
            die(137, 1),
            erase,
            emit(Happening::Destroy),
            ok(T),
            Effect::Vanish
        ]
    );
}

#[test]
fn a_removal_beats_a_restart_that_waits_for_the_same_exit() {
    let mut machine = machine(running());
    play(&mut machine, Input::Restart(T, plan()), at(0));
    play(&mut machine, Input::Remove(U, OfRunning::Kill, OfVolumes::Keep), at(0));
    let done = play(&mut machine, Input::Exited(ended(137, 1)), at(1));
    assert!(done.contains(&conflict("container is marked for removal and cannot be started")));
    assert!(done.contains(&ok(U)) && !done.contains(&Effect::Launch));
}

#[test]
fn running_out_of_memory_is_remembered_in_the_exit() {
    let mut machine = machine(running());
    assert_eq!(play(&mut machine, Input::OutOfMemory, at(1)), [Effect::Commit, emit(Happening::Oom)]);
    assert_eq!(play(&mut machine, Input::OutOfMemory, at(1)), [emit(Happening::Oom)]);
    play(&mut machine, Input::Exited(ended(137, 2)), at(2));
    let exit = Exit { oom_killed: true, ..exit(137, 2) };
    assert_eq!(machine.condition.state, ContainerState::Exited(exit));
}

#[test]
fn events_of_a_run_that_is_over_change_nothing() {
    for state in [created(), exited(), removing(), dead()] {
        let mut machine = machine(state.clone());
        assert_eq!(machine.step(Input::Exited(ended(0, 1)), at(1)), []);
        assert_eq!(machine.step(Input::OutOfMemory, at(1)), []);
        assert_eq!(machine.step(Input::Tick, at(100)), []);
        assert_eq!(machine.condition.state, state);
    }
}

#[test]
fn conditions_survive_being_stored() {
    for state in [created(), running(), paused(), restarting(), exited(), removing(), dead()] {
        let condition = Condition { state, start_failure: Some(failure()), ..Condition::default() };
        let json = serde_json::to_string(&condition).unwrap();
        assert_eq!(serde_json::from_str::<Condition>(&json).unwrap(), condition);
    }
}

#[test]
fn a_container_that_went_into_a_checkpoint_is_not_started_by_its_policy() {
    let departed = Ended { checkpointed: true, ..ended(137, 9) };
    let mut served = machine_with(running(), Rules { policy: RestartPolicy::UnlessStopped, ..rules() });
    play(&mut served, Input::Exited(departed), at(9));
    let mut found = booting(running(), RestartPolicy::UnlessStopped);
    play(&mut found, Input::Observed(Observed::Exited(departed, None)), at(9));
    assert_eq!(found.boot_wish(), BootWish::Rest);
    for machine in [served, found] {
        assert_eq!(machine.condition.state, ContainerState::Exited(exit(137, 9)));
        assert_eq!(machine.condition.last_wish, LastWish::Stop);
    }
}
