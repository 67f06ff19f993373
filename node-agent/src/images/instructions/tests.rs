//! Instructions of import and commit as tables: what each sets, and the texts of refusals.

use super::*;

fn changed(changes: &[&str]) -> ImageRunConfig {
    let base = ImageRunConfig {
        env: Some(vec!["PATH=/bin".to_owned()]),
        cmd: Some(vec!["old".to_owned()]),
        working_dir: "/srv".to_owned(),
        ..ImageRunConfig::default()
    };
    apply(base, &changes.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn refusal(change: &str) -> String {
    apply(ImageRunConfig::default(), &[change.to_owned()]).unwrap_err().message()
}

fn list(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn commands_have_an_exec_form_and_a_shell_form() {
    assert_eq!(changed(&[r#"CMD ["a", "b c"]"#]).cmd, list(&["a", "b c"]));
    assert_eq!(changed(&["cmd echo $X"]).cmd, list(&["/bin/sh", "-c", "echo $X"]));
    assert_eq!(changed(&["CMD ['single']"]).cmd, list(&["/bin/sh", "-c", "['single']"]));
    assert_eq!(changed(&["CMD []"]).cmd, list(&[]));
}

#[test]
fn an_entrypoint_resets_the_command_unless_one_is_given_too() {
    let config = changed(&[r#"ENTRYPOINT ["e"]"#]);
    assert_eq!((config.entrypoint, config.cmd), (list(&["e"]), None));
    let config = changed(&["CMD c\nENTRYPOINT e"]);
    assert_eq!(config.cmd, list(&["/bin/sh", "-c", "c"]));
}

#[test]
fn environment_and_labels_take_pairs_and_variables() {
    let config = changed(&[r#"ENV PATH=$PATH:/opt A="x y" B=1"#, "ENV C some words", "LABEL a.b='c d' e=f"]);
    assert_eq!(config.env, list(&["PATH=/bin:/opt", "A=x y", "B=1", "C=some words"]));
    assert_eq!(
        config.labels.unwrap().into_iter().collect::<Vec<_>>(),
        [("a.b".into(), "c d".into()), ("e".into(), "f".into())]
    );
}

#[test]
fn the_other_instructions_set_their_fields() {
    let config = changed(&[
        "EXPOSE 80 8000-8002/udp",
        r#"VOLUME ["/a", "/b"]"#,
        "VOLUME /c /d",
        "USER app:app",
        "WORKDIR sub/../x",
        "STOPSIGNAL SIGUSR1",
        "ONBUILD RUN make",
    ]);
    let ports: Vec<String> = config.exposed_ports.unwrap().into_keys().collect();
    assert_eq!(ports, ["80/tcp", "8000/udp", "8001/udp", "8002/udp"]);
    assert_eq!(config.volumes.unwrap().into_keys().collect::<Vec<_>>(), ["/a", "/b", "/c", "/d"]);
    assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("app:app", "/srv/x"));
    assert_eq!((config.stop_signal.as_str(), config.on_build), ("SIGUSR1", list(&["RUN make"])));
}

#[test]
fn health_checks_are_read_with_their_flags() {
    let check = changed(&["HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=2 CMD curl localhost"])
        .healthcheck
        .unwrap();
    assert_eq!(check.test, ["CMD-SHELL", "curl localhost"]);
    assert_eq!((check.interval, check.timeout, check.retries), (90_000_000_000, 1_500_000_000, 2));
    assert_eq!(changed(&[r#"HEALTHCHECK CMD ["a","b"]"#]).healthcheck.unwrap().test, ["CMD", "a", "b"]);
    assert_eq!(changed(&["HEALTHCHECK NONE"]).healthcheck.unwrap().test, ["NONE"]);
}

#[test]
fn lines_are_joined_and_comments_skipped() {
    let config = changed(&["# note\n\nENV A=1 \\\n  B=2\n# more\nUSER x"]);
    assert_eq!(config.env, list(&["PATH=/bin", "A=1", "B=2"]));
    assert_eq!(config.user, "x");
}

#[test]
fn what_cannot_be_applied_is_refused_with_dockers_texts() {
    let cases = [
        ("RUN make", "RUN is not a valid change command"),
        ("copy a b", "copy is not a valid change command"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV", "ENV requires at least one argument"),
        ("USER", "USER requires exactly one argument"),
        ("EXPOSE x", "invalid containerPort: x"),
        ("EXPOSE 9-8", "invalid containerPort: 9-8"),
        ("STOPSIGNAL NOPE", "invalid signal: NOPE"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK --interval=1us CMD x", "interval \"interval\" cannot be less than 1ms"),
        ("HEALTHCHECK --interval=x CMD y", "time: invalid duration \"x\""),
        ("HEALTHCHECK RUN x", "unknown type \"RUN\" in HEALTHCHECK (try CMD)"),
        (r#"VOLUME [""]"#, "VOLUME specified can not be an empty string"),
    ];
    for (change, text) in cases {
        assert_eq!(refusal(change), text, "{change}");
    }
}
