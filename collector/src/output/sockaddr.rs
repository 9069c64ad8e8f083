//! What the bytes of a `struct sockaddr` say.
//!
//! Borrows, never panics; bytes too short for their family come back as they are.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A socket address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockaddr<'a> {
    /// ip(7)
    Inet {
        /// The address.
        address: Ipv4Addr,
        /// The port.
        port: u16,
    },
    /// ipv6(7)
    Inet6 {
        /// The address.
        address: Ipv6Addr,
        /// The port.
        port: u16,
        /// The flow, as on the wire.
        flow: u32,
        /// The interface of a link-local address, 0 for none.
        scope: u32,
    },
    /// unix(7), a file.
    UnixPath(&'a [u8]),
    /// unix(7), a name in the abstract namespace, without its leading NUL; it may hold any bytes.
    UnixAbstract(&'a [u8]),
    /// unix(7), without a name.
    UnixUnnamed,
    /// netlink(7)
    Netlink {
        /// The port id, 0 for the kernel.
        port: u32,
        /// The multicast groups.
        groups: u32,
    },
    /// Another family, or an address cut short.
    Other {
        /// `AF_*`, none where even that is cut.
        family: Option<u16>,
        /// The bytes behind the family.
        rest: &'a [u8],
    },
}

impl<'a> Sockaddr<'a> {
    /// Reads an address in this machine's byte order.
    pub fn read(bytes: &'a [u8]) -> Self {
        let Some((family, rest)) = bytes.split_first_chunk::<2>() else {
            return Self::Other {
                family: None,
                rest: bytes,
            };
        };
        let family = u16::from_ne_bytes(*family);
        let known = match i32::from(family) {
            libc::AF_INET => inet(rest),
            libc::AF_INET6 => inet6(rest),
            libc::AF_UNIX => Some(unix(rest)),
            libc::AF_NETLINK => netlink(rest),
            _ => None,
        };
        known.unwrap_or(Self::Other {
            family: Some(family),
            rest,
        })
    }
}

fn inet(rest: &[u8]) -> Option<Sockaddr<'_>> {
    let (port, rest) = rest.split_first_chunk()?;
    let (address, _) = rest.split_first_chunk::<4>()?;
    Some(Sockaddr::Inet {
        address: Ipv4Addr::from(*address),
        port: u16::from_be_bytes(*port),
    })
}

fn inet6(rest: &[u8]) -> Option<Sockaddr<'_>> {
    let (port, rest) = rest.split_first_chunk()?;
    let (flow, rest) = rest.split_first_chunk()?;
    let (address, rest) = rest.split_first_chunk::<16>()?;
    // The kernel takes addresses without a scope (RFC 2133) too.
    let scope = rest
        .first_chunk()
        .map_or(0, |scope| u32::from_ne_bytes(*scope));
    Some(Sockaddr::Inet6 {
        address: Ipv6Addr::from(*address),
        port: u16::from_be_bytes(*port),
        flow: u32::from_be_bytes(*flow),
        scope,
    })
}

fn unix(rest: &[u8]) -> Sockaddr<'_> {
    match rest {
        [] => Sockaddr::UnixUnnamed,
        [0, name @ ..] => Sockaddr::UnixAbstract(name),
        path => {
            let end = memchr::memchr(0, path).unwrap_or(path.len());
            Sockaddr::UnixPath(&path[..end])
        }
    }
}

fn netlink(rest: &[u8]) -> Option<Sockaddr<'_>> {
    let (_padding, rest) = rest.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk()?;
    let (groups, _) = rest.split_first_chunk()?;
    Some(Sockaddr::Netlink {
        port: u32::from_ne_bytes(*port),
        groups: u32::from_ne_bytes(*groups),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(family: i32, rest: &[u8]) -> Vec<u8> {
        [&(family as u16).to_ne_bytes()[..], rest].concat()
    }

    #[test]
    fn addresses_of_the_common_families_are_read() {
        let bytes = address(
            libc::AF_INET,
            &[0, 53, 127, 0, 0, 53, 0, 0, 0, 0, 0, 0, 0, 0],
        );
        let inet = Sockaddr::Inet {
            address: Ipv4Addr::new(127, 0, 0, 53),
            port: 53,
        };
        assert_eq!(Sockaddr::read(&bytes), inet);

        let mut rest = vec![0x1f, 0x90, 0, 0, 0, 0];
        rest.extend(Ipv6Addr::LOCALHOST.octets());
        rest.extend(2_u32.to_ne_bytes());
        let inet6 = Sockaddr::Inet6 {
            address: Ipv6Addr::LOCALHOST,
            port: 8080,
            flow: 0,
            scope: 2,
        };
        assert_eq!(Sockaddr::read(&address(libc::AF_INET6, &rest)), inet6);

        let path = address(libc::AF_UNIX, b"/run/x\0garbage");
        assert_eq!(Sockaddr::read(&path), Sockaddr::UnixPath(b"/run/x"));
        let name = address(libc::AF_UNIX, b"\0a\0b");
        assert_eq!(Sockaddr::read(&name), Sockaddr::UnixAbstract(b"a\0b"));
        let unnamed = address(libc::AF_UNIX, b"");
        assert_eq!(Sockaddr::read(&unnamed), Sockaddr::UnixUnnamed);

        let mut rest = vec![0, 0];
        rest.extend(7_u32.to_ne_bytes());
        rest.extend(1_u32.to_ne_bytes());
        let netlink = Sockaddr::Netlink { port: 7, groups: 1 };
        assert_eq!(Sockaddr::read(&address(libc::AF_NETLINK, &rest)), netlink);
    }

    #[test]
    fn a_cut_address_comes_back_as_it_is() {
        let cut = address(libc::AF_INET, &[0, 53, 127]);
        let other = Sockaddr::Other {
            family: Some(libc::AF_INET as u16),
            rest: &[0, 53, 127],
        };
        assert_eq!(Sockaddr::read(&cut), other);
        let none = Sockaddr::Other {
            family: None,
            rest: &[2],
        };
        assert_eq!(Sockaddr::read(&[2]), none);
    }
}
