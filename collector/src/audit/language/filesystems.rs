//! Names of file systems and of file types, as `-F fstype=` and `-F filetype=` take them.
//!
//! Owns two small tables. auditctl has names for two file systems only; others go by their magic number (statfs(2)).

/// File systems with a name, by magic number (include/uapi/linux/magic.h).
pub const FILESYSTEMS: [(&str, u32); 2] = [("tracefs", 0x7472_6163), ("debugfs", 0x6462_6720)];

/// File types, by the `S_IFMT` bits of a mode.
pub const FILE_TYPES: [(&str, u32); 7] = [
    ("socket", libc::S_IFSOCK),
    ("link", libc::S_IFLNK),
    ("file", libc::S_IFREG),
    ("block", libc::S_IFBLK),
    ("dir", libc::S_IFDIR),
    ("character", libc::S_IFCHR),
    ("fifo", libc::S_IFIFO),
];

/// The number of `name` in one of these tables, whatever its case.
pub fn number_in(table: &[(&str, u32)], name: &str) -> Option<u32> {
    let named = |(known, _): &&(&str, u32)| known.eq_ignore_ascii_case(name);
    table.iter().find(named).map(|(_, number)| *number)
}

/// The name of `number` in one of these tables.
pub fn name_in(table: &[(&'static str, u32)], number: u32) -> Option<&'static str> {
    let numbered = |(_, known): &&(&str, u32)| *known == number;
    table.iter().find(numbered).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_to_each_other() {
        for table in [&FILESYSTEMS[..], &FILE_TYPES] {
            for (name, number) in table {
                assert_eq!(number_in(table, &name.to_uppercase()), Some(*number));
                assert_eq!(name_in(table, *number), Some(*name));
            }
        }
        assert_eq!(number_in(&FILE_TYPES, "folder"), None);
        assert_eq!(name_in(&FILE_TYPES, 1), None);
    }
}
