//! The machine's own network interfaces and addresses, and when they change.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};
use tokio::net::UnixDatagram;
use tokio::time::sleep;

/// Groups of the kernel's news: addresses of either family (`RTMGRP_IPV4_IFADDR`,
/// `RTMGRP_IPV6_IFADDR`).
const GROUPS: u32 = 0x10 | 0x100;
/// A change seldom comes alone.
const SETTLE: Duration = Duration::from_secs(1);
/// Where the kernel's news cannot be had, addresses are looked at so often.
const LOOK: Duration = Duration::from_secs(60);

/// An interface that is up, with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    pub is_loopback: bool,
    /// Whether what is sent to a group reaches others.
    pub is_multicast: bool,
    pub v4: Vec<(Ipv4Addr, Mask)>,
    pub v6: Vec<Ipv6Addr>,
}

/// Which bits of an address name the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mask(pub Ipv4Addr);

impl Interface {
    /// Whether this address belongs to a network that the interface is in.
    pub fn reaches(&self, other: Ipv4Addr) -> bool {
        self.v4.iter().any(|(own, Mask(mask))| {
            own.to_bits() & mask.to_bits() == other.to_bits() & mask.to_bits()
        })
    }
}

/// The interfaces that are up and have an address.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in getifaddrs()? {
        if !entry.flags.contains(InterfaceFlags::IFF_UP) {
            continue;
        }
        let Some(address) = entry.address else {
            continue;
        };
        let (v4, v6) = (address.as_sockaddr_in(), address.as_sockaddr_in6());
        if v4.is_none() && v6.is_none() {
            continue;
        }
        let place = found
            .iter()
            .position(|known| known.name == entry.interface_name);
        let place = match place {
            Some(place) => place,
            None => {
                let Ok(index) = if_nametoindex(entry.interface_name.as_str()) else {
                    continue; // it has gone meanwhile
                };
                found.push(Interface {
                    index,
                    is_loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
                    is_multicast: entry.flags.contains(InterfaceFlags::IFF_MULTICAST)
                        && !entry.flags.contains(InterfaceFlags::IFF_POINTOPOINT),
                    name: entry.interface_name,
                    v4: Vec::new(),
                    v6: Vec::new(),
                });
                found.len() - 1
            }
        };
        if let Some(v4) = v4 {
            let mask = entry
                .netmask
                .and_then(|mask| Some(mask.as_sockaddr_in()?.ip()));
            found[place]
                .v4
                .push((v4.ip(), Mask(mask.unwrap_or(Ipv4Addr::BROADCAST))));
        }
        if let Some(v6) = v6 {
            found[place].v6.push(v6.ip());
        }
    }
    Ok(found)
}

/// Tells when addresses come or go; costs nothing while they stay.
pub struct Changes(Option<UnixDatagram>);

impl Changes {
    /// To be called within the runtime.
    pub fn listen() -> Changes {
        let news = news().inspect_err(
            |error| tracing::warn!(%error, "the kernel does not tell of changes of addresses; they are looked at every minute"),
        );
        Changes(news.ok())
    }

    /// Waits for the next change, and until it has settled.
    pub async fn next(&mut self) {
        let Some(news) = &self.0 else {
            return sleep(LOOK).await;
        };
        // Whatever the news say, the addresses are asked for anew; news that were lost are news too.
        let _ = news.readable().await;
        sleep(SETTLE).await;
        let mut buffer = [0; 4_096];
        while news.try_recv(&mut buffer).is_ok_and(|length| 0 < length) {}
    }
}

/// The runtime has no type of its own for such a socket; it is read like any other of datagrams.
fn news() -> io::Result<UnixDatagram> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let protocol = SockProtocol::NetlinkRoute;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    UnixDatagram::from_std(std::os::unix::net::UnixDatagram::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_reaches_itself() {
        let all = interfaces().unwrap();
        let loopback = all.iter().find(|one| one.is_loopback).unwrap();
        assert!(0 < loopback.index);
        assert!(loopback.reaches(Ipv4Addr::new(127, 3, 2, 1)));
        assert!(!loopback.reaches(Ipv4Addr::new(10, 3, 2, 1)));
    }
}
