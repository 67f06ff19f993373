//! Log drivers and the files they keep.

use integration_cli::condition::eventually;
use integration_cli::{DaemonOptions, Test, cases};
use serde_json::{Value, json};

cases![
    the_json_file_has_one_object_a_line_with_stream_and_time,
    json_file_rotates_by_size_and_keeps_the_number_of_files,
    rotated_files_are_read_as_one_log,
    rotated_files_are_compressed_on_request,
    the_local_driver_keeps_and_gives_logs,
    attributes_of_labels_and_tag_are_in_the_file,
    daemon_wide_log_options_apply_to_new_containers,
    log_files_go_with_the_container,
];

fn the_json_file_has_one_object_a_line_with_stream_and_time(t: &Test) {
    let container = t.start("busybox sh -c 'echo out; sleep 0.05; echo err >&2; sleep 0.05; printf tail'");
    t.wait(&container);
    let path = t.inspect(&container)["LogPath"].as_str().unwrap().to_owned();
    let text = t.host(&format!("cat {path}")).ok();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<(&str, &str)> =
        lines.iter().map(|line| (line["log"].as_str().unwrap(), line["stream"].as_str().unwrap())).collect();
    assert_eq!(told, [("out\n", "stdout"), ("err\n", "stderr"), ("tail", "stdout")]);
    for line in &lines {
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
        assert!(line.get("attrs").is_none(), "{line}");
    }
}

fn files_of(t: &Test, path: &str) -> Vec<String> {
    let (directory, name) = path.rsplit_once('/').unwrap();
    // The directory, because a file may be renamed between its listing by a pattern and a look at it.
    let listed = t.host(&format!("ls -1 {directory}")).ok();
    listed.lines().filter_map(|line| line.strip_prefix(name)).map(str::to_owned).collect()
}

const MANY_LINES: &str = "seq 1 4000";

fn json_file_rotates_by_size_and_keeps_the_number_of_files(t: &Test) {
    let container = t.start(&format!("--log-opt max-size=50k --log-opt max-file=3 busybox {MANY_LINES}"));
    t.wait(&container);
    let path = t.inspect(&container)["LogPath"].as_str().unwrap().to_owned();
    assert_eq!(files_of(t, &path), ["", ".1", ".2"]);
    let sizes = t.host(&format!("stat -c %s {path}*")).ok();
    assert!(sizes.lines().all(|size| size.parse::<u64>().unwrap() < 60_000), "{sizes}");
}

fn rotated_files_are_read_as_one_log(t: &Test) {
    let container = t.start(&format!("--log-opt max-size=50k --log-opt max-file=10 busybox {MANY_LINES}"));
    t.wait(&container);
    let expected: Vec<String> = (1..=4000).map(|number| number.to_string()).collect();
    assert!(t.logs(&container).lines().eq(expected.iter().map(String::as_str)), "all lines in order");
    // More lines than the newest file holds.
    let tail = t.docker(&format!("logs --tail 1500 {container}")).ok();
    assert!(
        tail.lines().eq(expected[2500..].iter().map(String::as_str)),
        "the last lines over several files"
    );
}

fn rotated_files_are_compressed_on_request(t: &Test) {
    let container = t.start(&format!(
        "--log-opt max-size=50k --log-opt max-file=10 --log-opt compress=true busybox {MANY_LINES}"
    ));
    t.wait(&container);
    let path = t.inspect(&container)["LogPath"].as_str().unwrap().to_owned();
    eventually("rotated files are compressed", || {
        let files = files_of(t, &path);
        (files.len() > 1 && files.iter().skip(1).all(|file| file.ends_with(".gz"))).then_some(())
    });
    assert_eq!(t.logs(&container).lines().count(), 4000);
}

fn the_local_driver_keeps_and_gives_logs(t: &Test) {
    let container =
        t.start("--log-driver local --log-opt max-size=1m busybox sh -c 'echo out; echo err >&2'");
    t.wait(&container);
    let outcome = t.docker(&format!("logs {container}"));
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(
        t.inspect(&container)["HostConfig"]["LogConfig"],
        json!({"Type": "local", "Config": {"max-size": "1m"}})
    );
    assert_eq!(t.docker(&format!("logs --tail 1 {container}")).code, 0);
}

fn attributes_of_labels_and_tag_are_in_the_file(t: &Test) {
    let container =
        t.start("--log-opt labels=tier --log-opt tag={{.Name}} --label tier=front busybox echo hi");
    t.wait(&container);
    let path = t.inspect(&container)["LogPath"].as_str().unwrap().to_owned();
    let line: Value = serde_json::from_str(&t.host(&format!("cat {path}")).ok()).unwrap();
    assert_eq!(line["attrs"], json!({"tag": container.name, "tier": "front"}));
}

fn daemon_wide_log_options_apply_to_new_containers(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::config(&json!({
        "log-driver": "json-file", "log-opts": {"max-size": "7m", "max-file": "2"}
    })));
    let container = d.create("busybox true");
    let config = d.inspect(&container)["HostConfig"]["LogConfig"].clone();
    assert_eq!(config, json!({"Type": "json-file", "Config": {"max-file": "2", "max-size": "7m"}}));
    let own = d.create("--log-opt max-size=1m busybox true");
    assert_eq!(
        d.inspect(&own)["HostConfig"]["LogConfig"]["Config"],
        json!({"max-file": "2", "max-size": "1m"})
    );
    let other = d.create("--log-driver none busybox true");
    assert_eq!(d.inspect(&other)["HostConfig"]["LogConfig"], json!({"Type": "none", "Config": {}}));
}

fn log_files_go_with_the_container(t: &Test) {
    let container = t.start("busybox echo hi");
    t.wait(&container);
    let path = t.inspect(&container)["LogPath"].as_str().unwrap().to_owned();
    t.host(&format!("test -s {path}")).ok();
    t.docker(&format!("rm {container}")).ok();
    assert_ne!(t.host(&format!("test -e {path}")).code, 0);
}
