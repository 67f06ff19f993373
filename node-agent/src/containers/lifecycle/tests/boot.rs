//! What a daemon finds when it starts, and what it makes of it.

use super::*;

/// What boot finds, for each state of the record: the effects, the state after them, and what the policy wants.
#[test]
fn boot_reconciles_every_record_with_every_observation() {
    use BootWish::{Remove, Rest, Start};
    let alive = || Observed::Running(run());
    let over = || Observed::Exited(ended(3, 5), Some(at(0).wall));
    let exited_with = |code| ContainerState::Exited(exit(code, 5));
    let unseen = || ContainerState::Exited(Exit { finished_at: at(9).wall, ..exit(255, 0) });
    let down = || Effect::TearDown;
    let begin = || Effect::Health(HealthOrder::Begin);
    let erased = || vec![Effect::Erase(OfVolumes::Keep), emit(Happening::Destroy), Effect::Vanish];
    let news = || vec![begin(), Effect::Commit, emit(Happening::Start)];
    let died = |code, seconds| vec![down(), Effect::Commit, Effect::Discard, die(code, seconds)];
    let cases = vec![
        (created(), Observed::Gone, vec![], created(), Rest),
        (created(), Observed::Unstarted, vec![down(), Effect::Discard], created(), Rest),
        (created(), alive(), news(), running(), Rest),
        (created(), over(), died(3, 5), exited_with(3), Start),
        (exited(), Observed::Gone, vec![], exited(), Start),
        (exited(), Observed::Unstarted, vec![down(), Effect::Discard], exited(), Start),
        (exited(), alive(), news(), running_again(), Rest),
        (exited(), over(), died(3, 5), exited_with(3), Start),
        // The daemon died between the commit of an exit and the deletion of the bundle.
        (exited_with(3), over(), vec![down(), Effect::Discard], exited_with(3), Start),
        (running(), alive(), vec![Effect::Thaw(None), begin()], running(), Rest),
        (running_again(), alive(), vec![Effect::Thaw(None), begin()], running_again(), Rest),
        (running(), over(), died(3, 5), exited_with(3), Start),
        (running(), Observed::Gone, died(255, 9), unseen(), Start),
        (running(), Observed::Unstarted, died(255, 9), unseen(), Start),
        (paused(), alive(), vec![Effect::Freeze(None)], paused(), Rest),
        (paused(), over(), died(3, 5), exited_with(3), Start),
        (paused(), Observed::Gone, died(255, 9), unseen(), Start),
        (restarting(), Observed::Gone, vec![], exited_with(1), Start),
        (restarting(), Observed::Unstarted, vec![down(), Effect::Discard], exited_with(1), Start),
        (restarting(), alive(), news(), running_again(), Rest),
        (restarting(), over(), died(3, 5), exited_with(3), Start),
        (removing(), Observed::Gone, erased(), removing(), Rest),
        (removing(), alive(), [vec![down(), Effect::Discard], erased()].concat(), removing(), Rest),
        (dead(), Observed::Gone, vec![], dead(), Rest),
        (dead(), Observed::Unstarted, vec![down(), Effect::Discard], dead(), Rest),
    ];
    for (state, observed, effects, after, wish) in cases {
        let case = format!("{} and {observed:?}", state.name());
        let mut machine = booting(state.clone(), RestartPolicy::Always);
        assert_eq!(play(&mut machine, Input::Observed(observed.clone()), at(9)), effects, "{case}");
        assert_eq!(machine.condition.state, after, "{case}");
        assert_eq!(machine.boot_wish(), wish, "{case}");
        let mut passing = booting(state, RestartPolicy::No);
        passing.rules.auto_remove = true;
        play(&mut passing, Input::Observed(observed), at(9));
        let rests = matches!(after, ContainerState::Exited(_) | ContainerState::Created);
        assert_eq!(passing.boot_wish(), if rests { Remove } else { Rest }, "{case}, --rm");
    }
}

#[test]
fn boot_starts_through_the_same_steps_and_counts_anew() {
    let mut started = booting(exited(), RestartPolicy::Always);
    started.condition.restart_count = 4;
    let done = play(&mut started, Input::BootStart(T), at(0));
    assert_eq!(done.first(), Some(&Effect::Launch));
    assert_eq!((started.condition.restart_count, started.condition.state.name()), (0, "running"));
}

#[test]
fn a_policy_waits_for_what_is_not_there_and_a_user_does_not() {
    let unavailable = StartFailure { kind: ErrorKind::Unavailable, ..failure() };
    let fail = |machine: &mut Lifecycle, begin: Input, failure: &StartFailure| {
        machine.step(Input::Serve, at(1));
        assert_eq!(machine.step(begin, at(1)), [Effect::Launch]);
        machine.step(Input::LaunchFailed(failure.clone()), at(1));
        (machine.condition.state.name(), machine.condition.restart_count)
    };
    let mut machine = booting(exited(), RestartPolicy::Always);
    assert_eq!(fail(&mut machine, Input::BootStart(T), &unavailable), ("restarting", 0));
    assert_eq!(machine.condition.start_failure.as_ref(), Some(&unavailable));
    assert_eq!(machine.step(Input::Tick, at(2)), [Effect::Launch]);
    machine.step(Input::LaunchFailed(unavailable.clone()), at(2));
    assert_eq!(machine.condition.state.name(), "restarting", "and again");
    machine.step(Input::Tick, at(9));
    machine.step(Input::Launched(run()), at(9));
    assert_eq!((machine.condition.state.name(), &machine.condition.start_failure), ("running", &None));

    let mut machine = booting(exited(), RestartPolicy::Always);
    assert_eq!(fail(&mut machine, Input::BootStart(T), &failure()), ("exited", 0), "it would fail again");
    let mut machine = booting(exited(), RestartPolicy::Always);
    assert_eq!(fail(&mut machine, Input::Start(T), &unavailable), ("exited", 0), "the user was told");
}

#[test]
fn an_exit_while_the_daemon_starts_is_left_to_the_policy_of_boot() {
    let mut machine = booting(running(), RestartPolicy::Always);
    play(&mut machine, Input::Observed(Observed::Running(run())), at(0));
    play(&mut machine, Input::Exited(ended(1, 1)), at(1));
    assert_eq!(machine.condition.state, ContainerState::Exited(exit(1, 1)));
    assert_eq!(machine.boot_wish(), BootWish::Start);
    assert!(!machine.is_dormant());
    machine.step(Input::Serve, at(1));
    assert!(machine.is_dormant());
}
