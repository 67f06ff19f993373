//! Stops and kills: signals, waits, escalation, and who is answered when.

use super::*;

#[test]
fn a_stop_signals_waits_and_is_answered_after_die() {
    let mut machine = machine(running());
    let done = play(&mut machine, Input::Stop(T, plan()), at(1));
    assert_eq!(done, [signal(15, Scope::Init), emit(Happening::Kill { signal: 15 })]);
    assert_eq!(machine.next_deadline(), Some(at(11).moment));
    let done = play(&mut machine, Input::Exited(ended(0, 3)), at(3));
    let halt = Effect::Health(HealthOrder::Halt);
    assert_eq!(
        done,
        [halt, Effect::TearDown, Effect::Commit, Effect::Discard, die(0, 3), emit(Happening::Stop), ok(T)]
    );
    assert_eq!(machine.condition.state, ContainerState::Exited(exit(0, 3)));
    assert!(machine.is_dormant());
}

#[test]
fn a_stop_that_is_not_heard_escalates_and_gives_up_at_last() {
    let mut machine = machine(running());
    play(&mut machine, Input::Stop(T, plan()), at(0));
    assert_eq!(play(&mut machine, Input::Tick, at(9)), []);
    let kill = emit(Happening::Kill { signal: 9 });
    assert_eq!(play(&mut machine, Input::Tick, at(10)), [signal(9, Scope::Init), kill.clone()]);
    assert_eq!(play(&mut machine, Input::Tick, at(20)), [signal(9, Scope::All), kill]);
    assert_eq!(play(&mut machine, Input::Tick, at(22)), []);
    let refusal = failed("tried to kill container, but did not receive an exit event");
    assert_eq!(play(&mut machine, Input::Tick, at(24)), [refusal]);
    assert_eq!(machine.next_deadline(), None);
    assert_eq!(machine.condition.state, running());
}

#[test]
fn a_stop_without_limit_never_escalates_and_one_of_zero_does_at_once() {
    let mut machine = machine(running());
    play(&mut machine, Input::Stop(T, StopPlan { grace: None, ..plan() }), at(0));
    assert_eq!(machine.next_deadline(), None);
    let zero = StopPlan { grace: Some(Duration::ZERO), ..plan() };
    play(&mut machine, Input::Stop(U, zero), at(0));
    let done = play(&mut machine, Input::Tick, at(0));
    assert_eq!(done[0], Effect::Signal { signal: 9, scope: Scope::Init, ticket: Some(U) });
}

#[test]
fn a_stop_signal_that_cannot_be_sent_shortens_the_wait() {
    let mut machine = machine(running());
    machine.step(Input::Stop(T, plan()), at(0));
    let outcome = SignalOutcome::Failed("EPERM".to_owned());
    assert_eq!(machine.step(Input::Signalled(Some(T), 15, outcome), at(0)), []);
    assert_eq!(machine.next_deadline(), Some(at(2).moment));
}

#[test]
fn two_stops_are_both_answered() {
    let mut machine = machine(running());
    play(&mut machine, Input::Stop(T, plan()), at(0));
    play(&mut machine, Input::Stop(U, plan()), at(0));
    let done = play(&mut machine, Input::Exited(ended(0, 1)), at(1));
    assert!(done.contains(&ok(T)) && done.contains(&ok(U)));
}

#[test]
fn a_stop_of_a_paused_container_thaws_it_after_the_signal() {
    let mut machine = machine(paused());
    let done = play(&mut machine, Input::Stop(T, plan()), at(1));
    assert_eq!(
        done,
        [
            signal(15, Scope::Init),
            emit(Happening::Kill { signal: 15 }),
            Effect::Thaw(None),
            Effect::Health(HealthOrder::Resume),
            Effect::Commit,
            emit(Happening::Unpause),
        ]
    );
    assert_eq!(machine.condition.state, running());
}

#[test]
fn a_stop_during_the_back_off_is_only_a_stop() {
    let mut machine = machine_with(restarting(), always());
    let done = play(&mut machine, Input::Stop(T, plan()), at(5));
    assert_eq!(done, [Effect::Commit, emit(Happening::Stop), ok(T)]);
    assert_eq!(machine.condition.state, ContainerState::Exited(exit(1, 5)));
    assert_eq!(machine.next_deadline(), None);
}

#[test]
fn a_kill_by_sigkill_is_answered_after_the_exit_and_others_at_once() {
    let mut killed = machine(running());
    let done = play(&mut killed, Input::Kill(T, 9), at(0));
    assert_eq!(done, [signal(9, Scope::Init), emit(Happening::Kill { signal: 9 })]);
    let done = play(&mut killed, Input::Exited(ended(137, 1)), at(1));
    assert_eq!(done[2..], [Effect::Commit, Effect::Discard, die(137, 1), ok(T)]);

    let mut hupped = machine(running());
    let done = play(&mut hupped, Input::Kill(T, 1), at(0));
    assert_eq!(done, [signal(1, Scope::Init), emit(Happening::Kill { signal: 1 }), ok(T)]);
    assert_eq!(hupped.condition.last_wish, LastWish::Run);
}

#[test]
fn only_signals_meant_to_end_it_silence_the_policy() {
    for (number, ends) in [(9, true), (15, true), (2, true), (1, false), (10, false)] {
        let mut machine = machine_with(running(), always());
        play(&mut machine, Input::Kill(T, number), at(0));
        play(&mut machine, Input::Exited(ended(0, 1)), at(1));
        let restarts = matches!(machine.condition.state, ContainerState::Restarting { .. });
        assert_eq!(restarts, !ends, "signal {number}");
    }
}

#[test]
fn a_wish_to_stop_is_durable_before_the_signal_when_a_policy_depends_on_it() {
    let mut machine = machine_with(running(), always());
    let effects = machine.step(Input::Stop(T, plan()), at(0));
    assert_eq!(effects, [Effect::Commit, signal(15, Scope::Init)]);
    assert_eq!(machine.condition.last_wish, LastWish::Stop);
}

#[test]
fn a_kill_of_a_process_that_is_gone_waits_for_its_exit() {
    let mut machine = machine(running());
    machine.step(Input::Kill(T, 9), at(0));
    let effects = machine.step(Input::Signalled(Some(T), 9, SignalOutcome::ProcessGone), at(0));
    assert_eq!(effects, [emit(Happening::Kill { signal: 9 })]);
    let done = play(&mut machine, Input::Exited(ended(0, 1)), at(1));
    assert_eq!(done.last(), Some(&ok(T)));
}

#[test]
fn a_kill_during_the_back_off_ends_it() {
    let mut ended = machine_with(restarting(), always());
    assert_eq!(play(&mut ended, Input::Kill(T, 9), at(5)), [Effect::Commit, ok(T)]);
    assert!(matches!(ended.condition.state, ContainerState::Exited(_)));
    let mut goes_on = machine_with(restarting(), always());
    assert_eq!(play(&mut goes_on, Input::Kill(T, 1), at(5)), [ok(T)]);
    assert_eq!(goes_on.condition.state, restarting());
}
