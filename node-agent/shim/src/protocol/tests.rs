//! The wire form: a contract with shims that are older than the daemon.

use super::*;

/// The wire form is a contract with shims that are older than the daemon.
#[test]
fn messages_keep_their_wire_form() {
    let request = Request { id: 7, call: Call::Kill { signal: 15, scope: KillScope::Init } };
    assert_eq!(
        serde_json::to_string(&request).unwrap(),
        r#"{"id":7,"call":{"kill":{"signal":15,"scope":"init"}}}"#
    );
    let reply = Message::Reply { id: 7, result: Ok(Answer::Done) };
    assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"reply":{"id":7,"result":{"Ok":"done"}}}"#);
    let failed = Message::Reply { id: 8, result: Err(Failure::new(FailureKind::CommandNotFound, "no")) };
    assert_eq!(
        serde_json::to_string(&failed).unwrap(),
        r#"{"reply":{"id":8,"result":{"Err":{"kind":"command_not_found","message":"no"}}}}"#
    );
    let at = Timestamp::from_nanosecond(1_763_640_000_123_456_789).unwrap();
    let exited = Phase::Exited(ExitRecord {
        code: 137,
        signal: Some(9),
        oom_killed: true,
        at,
        unstarted: false,
        checkpointed: false,
    });
    assert_eq!(
        serde_json::to_string(&Message::Event(Event::Phase(exited))).unwrap(),
        r#"{"event":{"phase":{"exited":{"code":137,"signal":9,"oom_killed":true,"at":"2025-11-20T12:00:00.123456789Z"}}}}"#
    );
}

#[test]
fn exec_keeps_the_process_verbatim() {
    let process = r#"{"args":["a"],"unknownField":[1,2.50]}"#;
    let hello = Hello {
        version: PROTOCOL_VERSION,
        role: Role::Exec(Box::new(ExecRequest {
            exec_id: ExecId::from_bytes([7; 32]),
            process: RawValue::from_string(process.to_owned()).unwrap(),
            streams: AttachRequest { stdin: true, stdout: true, stderr: false, framing: Framing::Raw },
            mode: ExecMode::Attached,
        })),
    };
    let back: Hello = serde_json::from_str(&serde_json::to_string(&hello).unwrap()).unwrap();
    let Role::Exec(exec) = back.role else { panic!("not an exec") };
    assert_eq!(exec.process.get(), process);
}
