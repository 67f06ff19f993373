//! Restarts, crashes and what they leave.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use overlay_net::{Desired, HostPorts, NetError, PublishSpec};

use super::packets::{Place, assert_no_tcp, serve_in, tcp};
use super::world::{Container, NODE, World, bridge_of, embedded, endpoint, in_world, ip, named, publish};

fn desired(networks: &[&std::sync::Arc<overlay_net::NetworkSpec>], containers: &[&Container]) -> Desired {
    Desired {
        networks: networks.iter().map(|&network| std::sync::Arc::clone(network)).collect(),
        sandboxes: containers.iter().map(|c| (c.spec.clone(), c.sandbox.clone())).collect(),
    }
}

fn web(world: &World) -> (std::sync::Arc<overlay_net::NetworkSpec>, Container) {
    let net = world.network("net", &["172.20.0.0/16"], |_| {});
    let web = world.container_with(&[], |spec| {
        spec.endpoints.push(named(endpoint(&net, &["172.20.0.2/16"]), &["web"]));
        spec.publish.push(publish(80, 8080));
        spec.resolver = embedded();
    });
    serve_in(&web, 80, "web");
    (net, web)
}

fn resolves(container: &Container) -> bool {
    let socket = container.netns().run(|| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    // A query for the address of "web".
    let query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";
    let mut reply = [0; 512];
    socket.send_to(query, "127.0.0.11:53").is_ok()
        && socket.recv(&mut reply).is_ok_and(|n| reply[..n].ends_with(&[172, 20, 0, 2]))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        // The kernel announces none of these conditions.
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_restarted_daemon_finds_everything_working_and_changes_nothing() {
    in_world(|world| {
        let (net, web) = web(world);
        let started = world.netd.lock().unwrap().len();
        let restarted = world.restarted();
        // Between the death of one daemon and the start of the next.
        assert!(resolves(&web));
        assert!(tcp(Place::Node, "[::1]:8080").unwrap().starts_with("web "));
        assert!(TcpListener::bind("0.0.0.0:8080").is_err());
        let report = restarted.restore(&desired(&[&net], &[&web]));
        assert!(
            report.errors.is_empty() && report.lost.is_empty() && report.removed.is_empty(),
            "{report:?}"
        );
        assert_eq!(world.netd.lock().unwrap().len(), started, "the same netd goes on");
        assert!(resolves(&web));
        // The new daemon knows which ports are taken, and can take the container down.
        let mut spec = super::world::sandbox_spec();
        spec.endpoints.push(endpoint(&net, &["172.20.0.3/16"]));
        spec.publish.push(publish(80, 8080));
        assert!(matches!(restarted.ensure_sandbox(&spec, None), Err(NetError::PortAllocated { .. })));
        assert!(restarted.remove_sandbox(&web.sandbox).is_empty());
        assert_no_tcp(Place::Node, "127.0.0.1:8080");
        drop(TcpListener::bind("0.0.0.0:8080").unwrap());
        restarted.ensure_sandbox(&spec, None).unwrap();
    });
}

#[test]
fn a_dead_netd_is_noticed_and_replaced() {
    in_world(|world| {
        let (_net, web) = web(world);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let closed = world.host.netd_closed();
            let kill = async {
                // Whether the watcher waits already cannot be seen; either order must work.
                tokio::time::sleep(Duration::from_millis(50)).await;
                world.kill_netd();
            };
            let both = async { tokio::join!(closed, kill) };
            tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
        });
        assert!(!resolves(&web));
        // The kernel's part does not need netd.
        assert!(tcp(Place::Node, "127.0.0.1:8080").unwrap().starts_with("web "));
        world.host.repair_netd().unwrap();
        assert!(resolves(&web));
        assert!(tcp(Place::Node, "[::1]:8080").unwrap().starts_with("web "));
        // A death that nobody noticed is repaired by the next request.
        world.kill_netd();
        let net = &web.spec.endpoints[0].network;
        let other = world.container_with(&[(net, &["172.20.0.3/16"])], |spec| {
            spec.publish.push(PublishSpec { host_ports: HostPorts::Ephemeral, ..publish(80, 0) });
        });
        assert_eq!(other.sandbox.published.len(), 2);
        assert!(resolves(&web));
    });
}

#[test]
fn interfaces_do_not_outlive_their_container_with_a_connection_that_has_data_left() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |_| {});
        let container = world.container(&[(&net, &["172.20.0.2/16"])]);
        let listener = container.netns().run(|| TcpListener::bind("172.20.0.2:80").unwrap()).unwrap();
        let _reads_nothing = TcpStream::connect("172.20.0.2:80").unwrap();
        let (mut sender, _) = listener.accept().unwrap();
        sender.set_nonblocking(true).unwrap();
        while sender.write(&[0; 65536]).is_ok() {}
        assert!(world.host.remove_sandbox(&container.sandbox).is_empty());
        drop((listener, sender));
        let interface = container.sandbox.endpoints[0].host_ifname.as_ref().unwrap().to_string();
        // The kernel keeps the namespace until it gives up sending, which takes minutes.
        assert!(ip("-o link show").contains(&interface));
        world.host.sweep().unwrap();
        assert!(!ip("-o link show").contains(&interface));
        world.host.sweep().unwrap();
    });
}

/// Plays a netd of another version: says so, and takes its time to end when told to.
fn serve_as_another_version(listener: &UnixListener, lock: std::fs::File) {
    let (mut stream, _) = listener.accept().unwrap();
    for reply in [r#"{"Hello":{"version":0,"pid":1}}"#, r#""Stopping""#] {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        stream.read_exact(&mut vec![0; u32::from_le_bytes(length) as usize]).unwrap();
        stream.write_all(&u32::try_from(reply.len()).unwrap().to_le_bytes()).unwrap();
        stream.write_all(reply.as_bytes()).unwrap();
    }
    // The slowness is the point: the next one finds the lock taken.
    std::thread::sleep(Duration::from_millis(200));
    drop(lock);
}

#[test]
fn a_netd_of_another_version_is_replaced() {
    in_world(|world| {
        let socket = world.dir.path().join("netd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let lock = std::fs::File::create(socket.with_extension("lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || serve_as_another_version(&listener, lock));
            let (_net, web) = web(world);
            assert!(resolves(&web));
        });
    });
}

#[test]
fn netd_ends_when_there_is_nothing_to_do_and_comes_back_when_there_is() {
    in_world(|world| {
        let (net, web) = web(world);
        let listening =
            || std::os::unix::net::UnixStream::connect(world.dir.path().join("netd.sock")).is_ok();
        // With work it stays, whether or not a daemon is connected.
        let daemon = world.restarted();
        assert!(daemon.restore(&desired(&[&net], &[&web])).errors.is_empty());
        drop(daemon);
        // Something must not happen for longer than netd's patience.
        std::thread::sleep(Duration::from_millis(200));
        assert!(listening() && resolves(&web));
        // Without work it stays for as long as a daemon is connected, and no longer.
        assert!(world.host.remove_sandbox(&web.sandbox).is_empty());
        // Again, something must not happen.
        std::thread::sleep(Duration::from_millis(200));
        assert!(listening());
        world.host.restore(&Desired { networks: vec![net], sandboxes: Vec::new() });
        world.host.leave_netd();
        wait_until("netd has ended", || !listening());
        let again = world.host.ensure_sandbox(&web.spec, None).unwrap();
        assert!(resolves(&web));
        assert_eq!(again.published, web.sandbox.published);
    });
}

#[test]
fn containers_may_start_and_stop_all_at_once() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |_| {});
        let start = |thread: u8, number: u8| {
            let mut spec = super::world::sandbox_spec();
            let address = format!("172.20.{thread}.{}/16", number + 1);
            spec.endpoints.push(named(endpoint(&net, &[&address]), &["all"]));
            spec.publish.push(PublishSpec { host_ports: HostPorts::Ephemeral, ..publish(80, 0) });
            spec.resolver = embedded();
            world.host.ensure_sandbox(&spec, None).unwrap()
        };
        let begin = Instant::now();
        let sandboxes: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..=8)
                .map(|thread| scope.spawn(move || (0..10).map(|n| start(thread, n)).collect::<Vec<_>>()))
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        println!("80 starts by 8 workers: {:?}", begin.elapsed());
        let ports: std::collections::BTreeSet<u16> =
            sandboxes.iter().map(|sandbox| sandbox.published[0].host.unwrap().port()).collect();
        assert_eq!(ports.len(), 80, "every container has a port of its own");
        std::thread::scope(|scope| {
            for chunk in sandboxes.chunks(10) {
                scope.spawn(move || {
                    chunk.iter().for_each(|s| assert!(world.host.remove_sandbox(s).is_empty()));
                });
            }
        });
        assert!(!super::world::run("nft", "list map ip shoal published_any").contains("elements"));
    });
}

#[test]
fn leftovers_of_a_killed_daemon_are_removed_and_nothing_else() {
    in_world(|world| {
        let (net, web) = web(world);
        let stray_net = world.network("stray", &["172.21.0.0/16"], |_| {});
        let stray = world.container_with(&[], |spec| {
            spec.endpoints.push(named(endpoint(&stray_net, &["172.21.0.2/16"]), &["stray"]));
            spec.publish.push(publish(80, 9090));
            spec.resolver = embedded();
        });
        ip("link add users type bridge");
        ip("link add vethusers type veth peer name vethpeer");
        // What was half made: a pin without a namespace behind it.
        std::fs::write(world.dir.path().join("netns/halfmade"), "").unwrap();
        let report = world.restarted().restore(&desired(&[&net], &[&web]));
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert!(
            report.removed.iter().any(|what| what == &format!("bridge {}", bridge_of(&stray_net))),
            "{report:?}"
        );
        let pins = || std::fs::read_dir(world.dir.path().join("netns")).unwrap().count();
        assert_eq!(pins(), 1);
        let stray_end = stray.sandbox.endpoints[0].host_ifname.clone().unwrap();
        wait_until("the stray interface is gone", || !ip("-o link").contains(stray_end.as_str()));
        let links = ip("-o link");
        for kept in ["users", "vethusers", &bridge_of(&net)] {
            assert!(links.contains(kept), "{kept} in {links}");
        }
        drop(TcpListener::bind("0.0.0.0:9090").unwrap());
        assert!(resolves(&web));
        assert!(tcp(Place::Inside(&world.neighbour), &format!("{NODE}:8080")).unwrap().starts_with("web "));
        let again = world.restarted().restore(&desired(&[&net], &[&web]));
        assert!(again.removed.is_empty() && again.errors.is_empty(), "{again:?}");
    });
}

#[test]
fn a_reboot_is_told_by_the_missing_namespaces() {
    in_world(|world| {
        let (net, web) = web(world);
        overlay_net::netns::remove(web.sandbox.netns.as_ref().unwrap()).unwrap();
        let report = world.restarted().restore(&desired(&[&net], &[&web]));
        assert_eq!(report.lost, [web.sandbox.id]);
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        drop(TcpListener::bind("0.0.0.0:8080").unwrap());
    });
}

#[test]
fn every_step_can_be_repeated() {
    in_world(|world| {
        let (net, web) = web(world);
        world.host.ensure_network(&net).unwrap();
        world.host.ensure_network(&net).unwrap();
        let again = world.host.ensure_sandbox(&web.spec, Some(&web.sandbox)).unwrap();
        assert_eq!(again, web.sandbox);
        for _ in 0..2 {
            assert!(world.host.remove_sandbox(&web.sandbox).is_empty());
        }
        for _ in 0..2 {
            assert!(world.host.remove_network(&net).is_empty());
        }
        // The same endpoint may come back at once, while the kernel still takes its former interface apart.
        world.host.ensure_network(&net).unwrap();
        for _ in 0..3 {
            let sandbox = world.host.ensure_sandbox(&web.spec, None).unwrap();
            assert!(world.host.remove_sandbox(&sandbox).is_empty());
        }
    });
}

#[test]
fn a_failed_start_leaves_nothing() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |_| {});
        let links = || ip("-o link").lines().count();
        let before = links();
        let mut spec = super::world::sandbox_spec();
        spec.endpoints.push(endpoint(&net, &["172.20.0.2/16"]));
        spec.sysctls.push(("net.no.such.setting".to_owned(), "1".to_owned()));
        let error = world.host.ensure_sandbox(&spec, None).unwrap_err();
        assert_eq!(error.to_string(), "set sysctl net.no.such.setting=1");
        spec.sysctls.clear();
        spec.endpoints[0].sysctls.push("net.ipv4.conf.IFNAME.nothing=1".to_owned());
        world.host.ensure_sandbox(&spec, None).unwrap_err();
        assert_eq!(std::fs::read_dir(world.dir.path().join("netns")).unwrap().count(), 0);
        wait_until("interfaces of the failed start are gone", || links() == before);
        spec.endpoints[0].sysctls.clear();
        world.host.ensure_sandbox(&spec, None).unwrap();
    });
}

#[test]
fn occupied_ranges_are_the_hosts_routes_without_the_default_one() {
    in_world(|world| {
        ip("route add default via 192.0.2.9");
        ip("route add 10.50.0.0/16 via 192.0.2.9");
        world.network("net", &["172.20.0.0/16"], |_| {});
        let occupied = world.host.occupied().unwrap();
        let has = |net: &str| occupied.contains(&net.parse().unwrap());
        assert!(has("10.50.0.0/16") && has("192.0.2.0/24") && has("172.20.0.0/16"), "{occupied:?}");
        assert!(!occupied.iter().any(|net| net.prefix_len() == 0), "{occupied:?}");
    });
}
