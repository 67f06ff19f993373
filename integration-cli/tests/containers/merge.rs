//! How the image's configuration and the request become the container's.

use integration_cli::images::Image;
use integration_cli::{Container, Test, cases};
use serde_json::{Value, json};

cases![
    everything_comes_from_the_image_when_nothing_is_asked,
    a_command_replaces_the_image_command_and_keeps_the_entrypoint,
    an_entrypoint_drops_the_image_command,
    an_empty_entrypoint_resets_the_image_entrypoint,
    a_list_with_one_empty_string_resets_the_image_entrypoint,
    environment_is_merged_by_key,
    labels_and_exposed_ports_are_united_and_the_container_wins,
    user_workdir_and_stop_signal_may_be_replaced,
    health_is_merged_field_by_field,
    path_and_args_show_what_will_be_executed,
    a_missing_working_directory_is_created,
    the_image_volume_becomes_an_anonymous_volume,
];

/// The image under test: everything an image can bring is set.
fn image(t: &Test) -> String {
    let name = t.name("full");
    let config = json!({
        "Env": ["PATH=/bin", "COLOUR=red", "SHAPE=round"],
        "Entrypoint": ["echo", "from-image"],
        "Cmd": ["image-cmd"],
        "WorkingDir": "/work/deep",
        "User": "alice",
        "Labels": {"origin": "image", "kept": "yes"},
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGINT",
        "Volumes": {"/data": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 60_000_000_000_i64, "Retries": 7},
    });
    t.load(&[Image::on_busybox(&format!("{name}:latest"), &config, &[])]);
    name
}

fn config(t: &Test, container: &Container) -> Value {
    t.inspect(container)["Config"].clone()
}

fn everything_comes_from_the_image_when_nothing_is_asked(t: &Test) {
    let image = image(t);
    let container = t.create_json(&json!({"Image": image}));
    let config = config(t, &container);
    assert_eq!(config["Entrypoint"], json!(["echo", "from-image"]));
    assert_eq!(config["Cmd"], json!(["image-cmd"]));
    assert_eq!(config["Env"], json!(["PATH=/bin", "COLOUR=red", "SHAPE=round"]));
    assert_eq!(config["WorkingDir"], "/work/deep");
    assert_eq!(config["User"], "alice");
    assert_eq!(config["Labels"], json!({"origin": "image", "kept": "yes"}));
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    assert_eq!(config["Image"], image.as_str());
    assert_eq!(t.run(&image).ok(), "from-image image-cmd");
}

fn a_command_replaces_the_image_command_and_keeps_the_entrypoint(t: &Test) {
    let image = image(t);
    assert_eq!(t.run(&format!("{image} given")).ok(), "from-image given");
    let container = t.create(&format!("{image} given"));
    assert_eq!(config(t, &container)["Entrypoint"], json!(["echo", "from-image"]));
    assert_eq!(config(t, &container)["Cmd"], json!(["given"]));
}

fn an_entrypoint_drops_the_image_command(t: &Test) {
    let image = image(t);
    let container = t.create(&format!("--entrypoint pwd {image}"));
    assert_eq!(config(t, &container)["Entrypoint"], json!(["pwd"]));
    assert_eq!(config(t, &container)["Cmd"], Value::Null);
    assert_eq!(t.run(&format!("--entrypoint pwd {image}")).ok(), "/work/deep");
    assert_eq!(t.run(&format!("--entrypoint echo {image} one two")).ok(), "one two");
}

fn an_empty_entrypoint_resets_the_image_entrypoint(t: &Test) {
    let image = image(t);
    assert_eq!(t.docker_args(&["run", "--rm", "--entrypoint", "", &image, "echo", "alone"]).ok(), "alone");
}

fn a_list_with_one_empty_string_resets_the_image_entrypoint(t: &Test) {
    let image = image(t);
    let container = t.create_json(&json!({"Image": image, "Entrypoint": [""], "Cmd": ["echo", "alone"]}));
    let inspected = t.inspect(&container);
    assert_eq!(inspected["Path"], "echo");
    assert_eq!(inspected["Args"], json!(["alone"]));
    assert_eq!(inspected["Config"]["Entrypoint"], Value::Null);
}

fn environment_is_merged_by_key(t: &Test) {
    let image = image(t);
    let shown = t.run(&format!("-e COLOUR=blue -e NEW=1 -e EMPTY= --entrypoint env {image}")).ok();
    let has = |line: &str| shown.lines().any(|shown| shown == line);
    assert!(has("COLOUR=blue") && !has("COLOUR=red"), "{shown}");
    assert!(has("SHAPE=round") && has("NEW=1") && has("EMPTY=") && has("PATH=/bin"), "{shown}");
    assert!(has("HOME=/home/alice"), "{shown}");
    let container = t.create_json(&json!({"Image": image, "Env": ["COLOUR=blue", "NEW=1"]}));
    let env = config(t, &container)["Env"].clone();
    assert_eq!(env, json!(["COLOUR=blue", "NEW=1", "PATH=/bin", "SHAPE=round"]));
}

fn labels_and_exposed_ports_are_united_and_the_container_wins(t: &Test) {
    let image = image(t);
    let container = t.create(&format!("--label origin=container --label own=1 --expose 90/udp {image}"));
    let config = config(t, &container);
    assert_eq!(config["Labels"], json!({"origin": "container", "kept": "yes", "own": "1"}));
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}, "90/udp": {}}));
}

fn user_workdir_and_stop_signal_may_be_replaced(t: &Test) {
    let image = image(t);
    let script = "--user 7:8 --workdir /tmp --stop-signal SIGUSR1 --entrypoint sh";
    let shown = t.run(&format!("{script} {image} -c 'id -u; id -g; pwd'")).ok();
    assert_eq!(shown, "7\n8\n/tmp");
    let container = t.create(&format!("{script} {image}"));
    assert_eq!(config(t, &container)["StopSignal"], "SIGUSR1");
}

fn health_is_merged_field_by_field(t: &Test) {
    let image = image(t);
    let container = t.create(&format!("--health-timeout 9s {image}"));
    let health = config(t, &container)["Healthcheck"].clone();
    assert_eq!(health["Test"], json!(["CMD", "true"]));
    assert_eq!(health["Interval"], 60_000_000_000_i64);
    assert_eq!(health["Timeout"], 9_000_000_000_i64);
    assert_eq!(health["Retries"], 7);
    let container = t.create(&format!("--no-healthcheck {image}"));
    assert_eq!(config(t, &container)["Healthcheck"]["Test"], json!(["NONE"]));
}

fn path_and_args_show_what_will_be_executed(t: &Test) {
    let image = image(t);
    let container = t.create(&format!("{image} 'two words' b"));
    let inspected = t.inspect(&container);
    assert_eq!(inspected["Path"], "echo");
    assert_eq!(inspected["Args"], json!(["from-image", "two words", "b"]));
    let plain = t.inspect(&t.create("busybox true"));
    assert_eq!(plain["Path"], "true");
    assert_eq!(plain["Args"], json!([]));
}

fn a_missing_working_directory_is_created(t: &Test) {
    let shown = t.run("--workdir /not/there/yet busybox sh -c 'pwd; stat -c %a:%u /not/there/yet'").ok();
    assert_eq!(shown, "/not/there/yet\n755:0");
    let bad = t.create_raw(&json!({"Image": "busybox", "WorkingDir": "relative"}));
    bad.expect_error(400, "the working directory 'relative' is invalid, it needs to be an absolute path");
}

fn the_image_volume_becomes_an_anonymous_volume(t: &Test) {
    let image = image(t);
    let container = t.create(&image);
    let mounts = t.inspect(&container)["Mounts"].clone();
    assert_eq!(mounts.as_array().unwrap().len(), 1);
    assert_eq!(mounts[0]["Type"], "volume");
    assert_eq!(mounts[0]["Destination"], "/data");
    assert_eq!(mounts[0]["Name"].as_str().unwrap().len(), 64);
    // A mount of the test's own takes its place.
    let directory = t.directory("own");
    let container = t.create(&format!("-v {}:/data {image}", directory.display()));
    let mounts = t.inspect(&container)["Mounts"].clone();
    assert_eq!(mounts.as_array().unwrap().len(), 1);
    assert_eq!(mounts[0]["Type"], "bind");
}
