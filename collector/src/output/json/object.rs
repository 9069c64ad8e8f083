//! The objects of a call: paths and socket addresses.

use crate::audit::records::{Inode, NameType, PathFields};
use crate::output::json::writer::Object;
use crate::output::sockaddr::Sockaddr;

/// Adds what a PATH record says.
pub(super) fn write_path(path: &PathFields, object: &mut Object<'_>) {
    object.number("item", path.item);
    match &path.name {
        Some(name) => object.bytes("name", name),
        None => object.null("name"),
    }
    if let Some(nametype) = path.nametype {
        object.string(
            "nametype",
            match nametype {
                NameType::Normal => "NORMAL",
                NameType::Parent => "PARENT",
                NameType::Create => "CREATE",
                NameType::Delete => "DELETE",
                NameType::Unknown => "UNKNOWN",
            },
        );
    }
    if let Some(inode) = &path.inode {
        write_inode(inode, object);
    }
}

/// Adds what is known of the object of a path.
pub(super) fn write_inode(inode: &Inode, object: &mut Object<'_>) {
    let (major, minor) = inode.dev;
    object.number("inode", inode.inode);
    object.plain("dev", format_args!("{major:02x}:{minor:02x}"));
    object.plain("mode", format_args!("0{:o}", inode.mode));
    object.number("ouid", inode.ouid);
    object.number("ogid", inode.ogid);
    if inode.rdev != (0, 0) {
        let (major, minor) = inode.rdev;
        object.plain("rdev", format_args!("{major:02x}:{minor:02x}"));
    }
}

/// Adds what the bytes of a `struct sockaddr` say.
pub(super) fn write_socket(bytes: &[u8], object: &mut Object<'_>) {
    match Sockaddr::read(bytes) {
        Sockaddr::Inet { address, port } => {
            object.string("family", "inet");
            object.plain("address", address);
            object.number("port", port);
        }
        Sockaddr::Inet6 {
            address,
            port,
            flow,
            scope,
        } => {
            object.string("family", "inet6");
            object.plain("address", address);
            object.number("port", port);
            object.number("flow", flow);
            object.number("scope", scope);
        }
        Sockaddr::UnixPath(path) => {
            object.string("family", "unix");
            object.bytes("path", path);
        }
        Sockaddr::UnixAbstract(name) => {
            object.string("family", "unix");
            object.bytes("abstract", name);
        }
        Sockaddr::UnixUnnamed => object.string("family", "unix"),
        Sockaddr::Netlink { port, groups } => {
            object.string("family", "netlink");
            object.number("port", port);
            object.number("groups", groups);
        }
        Sockaddr::Other { family, rest } => {
            match family {
                Some(family) => object.number("family", family),
                None => object.null("family"),
            }
            object.hex("rest_hex", rest);
        }
    }
}
