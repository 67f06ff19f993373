//! What things cost: a container's network must not get dearer with the number of containers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay_net::netns::{self, Netns};
use overlay_net::{HostPorts, NetworkSpec, PublishSpec};

use super::world::{Container, World, embedded, endpoint, in_world, named, publish, sandbox_spec};

const CONTAINERS: usize = 300;
const SAMPLE: usize = 20;

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

/// The best of several: what the work costs, without what the machine did at the same time.
fn best(times: &[Duration]) -> Duration {
    times.iter().copied().min().unwrap()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn the_last_of_many_containers_costs_what_the_first_did() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |_| {});
        // The first one starts netd.
        let (warm, _) = start(world, &net, CONTAINERS + 50);
        let mut containers = Vec::new();
        let mut starts = Vec::new();
        let mut ticks = vec![cpu_ticks()];
        for number in 0..CONTAINERS {
            if number > 0 && number % 100 == 0 {
                ticks.push(cpu_ticks());
            }
            let (container, time) = start(world, &net, number);
            containers.push(container);
            starts.push(time);
        }
        ticks.push(cpu_ticks());
        let spent: Vec<u64> = ticks.windows(2).map(|pair| pair[1] - pair[0]).collect();
        println!("CPU for each hundred starts, in ticks of 10 ms, netd not counted: {spent:?}");
        let (first, last) =
            (median(starts[..SAMPLE].to_vec()), median(starts[CONTAINERS - SAMPLE..].to_vec()));
        let mut stops = Vec::new();
        for container in containers.iter().rev() {
            let began = Instant::now();
            assert!(world.host.remove_sandbox(&container.sandbox).is_empty());
            stops.push(began.elapsed());
        }
        let (full, empty) = (best(&stops[..SAMPLE]), best(&stops[CONTAINERS - SAMPLE..]));
        println!("start: first {SAMPLE} {first:?}, last {SAMPLE} of {CONTAINERS} {last:?}");
        println!("stop: with {CONTAINERS} {full:?}, with few {empty:?}");
        // The room is for a busy machine, where each hand-over between threads may wait for a turn. A cost of 0.1 ms
        // for each container that is there already would still be seen.
        assert!(last < first * 2 + Duration::from_millis(10), "start went from {first:?} to {last:?}");
        assert!(full < empty * 2 + Duration::from_millis(10), "stop went from {empty:?} to {full:?}");
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
