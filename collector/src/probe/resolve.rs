//! Looking at the paths in rules.
//!
//! Owns the only code of the witness that looks at files of the host. Nothing is opened: lstat(2) and statfs(2) belong
//! to no class of access that a watch can ask for, so that looking makes no events.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::stat::{lstat, major, minor, stat};
use nix::sys::statfs::statfs;

use crate::audit::rules::{Field, Rule};
use crate::clock::KtimeNs;
use crate::probe::places::{Found, Identity, Mounted, Places, Sight, System};
use crate::probe::{files, names};

/// Mounts that are looked at.
const MAX_MOUNTS: usize = 4096;

/// Looks at the paths of rules again and again.
#[derive(Debug, Default)]
pub struct Resolver {
    paths: BTreeSet<Box<[u8]>>,
    directories: BTreeSet<Box<[u8]>>,
    /// Whether a rule asks about files at all.
    asks_files: bool,
    places: Places,
}

impl Resolver {
    /// Looks at the paths of `rules` from now on.
    pub fn follow(&mut self, rules: &[Rule]) {
        let of = |fields: &[Field]| -> BTreeSet<Box<[u8]>> {
            rules
                .iter()
                .flat_map(|rule| &rule.conditions)
                .filter(|condition| fields.contains(&condition.field))
                .filter_map(|condition| condition.string.clone())
                .collect()
        };
        self.paths = of(&[Field::EXE, Field::WATCH, Field::DIR]);
        self.directories = of(&[Field::DIR]);
        let mut conditions = rules.iter().flat_map(|rule| &rule.conditions);
        self.asks_files = conditions.any(|condition| files::is_about_files(condition.field));
    }

    /// Looks once; none where no rule has a path or asks about files.
    pub fn look(&mut self) -> Option<Places> {
        if self.paths.is_empty() && !self.asks_files {
            return None;
        }
        let begun = KtimeNs::now();
        let mounts = if self.asks_files {
            mounts()
        } else {
            Some(Vec::new())
        };
        let view = View::of_the_host();
        let sights: Vec<_> = self
            .paths
            .iter()
            .map(|path| {
                let at = Path::new(OsStr::from_bytes(path));
                let is_below = |mount: &&Mount| mount.point != at && mount.point.starts_with(at);
                let below = mounts.as_ref().map(|mounts| {
                    let below = mounts.iter().filter(is_below);
                    below.map(|mount| mount.look(&view)).collect()
                });
                let sight = Sight {
                    file: view.find(at),
                    parent: at
                        .parent()
                        .map_or(Found::Nothing, |parent| view.find(&parent.join("."))),
                    parent_changed: at.parent().and_then(last_changed),
                    below,
                };
                (path.clone(), sight)
            })
            .collect();
        self.places.look(sights, begun, KtimeNs::now());
        let systems = mounts.iter().flatten().map(Mount::system);
        self.places.systems_seen(systems.collect());
        Some(self.places.clone())
    }
}

/// How the host's files are seen from here.
enum View {
    /// As process 1 sees them; also where that cannot be told.
    Same,
    /// Through mounts of our own: what both see alike is meant.
    Other,
}

impl View {
    fn of_the_host() -> Self {
        let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/mnt"));
        match (namespace("1"), namespace("self")) {
            (Ok(host), Ok(own)) if host != own => Self::Other,
            _ => Self::Same,
        }
    }

    fn find(&self, path: &Path) -> Found {
        let found = find(path);
        match self {
            Self::Same => found,
            Self::Other => {
                let theirs = find(
                    &PathBuf::from("/proc/1/root").join(path.strip_prefix("/").unwrap_or(path)),
                );
                if found == theirs {
                    found
                } else {
                    Found::Unknown
                }
            }
        }
    }
}

/// What is at `path`; a link at its end is not followed (kernel/audit_watch.c and kernel/audit_tree.c do not either).
fn find(path: &Path) -> Found {
    let file = match lstat(path) {
        Ok(file) => file,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Found::Nothing,
        Err(_) => return Found::Unknown,
    };
    // A link is of the file system its directory is of.
    let is_link = file.st_mode & 0o170_000 == 0o120_000;
    let asked = if is_link { path.parent() } else { Some(path) };
    let plain = asked
        .and_then(|path| statfs(path).ok())
        .is_some_and(|system| names::is_plain(system.filesystem_type().0 as u64));
    let device = |part: u64| u32::try_from(part).ok();
    match (device(major(file.st_dev)), device(minor(file.st_dev))) {
        (Some(major), Some(minor)) if plain => Found::File(Identity {
            dev: (major, minor),
            inode: file.st_ino,
        }),
        _ => Found::Unknown,
    }
}

/// When something was last made or removed in a directory; none where that is so short ago that another time may follow
/// which is told alike.
fn last_changed(directory: &Path) -> Option<(i64, i64)> {
    /// Longer than any tick.
    const TICK: Duration = Duration::from_millis(20);
    let file = stat(&directory.join(".")).ok()?;
    let (seconds, nanoseconds) = (file.st_mtime, file.st_mtime_nsec);
    let changed = Duration::new(
        u64::try_from(seconds).ok()?,
        u32::try_from(nanoseconds).ok()?,
    );
    let age = SystemTime::now()
        .duration_since(UNIX_EPOCH + changed)
        .ok()?;
    (age > TICK).then_some((seconds, nanoseconds))
}

/// A line of `/proc/self/mountinfo`.
struct Mount {
    point: PathBuf,
    dev: (u32, u32),
    system: Vec<u8>,
}

impl Mount {
    fn system(&self) -> ((u32, u32), System) {
        let plain = self.is_local();
        (self.dev, if plain { System::Plain } else { System::Other })
    }

    /// Whether it is of a file system of this machine that is like others.
    fn is_local(&self) -> bool {
        [
            &b"ext2"[..],
            b"ext3",
            b"ext4",
            b"xfs",
            b"f2fs",
            b"tmpfs",
            b"devtmpfs",
            b"ramfs",
            b"squashfs",
            b"erofs",
            b"proc",
            b"sysfs",
        ]
        .contains(&&self.system[..])
    }

    /// Only file systems of this machine are asked: another one may not answer, ever.
    fn look(&self, view: &View) -> Mounted {
        let root = match self.is_local() {
            true => view.find(&self.point),
            false => Found::Unknown,
        };
        Mounted {
            dev: self.dev,
            root: match root {
                // Otherwise something else is mounted over it.
                Found::File(identity) if identity.dev == self.dev => Some(identity.inode),
                _ => None,
            },
        }
    }
}

/// All mounts; none where they cannot be read, or are too many.
fn mounts() -> Option<Vec<Mount>> {
    let text = std::fs::read("/proc/self/mountinfo").ok()?;
    let lines = || {
        text.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
    };
    if lines().count() > MAX_MOUNTS {
        return None;
    }
    lines().map(mount).collect()
}

/// Reads one line (Documentation/filesystems/proc.rst, `/proc/<pid>/mountinfo`).
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let dev = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = dev.split_once(':')?;
    let point = unescaped(fields.nth(1)?);
    let system = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount {
        point: PathBuf::from(OsStr::from_bytes(&point)),
        dev: (major.parse().ok()?, minor.parse().ok()?),
        system: system.to_vec(),
    })
}

/// Undoes the octal escapes of the kernel's `mangle_path`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        match octal.filter(|_| *first == b'\\') {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;
    use crate::audit::rules::Operator;

    #[test]
    fn links_are_not_followed_and_what_is_not_there_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let link = folder.path().join("link");
        symlink(&file, &link).unwrap();
        let rule =
            Rule::always_exit().text(Field::WATCH, Operator::EQUAL, link.as_os_str().as_bytes());
        let mut resolver = Resolver::default();
        resolver.follow(&[rule]);
        let first = KtimeNs::now();
        resolver.look().unwrap();
        let then = KtimeNs::now();
        let places = resolver.look().unwrap();
        let found = places.during(link.as_os_str().as_bytes(), then, then);
        let inode = std::fs::symlink_metadata(&link).unwrap().ino();
        // Where the folder's file system is one that numbers its files otherwise, nothing is known.
        assert!(match found {
            Found::File(identity) => identity.inode == inode,
            Found::Unknown => true,
            Found::Nothing => false,
        });
        assert_eq!(
            places.during(link.as_os_str().as_bytes(), first, then),
            Found::Unknown
        );
        assert_eq!(find(&folder.path().join("none")), Found::Nothing);
        assert_eq!(find(&file.join("none")), Found::Nothing);
    }

    #[test]
    fn odd_mount_points_come_out_as_they_are() {
        assert_eq!(unescaped(br"/a\040b\134c\9"), br"/a b\c\9");
        let line = br"36 35 98:0 /mnt1 /mnt\040two rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = mount(line).unwrap();
        assert_eq!(mount.point, Path::new("/mnt two"));
        assert_eq!((mount.dev, &mount.system[..]), ((98, 0), &b"ext3"[..]));
        assert!(!mounts().unwrap().is_empty());
    }
}
