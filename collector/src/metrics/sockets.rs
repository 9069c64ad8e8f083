//! The netlink sockets.

use super::family::{Families, Number};
use crate::account::{Account, Socket};

const SOCKETS: [&str; 2] = ["events", "control"];

pub(super) fn add(families: &mut Families, account: &Account) {
    for name in SOCKETS {
        socket(families, name, account.sockets.get(name));
    }
}

fn socket(families: &mut Families, name: &str, socket: Option<&Socket>) {
    let counted = socket.copied().unwrap_or_default();
    families.set("netlink_overruns_total", &[name], Number(counted.overruns));
    families.set(
        "netlink_dropped_records_total",
        &[name],
        Number(counted.drops),
    );
    if let Some(socket) = socket {
        families.set(
            "netlink_receive_buffer_bytes",
            &[name],
            Number(socket.receive_buffer),
        );
        families.set(
            "netlink_receive_queue_bytes",
            &[name],
            Number(socket.queued),
        );
    }
}
