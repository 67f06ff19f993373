//! testcontainers' modules for PostgreSQL and Redis, on the images that `databases/make.sh` makes.
//!
//! Start reading at [`has_images`]: without them the cases say so and do nothing. Clients are spoken to by hand, so that no
//! driver has to be built.

use testcontainers_modules::testcontainers::core::ExecCommand;
use testcontainers_modules::testcontainers::runners::AsyncRunner as _;
use testcontainers_modules::testcontainers::{ContainerAsync, Image, ImageExt as _};
use testcontainers_modules::{postgres::Postgres, redis::Redis};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn has_images() -> bool {
    let has_images = std::env::var_os("SHOAL_DATABASES").is_some();
    if !has_images {
        eprintln!("SKIPPED: there are no images of databases");
    }
    has_images
}

async fn output<I: Image>(container: &ContainerAsync<I>, command: &[&str]) -> String {
    let mut done = container.exec(ExecCommand::new(command.iter().copied())).await.unwrap();
    String::from_utf8(done.stdout_to_vec().await.unwrap()).unwrap()
}

#[tokio::test]
async fn postgresql_keeps_what_was_written() {
    if !has_images() {
        return;
    }
    let module = Postgres::default().with_user("shoal").with_password("secret").with_db_name("fish");
    let server = module.with_tag("15").start().await.unwrap();
    assert!(server.get_host_port_ipv4(5432).await.unwrap() > 0);
    let ask = |sql: &'static str| {
        ["psql", "-h", "127.0.0.1", "-tA", "postgresql://shoal:secret@127.0.0.1/fish", "-c", sql]
    };
    output(&server, &ask("create table catch (name text)")).await;
    output(&server, &ask("insert into catch values ('herring')")).await;
    assert_eq!(output(&server, &ask("select name from catch")).await, "herring\n");
    server.rm().await.unwrap();
}

#[tokio::test]
async fn redis_answers_at_its_port() {
    if !has_images() {
        return;
    }
    let server = Redis::default().with_tag("7").start().await.unwrap();
    let (host, port) = (server.get_host().await.unwrap(), server.get_host_port_ipv4(6379).await.unwrap());
    let mut connection = tokio::net::TcpStream::connect((host.to_string(), port)).await.unwrap();
    connection.write_all(b"SET catch herring\r\nGET catch\r\nQUIT\r\n").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "+OK\r\n$7\r\nherring\r\n+OK\r\n");
    server.rm().await.unwrap();
}
