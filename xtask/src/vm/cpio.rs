//! The archive a kernel unpacks as its first file system: cpio's "newc" form
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Everything in it is root's; nothing on this machine needs to be.

use std::io::{self, Write};

/// What an entry is, and its content.
#[derive(Clone, Copy)]
pub(super) enum Entry<'a> {
    Folder,
    Program(&'a [u8]),
    File(&'a [u8]),
    /// Where it points.
    Link(&'a [u8]),
    /// A character device's major and minor number.
    Device(u32, u32),
}

/// Writes an archive.
pub(super) struct Archive<W> {
    to: W,
    /// The number of the last entry, which stands for its inode.
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, entries: 0 }
    }

    /// Adds an entry; `path` is relative to the root, and the folders it lies in must have come before.
    pub(super) fn add(&mut self, path: &str, entry: Entry<'_>) -> io::Result<()> {
        self.entries += 1;
        let (mode, content, device) = match entry {
            Entry::Folder => (0o040_755, [].as_slice(), (0, 0)),
            Entry::Program(content) => (0o100_755, content, (0, 0)),
            Entry::File(content) => (0o100_644, content, (0, 0)),
            Entry::Link(target) => (0o120_777, target, (0, 0)),
            Entry::Device(major, minor) => (0o020_600, [].as_slice(), (major, minor)),
        };
        self.write(self.entries, mode, path, content, device)
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.write(0, 0, "TRAILER!!!", &[], (0, 0))?;
        Ok(self.to)
    }

    fn write(
        &mut self,
        inode: u32,
        mode: u32,
        path: &str,
        content: &[u8],
        device: (u32, u32),
    ) -> io::Result<()> {
        let length = u32::try_from(content.len())
            .map_err(|_| io::Error::other(format!("{path} is longer than 4 GiB")))?;
        let name_length = path.len() as u32 + 1;
        write!(self.to, "070701")?;
        // uid, gid, time, and the device the entry lies on are 0; so is the checksum, which this form does not have.
        for field in [
            inode,
            mode,
            0,
            0,
            1,
            0,
            length,
            0,
            0,
            device.0,
            device.1,
            name_length,
            0,
        ] {
            write!(self.to, "{field:08X}")?;
        }
        self.to.write_all(path.as_bytes())?;
        // The header's 110 bytes, the name and its NUL end on a multiple of 4, and so does the content.
        self.pad(110 + path.len() + 1, 1)?;
        self.to.write_all(content)?;
        self.pad(content.len(), 0)
    }

    /// Writes `least` zeros and as many more as bring `length` to a multiple of 4.
    fn pad(&mut self, length: usize, least: usize) -> io::Result<()> {
        let zeros = least + length.next_multiple_of(4) - length;
        self.to.write_all(&[0; 4][..zeros])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_begins_at_a_multiple_of_four() {
        for name in ["a", "ab", "abc", "abcd"] {
            for content in [&b""[..], b"1", b"12", b"123", b"1234"] {
                let mut archive = Archive::new(Vec::new());
                archive.add(name, Entry::File(content)).unwrap();
                let written = archive.to;
                assert_eq!(written.len() % 4, 0);
                let start = (110 + name.len() + 1).next_multiple_of(4);
                assert_eq!(&written[start..start + content.len()], content);
                assert_eq!(
                    &written[110..110 + name.len() + 1],
                    [name.as_bytes(), b"\0"].concat()
                );
            }
        }
    }

    #[test]
    fn an_entry_is_as_the_kernel_reads_it() {
        let mut archive = Archive::new(Vec::new());
        archive.add("dev/console", Entry::Device(5, 1)).unwrap();
        let text = String::from_utf8(archive.finish().unwrap()).unwrap();
        assert_eq!(
            &text[..110],
            "070701000000010000218000000000000000000000000100000000000000000000000000000000000000050000000100000\
             00C00000000"
        );
        assert!(text.contains("TRAILER!!!\0"));
    }
}
