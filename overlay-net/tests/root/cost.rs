//! What things cost: a container's network must not get dearer with the number of containers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay_net::netns::{self, Netns};
use overlay_net::{HostPorts, NetworkSpec, PublishSpec};

use super::world::{Container, World, command, embedded, endpoint, in_world, named, publish, sandbox_spec};

const CONTAINERS: usize = 300;
const HUNDRED: usize = 100;

fn start(world: &World, net: &Arc<NetworkSpec>, number: usize) -> (Container, Duration) {
    let mut spec = sandbox_spec();
    let address = format!("172.20.{}.{}/16", 1 + number / 250, 2 + number % 250);
    spec.endpoints.push(named(endpoint(net, &[&address]), &[&format!("c{number}"), "all"]));
    spec.publish.push(PublishSpec { host_ports: HostPorts::Ephemeral, ..publish(80, 0) });
    spec.resolver = embedded();
    let began = Instant::now();
    let sandbox = world.host.ensure_sandbox(&spec, None).unwrap();
    (Container { spec, sandbox }, began.elapsed())
}

/// User and system time of this process with all its threads.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Set in the process that measures, which runs nothing else.
const ALONE: &str = "SHOAL_COST_ALONE";

/// Processor time is compared, in a process of its own: on a machine that does other things as well, time by the clock
/// says more about those.
#[test]
fn the_last_of_many_containers_costs_what_the_first_did() {
    if std::env::var_os(ALONE).is_some() {
        return start_and_stop_many();
    }
    let this = std::env::current_exe().unwrap();
    let name = "root::cost::the_last_of_many_containers_costs_what_the_first_did";
    let output = command(this.to_str().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads", "1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn start_and_stop_many() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |_| {});
        // The first one starts netd.
        let (warm, _) = start(world, &net, CONTAINERS + 50);
        let mut containers = Vec::new();
        let mut starts = Vec::new();
        let mut ticks = vec![cpu_ticks()];
        for number in 0..CONTAINERS {
            let (container, time) = start(world, &net, number);
            containers.push(container);
            starts.push(time);
            if (number + 1) % HUNDRED == 0 {
                ticks.push(cpu_ticks());
            }
        }
        let mut stops = Vec::new();
        for container in containers.iter().rev() {
            let began = Instant::now();
            assert!(world.host.remove_sandbox(&container.sandbox).is_empty());
            stops.push(began.elapsed());
            if stops.len().is_multiple_of(HUNDRED) {
                ticks.push(cpu_ticks());
            }
        }
        let spent: Vec<u64> = ticks.windows(2).map(|pair| pair[1] - pair[0]).collect();
        println!(
            "CPU of each hundred starts, then of each hundred stops, in ticks of 10 ms without netd: {spent:?}"
        );
        println!("start: {:?}, stop: {:?} (medians)", median(starts), median(stops));
        let hundreds = CONTAINERS / HUNDRED;
        assert!(spent[hundreds - 1] <= spent[0] * 2 + 5, "starts got dearer: {spent:?}");
        assert!(spent[hundreds] <= spent[2 * hundreds - 1] * 2 + 5, "stops are dearer among many: {spent:?}");
        assert!(world.host.remove_sandbox(&warm.sandbox).is_empty());
    });
}

#[test]
fn the_phases_of_a_start_are_known() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |_| {});
        let (warm, _) = start(world, &net, 0);
        let rounds = 40;
        let measure = |name: &str, with: &dyn Fn(&mut overlay_net::SandboxSpec)| {
            let mut starts = Vec::new();
            let mut stops = Vec::new();
            for _ in 0..rounds {
                let mut spec = sandbox_spec();
                with(&mut spec);
                let began = Instant::now();
                let sandbox = world.host.ensure_sandbox(&spec, None).unwrap();
                starts.push(began.elapsed());
                let began = Instant::now();
                assert!(world.host.remove_sandbox(&sandbox).is_empty());
                stops.push(began.elapsed());
            }
            println!("{name}: start {:?}, stop {:?}", median(starts), median(stops));
        };
        let mut bare = Vec::new();
        for number in 0..rounds {
            let path = world.dir.path().join(format!("bare{number}"));
            let began = Instant::now();
            Netns::create(&path, |_| Ok(())).unwrap();
            bare.push(began.elapsed());
            netns::remove(&path).unwrap();
        }
        println!("namespace alone: {:?}", median(bare));
        measure("sandbox without network", &|_| {});
        measure("one endpoint", &|spec| spec.endpoints.push(endpoint(&net, &["172.20.0.9/16"])));
        measure("one endpoint, one port", &|spec| {
            spec.endpoints.push(endpoint(&net, &["172.20.0.9/16"]));
            spec.publish.push(publish(80, 8080));
        });
        measure("one endpoint, names", &|spec| {
            spec.endpoints.push(named(endpoint(&net, &["172.20.0.9/16"]), &["x"]));
            spec.resolver = embedded();
        });
        measure("one endpoint, one port, names", &|spec| {
            spec.endpoints.push(named(endpoint(&net, &["172.20.0.9/16"]), &["x"]));
            spec.publish.push(publish(80, 8080));
            spec.resolver = embedded();
        });
        assert!(world.host.remove_sandbox(&warm.sandbox).is_empty());
    });
}
