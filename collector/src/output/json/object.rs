//! The objects of a call: paths and socket addresses.

use crate::audit::records::{Inode, NameType, PathFields};
use crate::digits;
use crate::output::json::writer::Object;
use crate::output::sockaddr::Sockaddr;

/// Adds what a PATH record says.
pub(super) fn write_path(path: &PathFields<'_>, buffer: &mut Vec<u8>, object: &mut Object<'_>) {
    object.number("item", path.item);
    match path.name {
        Some(name) => object.bytes("name", name.decode_into(buffer)),
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
    object.number("inode", inode.inode);
    object.written("dev", |out| append_device(inode.dev, out));
    object.written("mode", |out| {
        out.push(b'0');
        digits::octal(out, inode.mode.into());
    });
    object.number("ouid", inode.ouid);
    object.number("ogid", inode.ogid);
    if inode.rdev != (0, 0) {
        object.written("rdev", |out| append_device(inode.rdev, out));
    }
}

/// Major and minor number, as the kernel prints them.
fn append_device((major, minor): (u32, u32), out: &mut Vec<u8>) {
    digits::hex(out, major.into(), 2);
    out.push(b':');
    digits::hex(out, minor.into(), 2);
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
