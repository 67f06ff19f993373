//! The few raw calls that no safe binding offers. The only file of this crate with `unsafe`.
#![expect(
    unsafe_code,
    reason = "four system calls without a safe binding: netlink socket options, unshare, TUN devices, asking for an owner"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::thread::UnshareFlags;

use crate::spec::IfName;

/// Asks the kernel to explain refusals in words (`NETLINK_EXT_ACK`) and not to echo requests (`NETLINK_CAP_ACK`).
pub(crate) fn enable_extended_acks(socket: &impl AsFd) -> io::Result<()> {
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open for the duration of the call, and the value outlives it with its exact size.
        let code = unsafe {
            libc::setsockopt(socket.as_fd().as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), 4)
        };
        if code != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Moves the calling thread into a new network namespace.
///
/// Only for threads that end soon after: everything they do from here on happens in that namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: NEWNET concerns the calling thread alone and invalidates no descriptor or memory of the process.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.map_err(io::Error::from)
}

/// Makes an open `/dev/net/tun` the user's end of a new TUN link of that name, without packet information.
///
/// The link is in the namespace of the calling thread and ends with the descriptor.
pub(crate) fn attach_tun(tun: &impl AsFd, name: &IfName) -> io::Result<()> {
    let flags = libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).map_err(io::Error::other)?;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    };
    // A name has at most 15 bytes, so a zero stays behind it.
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the descriptor is open for the duration of the call, and the request is a whole `struct ifreq`.
    let code = unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `NS_GET_USERNS` of linux/nsfs.h.
const NS_GET_USERNS: libc::Ioctl = 0xb701;

/// Opens the user namespace that a namespace belongs to.
pub(crate) fn owner_of(namespace: &impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open for the duration of the call, which takes no argument.
    let fd = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_USERNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it (close-on-exec, as all of nsfs), and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
