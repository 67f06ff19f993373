//! What the kernel alone takes for the parts of a container's life: the limit that no engine can beat.
//!
//! Start reading at [`run`], then [`one_container`], which does all of it for one program. No engine is involved. Namespaces are
//! made in threads of their own and end with them.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};

use super::cases::logs;
use super::http::Address;
use super::load::load;
use super::netlink::Netlink;
use super::rounds::Bench;
use super::runtimes::{self, Bundle};
use super::samples::{Clock, Milliseconds};
use super::{accounting, fixtures, program};

/// Layers of the overlay, as an image of moderate size has.
const LAYERS: usize = 8;
const BRIDGE: &str = "floor0";

/// Measures every floor a number of times.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let place = Place::prepare(&bench.options().directory)?;
    let busybox = place.layer(0).join("bin/busybox");
    let home = ours(&in_thread(new_namespace)?)?;
    let floors: [(&str, &(dyn Fn() -> Result<Milliseconds> + Sync)); 10] = [
        ("floor.spawn", &|| timed(|| spawn(&busybox))),
        ("floor.namespaces", &|| {
            in_thread(|| {
                timed(|| {
                    unshare(namespaces() | CloneFlags::CLONE_NEWNET)?;
                    spawn(&busybox)
                })
            })
        }),
        ("floor.mount", &|| in_thread(|| Ok(place.overlay()?.0))),
        ("floor.unmount", &|| in_thread(|| Ok(place.overlay()?.1))),
        ("floor.veth", &|| in_thread(|| Ok(veth(&home)?.0))),
        ("floor.veth.delete", &|| in_thread(|| Ok(veth(&home)?.1))),
        ("floor.cgroup", &|| timed(cgroups)),
        ("floor.container", &|| in_thread(|| timed(|| one_container(&place, &home)))),
        ("floor.append", &|| timed(|| place.append())),
        ("floor.replace", &|| timed(|| place.replace())),
    ];
    let count = bench.scaled(40, 5);
    // In turns, like engines: the first two rounds warm up.
    for round in 0..count + 2 {
        for (name, floor) in floors {
            let took = floor().with_context(|| format!("measure {name}"))?;
            if round >= 2 {
                bench.record_floor(name, round, took)?;
            }
        }
    }
    measure_runtimes(bench, &place)?;
    for round in 0..3 {
        bench.record_floor("floor.pipe", round, pipe(&busybox)?)?;
        let rate = ping(&place.root.join("ping.sock"), bench.lasting(1.0))?;
        bench.record_floor("floor.ping", round, rate)?;
    }
    Ok(())
}

/// Each runtime in turn. One that fails is left out: not every machine can run every runtime.
fn measure_runtimes(bench: &mut Bench<'_>, place: &Place) -> Result<()> {
    let bundle = Bundle::prepare(&place.root, &place.layer(0))?;
    let shoald = bench.options().shoald.clone();
    let mut live = runtimes::available(shoald.as_deref());
    for round in 0..bench.scaled(20, 3) {
        if let Some(program) = &shoald {
            bench.record_floor("floor.shoald", round, bundle.spawn(program)?)?;
        }
        let mut failed = Vec::new();
        for runtime in &live {
            match in_thread(|| bundle.run(runtime)) {
                Ok(took) => bench.record_floor(runtime.floor, round, took)?,
                Err(error) => {
                    bench.note(&format!("{} is left out: {error:#}", runtime.floor));
                    failed.push(runtime.floor);
                }
            }
        }
        live.retain(|runtime| !failed.contains(&runtime.floor));
    }
    Ok(())
}

/// What the case of the crowd compares engines with: the kernel's own cost of a beginning, which grows with the machine's load.
pub(super) struct Beginning {
    home: Network,
    busybox: PathBuf,
}

impl Beginning {
    /// Makes a bridge of its own; it goes with this.
    pub(super) fn prepare(bench: &Bench<'_>) -> Result<Self> {
        let place = Place::prepare(&bench.options().directory)?;
        let home = ours(&in_thread(new_namespace)?)?;
        Ok(Self { home, busybox: place.layer(0).join("bin/busybox") })
    }

    /// Namespaces, an interface at the bridge and a program in them, as [`one_container`] has them.
    pub(super) fn once(&self) -> Result<Milliseconds> {
        in_thread(|| {
            let mut clock = Clock::start();
            self.home.attach()?;
            unshare(namespaces())?;
            spawn(&self.busybox)?;
            let began = clock.lap();
            self.home.detach()?;
            Ok(began)
        })
    }
}

/// All that the kernel must do for one container: directories, network, control groups, namespaces, mount, program, and the end
/// of each.
fn one_container(place: &Place, home: &Network) -> Result<()> {
    home.attach()?;
    let groups = make_groups()?;
    unshare(namespaces())?;
    let merged = place.mount_overlay()?;
    spawn(&merged.join("bin/busybox"))?;
    place.unmount_overlay()?;
    remove_groups(&groups)?;
    home.detach()
}

/// All but the network, which is made first and apart.
fn namespaces() -> CloneFlags {
    CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWCGROUP
}

fn timed(act: impl FnOnce() -> Result<()>) -> Result<Milliseconds> {
    let mut clock = Clock::start();
    act()?;
    Ok(clock.lap())
}

/// What is unshared in there is gone when this returns.
fn in_thread<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(act).join().unwrap_or_else(|_| bail!("a floor panicked")))
}

fn spawn(busybox: &Path) -> Result<()> {
    let mut command = program::command(busybox, ["true"]);
    let status = command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).status();
    ensure!(status.context("start busybox")?.success(), "busybox failed");
    Ok(())
}

/// Directories for overlays and files.
struct Place {
    root: PathBuf,
}

impl Place {
    fn prepare(directory: &Path) -> Result<Self> {
        let place = Self { root: directory.join("floors") };
        for layer in 0..LAYERS {
            fs::create_dir_all(place.layer(layer))?;
        }
        let archive = fixtures::box_archive(directory)?.display().to_string();
        program::run("tar", &["-C", &place.layer(0).display().to_string(), "-xf", &archive])?;
        Ok(place)
    }

    fn layer(&self, number: usize) -> PathBuf {
        self.root.join(format!("layer{number}"))
    }

    /// How long mounting and unmounting take.
    fn overlay(&self) -> Result<(Milliseconds, Milliseconds)> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let mut clock = Clock::start();
        self.mount_overlay()?;
        let mounted = clock.lap();
        self.unmount_overlay()?;
        Ok((mounted, clock.lap()))
    }

    fn mount_overlay(&self) -> Result<PathBuf> {
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)?;
        let [upper, work, merged] = self.overlay_directories();
        for directory in [&upper, &work, &merged] {
            fs::create_dir_all(directory)?;
        }
        let layers: Vec<_> = (0..LAYERS).map(|number| self.layer(number).display().to_string()).collect();
        let options =
            format!("lowerdir={},upperdir={},workdir={}", layers.join(":"), upper.display(), work.display());
        let overlay = Some("overlay");
        mount(overlay, &merged, overlay, MsFlags::empty(), Some(options.as_str()))
            .context("mount an overlay")?;
        Ok(merged)
    }

    fn unmount_overlay(&self) -> Result<()> {
        let [upper, work, merged] = self.overlay_directories();
        umount2(&merged, MntFlags::empty())?;
        for directory in [&upper, &work, &merged] {
            fs::remove_dir_all(directory)?;
        }
        Ok(())
    }

    fn overlay_directories(&self) -> [PathBuf; 3] {
        ["upper", "work", "merged"].map(|name| self.root.join(name))
    }

    fn append(&self) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(self.root.join("appended"))?;
        file.write_all(&[b'x'; 4096])?;
        Ok(file.sync_data()?)
    }

    /// New file, fsync, rename, fsync of the directory.
    fn replace(&self) -> Result<()> {
        let (new, old) = (self.root.join("replaced.new"), self.root.join("replaced"));
        let mut file = File::create(&new)?;
        file.write_all(&[b'x'; 4096])?;
        file.sync_all()?;
        fs::rename(&new, &old)?;
        Ok(File::open(&self.root)?.sync_all()?)
    }
}

/// A namespace with a bridge, which stands for the host's.
struct Network {
    home: File,
    bridge: u32,
}

fn new_namespace() -> Result<File> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    Ok(File::open("/proc/thread-self/ns/net")?)
}

fn ours(home: &File) -> Result<Network> {
    let home = home.try_clone()?;
    in_thread(|| {
        setns(&home, CloneFlags::CLONE_NEWNET)?;
        Netlink::open()?.bridge(BRIDGE)?;
        Ok(Network { bridge: if_nametoindex(BRIDGE)?, home: home.try_clone()? })
    })
}

impl Network {
    /// Puts the calling thread into a new namespace with an interface at the bridge.
    fn attach(&self) -> Result<()> {
        let inside = new_namespace()?;
        setns(&self.home, CloneFlags::CLONE_NEWNET)?;
        Netlink::open()?.veth("floorveth", self.bridge, "eth0", inside.as_raw_fd())?;
        setns(&inside, CloneFlags::CLONE_NEWNET)?;
        let (netlink, eth0) = (Netlink::open()?, if_nametoindex("eth0")?);
        netlink.up(1)?;
        netlink.up(eth0)?;
        netlink.address(eth0, [10, 77, 0, 2])?;
        netlink.default_route([10, 77, 0, 1])
    }

    fn detach(&self) -> Result<()> {
        // A namespace that nobody holds takes the pair along at a time of the kernel's own, which may be before us.
        let _inside = File::open("/proc/thread-self/ns/net")?;
        setns(&self.home, CloneFlags::CLONE_NEWNET)?;
        Netlink::open()?.delete(if_nametoindex("floorveth")?)
    }
}

/// How long making and removing an interface take.
fn veth(home: &Network) -> Result<(Milliseconds, Milliseconds)> {
    let mut clock = Clock::start();
    home.attach()?;
    let attached = clock.lap();
    home.detach()?;
    Ok((attached, clock.lap()))
}

fn cgroups() -> Result<()> {
    remove_groups(&make_groups()?)
}

fn make_groups() -> Result<Vec<PathBuf>> {
    let all = accounting::hierarchies()?.into_iter().map(|top| top.join(accounting::TOP).join("floor"));
    all.map(|group| fs::create_dir_all(&group).map(|()| group))
        .collect::<std::io::Result<_>>()
        .context("make groups")
}

fn remove_groups(groups: &[PathBuf]) -> Result<()> {
    groups.iter().try_for_each(fs::remove_dir).context("remove groups")
}

/// Megabytes a second that a reader gets of what the log case writes.
fn pipe(busybox: &Path) -> Result<f64> {
    let mut command = program::command(busybox, ["sh", "-c", &logs::script()]);
    let mut clock = Clock::start();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("a child without output")?;
    let (mut buffer, mut total) = (vec![0; 1 << 18], 0);
    loop {
        match output.read(&mut buffer)? {
            0 => break,
            count => total += count,
        }
    }
    child.wait()?;
    ensure!(total == logs::BYTES, "{total} bytes came through the pipe");
    Ok(total as f64 / 1e3 / clock.lap())
}

/// The load generator against a server that does nothing but answer.
fn ping(socket: &Path, duration: std::time::Duration) -> Result<f64> {
    let listener = UnixListener::bind(socket)?;
    std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer)? > 0 {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")?;
        }
        Ok(())
    });
    let rate = load(&Address::Unix(socket.to_owned()), "/_ping", 1, duration);
    fs::remove_file(socket)?;
    rate
}
