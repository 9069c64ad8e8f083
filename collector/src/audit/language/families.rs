//! Names of address families, as `-F saddr_fam=` takes them.
//!
//! Owns the table of include/linux/socket.h (`AF_*`), in lower case without the prefix.

/// Families from number 1 on.
const FAMILIES: [&str; 45] = [
    "local",
    "inet",
    "ax25",
    "ipx",
    "appletalk",
    "netrom",
    "bridge",
    "atmpvc",
    "x25",
    "inet6",
    "rose",
    "decnet",
    "netbeui",
    "security",
    "key",
    "netlink",
    "packet",
    "ash",
    "econet",
    "atmsvc",
    "rds",
    "sna",
    "irda",
    "pppox",
    "wanpipe",
    "llc",
    "ib",
    "mpls",
    "can",
    "tipc",
    "bluetooth",
    "iucv",
    "rxrpc",
    "isdn",
    "phonet",
    "ieee802154",
    "caif",
    "alg",
    "nfc",
    "vsock",
    "kcm",
    "qipcrtr",
    "smc",
    "xdp",
    "mctp",
];

/// Families are below this (`AF_MAX` of Linux 5.15 and later); the kernel refuses others.
pub const FAMILY_LIMIT: u32 = FAMILIES.len() as u32 + 1;

/// Every name.
pub fn family_names() -> impl Iterator<Item = &'static str> {
    FAMILIES.into_iter()
}

/// The number of family `name`, whatever its case, also as `AF_…`. `unix` is `local`.
pub fn family_number(name: &str) -> Option<u32> {
    let name = name.to_ascii_lowercase();
    let name = match name.strip_prefix("af_").unwrap_or(&name) {
        "unix" => "local",
        name => name,
    };
    let index = FAMILIES.iter().position(|known| *known == name)?;
    Some(index as u32 + 1)
}

/// The name of family `number`.
pub fn family_name(number: u32) -> Option<&'static str> {
    FAMILIES.get((number as usize).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_names_and_numbers() {
        for (name, number) in [
            ("local", libc::AF_UNIX),
            ("inet", libc::AF_INET),
            ("inet6", libc::AF_INET6),
            ("netlink", libc::AF_NETLINK),
            ("packet", libc::AF_PACKET),
            ("ib", libc::AF_IB),
            ("can", libc::AF_CAN),
            ("alg", libc::AF_ALG),
            ("vsock", libc::AF_VSOCK),
            ("xdp", libc::AF_XDP),
        ] {
            assert_eq!(family_number(name), Some(number as u32), "{name}");
            assert_eq!(family_name(number as u32), Some(name));
        }
        assert_eq!(family_number("AF_UNIX"), Some(1));
        assert_eq!(family_number("inet7"), None);
        assert_eq!(family_name(0), None);
        assert_eq!(family_name(FAMILY_LIMIT), None);
    }
}
