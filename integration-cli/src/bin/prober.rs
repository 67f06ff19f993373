//! Runs inside test containers and says how the kernel answers system calls.
//!
//! Usage: `prober echo-udp PORT` sends every datagram back to where it came from, for ever; `prober CALL[:ARG,ARG...]...`; prints a line for each: `CALL = VALUE`, or `CALL ERROR` with the name of
//! the error number. Tests choose arguments that are harmless when the call is allowed and whose own error differs from
//! what a seccomp filter answers. It knows nothing of what should be allowed.
#![expect(
    unsafe_code,
    reason = "raw system calls are what this program is for; none of the safe wrappers has them all"
)]
#![expect(clippy::print_stdout, reason = "its output is its result")]
#![expect(clippy::expect_used, reason = "a wrong argument is an error in the test that gave it")]

use std::io::Error;
use std::net::UdpSocket;

const CALLS: &[(&str, libc::c_long)] = &[
    ("add_key", libc::SYS_add_key),
    ("bpf", libc::SYS_bpf),
    ("chroot", libc::SYS_chroot),
    ("clone3", libc::SYS_clone3),
    ("geteuid", libc::SYS_geteuid),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("keyctl", libc::SYS_keyctl),
    ("mount", libc::SYS_mount),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("personality", libc::SYS_personality),
    ("ptrace", libc::SYS_ptrace),
    ("request_key", libc::SYS_request_key),
    ("sethostname", libc::SYS_sethostname),
    ("socket", libc::SYS_socket),
    ("unshare", libc::SYS_unshare),
    ("userfaultfd", libc::SYS_userfaultfd),
];

const ERRORS: &[(i32, &str)] = &[
    (libc::EACCES, "EACCES"),
    (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
    (libc::EFAULT, "EFAULT"),
    (libc::EINVAL, "EINVAL"),
    (libc::ENOENT, "ENOENT"),
    (libc::ENOSYS, "ENOSYS"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    (libc::EPERM, "EPERM"),
    (libc::ESRCH, "ESRCH"),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, port] = &arguments[..]
        && command == "echo-udp"
    {
        return echo_datagrams(port);
    }
    for argument in arguments {
        let (name, list) = argument.split_once(':').unwrap_or((&argument, ""));
        let (_, number) = CALLS.iter().find(|(known, _)| *known == name).expect("a call this program knows");
        let mut values = [0 as libc::c_long; 6];
        for (slot, value) in values.iter_mut().zip(list.split(',').filter(|value| !value.is_empty())) {
            *slot = value.parse().expect("a number as argument");
        }
        match call(*number, values) {
            Ok(value) => println!("{name} = {value}"),
            Err(error) => println!("{name} {}", name_of(error)),
        }
    }
}

fn echo_datagrams(port: &str) {
    let socket = UdpSocket::bind(format!("0.0.0.0:{port}")).expect("a free port");
    let mut datagram = [0u8; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut datagram) {
        socket.send_to(&datagram[..length], from).ok();
    }
}

fn call(number: libc::c_long, [a, b, c, d, e, f]: [libc::c_long; 6]) -> Result<libc::c_long, i32> {
    // SAFETY: no argument of a probe points to memory of this process (they are zero or small numbers, which the
    // kernel refuses with EFAULT where it wants an address), and no probed call changes this process's memory.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result >= 0 { Ok(result) } else { Err(Error::last_os_error().raw_os_error().unwrap_or(0)) }
}

fn name_of(error: i32) -> String {
    let known = ERRORS.iter().find(|(value, _)| *value == error);
    known.map_or_else(|| format!("errno {error}"), |(_, name)| (*name).to_owned())
}
