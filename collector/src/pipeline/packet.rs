//! What the reader of the event socket hands to the core: a batch of datagrams in two allocations.

use crate::clock::KtimeNs;

/// Copies of what was read at once, in order.
#[derive(Debug, Default)]
pub(super) struct Packet {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    message_type: u16,
    end: usize,
    arrived: KtimeNs,
}

impl Packet {
    /// An empty one with room for so many records of so many bytes in all.
    pub(super) fn with_capacity(records: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            items: Vec::with_capacity(records),
        }
    }

    pub(super) fn push(&mut self, message_type: u16, arrived: KtimeNs, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.items.push(Item {
            message_type,
            end: self.bytes.len(),
            arrived,
        });
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of memory it takes.
    pub(super) fn n_bytes(&self) -> usize {
        self.bytes.capacity() + self.items.capacity() * size_of::<Item>()
    }

    /// Type, time of arrival and bytes of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, KtimeNs, &[u8])> {
        let mut start = 0;
        self.items.iter().map(move |item| {
            let bytes = &self.bytes[start..item.end];
            start = item.end;
            (item.message_type, item.arrived, bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_was_put_in() {
        let mut packet = Packet::default();
        for (message_type, bytes) in [(1300, &b"one"[..]), (1301, b""), (1302, b"three")] {
            packet.push(message_type, KtimeNs(u64::from(message_type)), bytes);
        }
        let items: Vec<_> = packet.iter().collect();
        assert_eq!(
            items,
            [
                (1300, KtimeNs(1300), &b"one"[..]),
                (1301, KtimeNs(1301), b""),
                (1302, KtimeNs(1302), b"three")
            ]
        );
    }
}
