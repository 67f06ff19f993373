//! testcontainers for Rust with its generic container.

use testcontainers_modules::testcontainers::core::{ExecCommand, IntoContainerPort as _, Mount, WaitFor};
use testcontainers_modules::testcontainers::runners::AsyncRunner as _;
use testcontainers_modules::testcontainers::{GenericImage, ImageExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn a_container_waits_for_its_message_and_answers_at_its_port() {
    let container = GenericImage::new("busybox", "latest")
        .with_exposed_port(8080.tcp())
        .with_wait_for(WaitFor::message_on_stdout("ready"))
        .with_env_var("GREETING", "hello")
        .with_copy_to("/www/index.html", b"from a file".to_vec())
        // The server is in the background as soon as its port is open.
        .with_cmd(["sh", "-c", "httpd -p 8080 -h /www && echo ready && exec sleep 1000"])
        .start()
        .await
        .unwrap();
    let (host, port) =
        (container.get_host().await.unwrap(), container.get_host_port_ipv4(8080).await.unwrap());
    let mut connection = tokio::net::TcpStream::connect((host.to_string(), port)).await.unwrap();
    connection.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("from a file"), "{answer}");
    let mut told = container.exec(ExecCommand::new(["sh", "-c", "echo $GREETING"])).await.unwrap();
    assert_eq!(told.stdout_to_vec().await.unwrap(), b"hello\n");
    assert!(String::from_utf8(container.stdout_to_vec().await.unwrap()).unwrap().starts_with("ready\n"));
    container.rm().await.unwrap();
}

#[tokio::test]
async fn containers_of_a_network_know_each_other() {
    let started = GenericImage::new("busybox", "latest")
        .with_cmd(["sleep", "1000"])
        .with_network("testcontainers-rust")
        .with_container_name("testcontainers-rust-server")
        .start();
    let server = started.await.unwrap();
    let client = GenericImage::new("busybox", "latest")
        .with_cmd(["sleep", "1000"])
        .with_network("testcontainers-rust")
        .with_mount(Mount::tmpfs_mount("/scratch"))
        .start()
        .await
        .unwrap();
    let ping = ["ping", "-c", "1", "-W", "5", "testcontainers-rust-server"];
    let mut pinged = client.exec(ExecCommand::new(ping)).await.unwrap();
    let output = String::from_utf8(pinged.stdout_to_vec().await.unwrap()).unwrap();
    assert!(output.contains("1 packets received"), "{output}");
    client.rm().await.unwrap();
    server.stop_with_timeout(Some(0)).await.unwrap();
    server.start().await.unwrap();
    assert!(server.is_running().await.unwrap());
    server.rm().await.unwrap();
}
