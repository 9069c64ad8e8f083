//! What the paths in rules stand for: the kernel compares inodes, not names.
//!
//! Owns the value, which ages: it says since when and until when each path was seen to stand for the same. The kernel
//! follows a watched file or an executable as it is replaced (kernel/audit_watch.c, kernel/audit_fsnotify.c), but marks
//! a directory once, when the rule is loaded (kernel/audit_tree.c). Resolving is [`super::resolve`]'s.

use std::collections::HashMap;

use crate::clock::KtimeNs;
use crate::probe::observation::FileInode;

/// A file, as audit tells files apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Major and minor number of its file system's device.
    pub dev: (u32, u32),
    /// Its number there.
    pub inode: u64,
}

impl Identity {
    /// That of an observed file.
    pub const fn of(file: &FileInode) -> Self {
        Self {
            dev: file.dev,
            inode: file.number,
        }
    }
}

/// What was found at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It cannot be told: no permission, or a file system that numbers its files otherwise for stat(2) than for audit.
    Unknown,
    /// Nothing.
    Nothing,
    /// A file or directory.
    File(Identity),
}

/// What was found around a path at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// At the path itself; a link there is not followed.
    pub file: Found,
    /// At the directory it is in.
    pub parent: Found,
    /// When something was last made or removed in that directory; none where that cannot be told, or was so short ago
    /// that the next time may be told alike.
    pub parent_changed: Option<(i64, i64)>,
    /// What is mounted below it; none where that cannot be told.
    pub below: Option<Vec<Mounted>>,
}

/// Something mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Its file system's device.
    pub dev: (u32, u32),
    /// The inode number of its root, where that can be told.
    pub root: Option<u64>,
}

/// A path over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    sight: Sight,
    /// Since when the file is seen to be that.
    since: KtimeNs,
    /// Since when the directory is.
    parent_since: KtimeNs,
    /// Since when nothing was made or removed in its directory.
    quiet_since: KtimeNs,
    /// Whether the file was another one when the path was first looked at.
    moved: bool,
    /// What has been mounted below it while it was looked at.
    mounted: Option<Vec<Mounted>>,
}

/// How a file system behaves towards audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// What is done to a file there is done to that file, which has the number that stat(2) tells.
    Plain,
    /// It may use files of other file systems, or number its own otherwise.
    Other,
}

/// All paths of the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    by_path: HashMap<Box<[u8]>, Place>,
    /// Devices of mounted file systems, and whether these do nothing else when a file is used.
    systems: HashMap<(u32, u32), System>,
    /// When they were last looked at.
    checked: KtimeNs,
}

impl Places {
    /// When the last look at them began.
    pub fn checked(&self) -> KtimeNs {
        self.checked
    }

    /// Takes in what was found at the paths of the rules in force: looked at from `begun` to `ended`. Paths that are
    /// not among them are forgotten.
    pub fn look(
        &mut self,
        sights: impl IntoIterator<Item = (Box<[u8]>, Sight)>,
        begun: KtimeNs,
        ended: KtimeNs,
    ) {
        let mut former = std::mem::take(&mut self.by_path);
        for (path, sight) in sights {
            let place = match former.remove(&path) {
                None => Place {
                    mounted: sight.below.clone(),
                    sight,
                    since: ended,
                    parent_since: ended,
                    quiet_since: ended,
                    moved: false,
                },
                Some(mut place) => {
                    place.moved |= place.sight.file != sight.file;
                    place.mounted =
                        place
                            .mounted
                            .take()
                            .zip(sight.below.as_ref())
                            .map(|(mut all, now)| {
                                for mount in now {
                                    if !all.contains(mount) {
                                        all.push(*mount);
                                    }
                                }
                                all
                            });
                    if place.sight.parent != sight.parent {
                        place.parent_since = ended;
                        place.since = ended;
                    }
                    if place.sight.file != sight.file {
                        place.since = ended;
                    }
                    let quiet = sight.parent_changed.is_some()
                        && place.sight.parent_changed == sight.parent_changed;
                    if !quiet {
                        place.quiet_since = ended;
                    }
                    place.sight = sight;
                    place
                }
            };
            self.by_path.insert(path, place);
        }
        self.checked = begun;
    }

    /// What `path` stood for all the time from `from` to `to`; unknown where it was not looked at before and after, or
    /// changed in between.
    pub fn during(&self, path: &[u8], from: KtimeNs, to: KtimeNs) -> Found {
        self.unchanged(path, from, to)
            .map_or(Found::Unknown, |place| place.sight.file)
    }

    /// Whether nothing was made or removed in all that time in the directory that `path` is in.
    pub fn quiet_during(&self, path: &[u8], from: KtimeNs, to: KtimeNs) -> bool {
        let quiet = |place: &Place| {
            place.sight.parent == Found::Nothing
                || place.quiet_since <= from && place.sight.parent_changed.is_some()
        };
        self.unchanged(path, from, to).is_some_and(quiet)
    }

    /// Takes in what is mounted.
    pub fn systems_seen(&mut self, systems: HashMap<(u32, u32), System>) {
        self.systems = systems;
    }

    /// Whether the file system on `dev` is known to be [`System::Plain`].
    pub fn is_plain(&self, dev: (u32, u32)) -> bool {
        self.systems.get(&dev) == Some(&System::Plain)
    }

    /// The directory that `path` was in all that time.
    pub fn parent_during(&self, path: &[u8], from: KtimeNs, to: KtimeNs) -> Found {
        self.by_path
            .get(path)
            .filter(|place| place.parent_since <= from && to <= self.checked)
            .map_or(Found::Unknown, |place| place.sight.parent)
    }

    /// The directory the kernel marked for `path` when the rule was loaded; unknown once the path stands for another.
    pub fn marked(&self, path: &[u8]) -> Found {
        self.by_path
            .get(path)
            .filter(|place| !place.moved)
            .map_or(Found::Unknown, |place| place.sight.file)
    }

    /// What is or was mounted below `path`: the kernel marks the roots of that too. None where it cannot be told.
    pub fn mounted_below(&self, path: &[u8]) -> Option<&[Mounted]> {
        self.by_path.get(path)?.mounted.as_deref()
    }

    fn unchanged(&self, path: &[u8], from: KtimeNs, to: KtimeNs) -> Option<&Place> {
        self.by_path
            .get(path)
            .filter(|place| place.since <= from && to <= self.checked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn file(inode: u64) -> Found {
        Found::File(Identity { dev: (8, 1), inode })
    }

    fn look(places: &mut Places, found: Found, at: u64) {
        let sight = Sight {
            file: found,
            parent: file(2),
            parent_changed: Some((1, 0)),
            below: Some(Vec::new()),
        };
        places.look([((*b"/p").into(), sight)], KtimeNs(at), KtimeNs(at + 1));
    }

    #[test]
    fn a_file_is_known_only_between_two_looks_that_agree() {
        let mut places = Places::default();
        look(&mut places, file(7), 100);
        let during = |places: &Places, from, to| places.during(b"/p", KtimeNs(from), KtimeNs(to));
        assert_eq!(during(&places, 101, 102), Found::Unknown, "not yet");
        look(&mut places, file(7), 200);
        assert_eq!(during(&places, 101, 200), file(7));
        assert_eq!(during(&places, 100, 200), Found::Unknown, "too early");
        look(&mut places, file(8), 300);
        assert_eq!(during(&places, 250, 260), Found::Unknown, "before or after");
        let parent = places.parent_during(b"/p", KtimeNs(101), KtimeNs(260));
        assert_eq!(parent, file(2), "the same all the time");
        look(&mut places, file(8), 400);
        assert_eq!(during(&places, 301, 400), file(8));
        assert_eq!(
            places.during(b"/q", KtimeNs(301), KtimeNs(302)),
            Found::Unknown
        );
    }

    #[test]
    fn a_marked_directory_is_known_at_once_until_its_path_leads_elsewhere() {
        let mut places = Places::default();
        look(&mut places, file(7), 100);
        assert_eq!(places.marked(b"/p"), file(7));
        look(&mut places, file(8), 200);
        look(&mut places, file(7), 300);
        assert_eq!(places.marked(b"/p"), Found::Unknown);
        // The rule went, and came again.
        places.look([], KtimeNs(400), KtimeNs(401));
        look(&mut places, file(7), 500);
        assert_eq!(places.marked(b"/p"), file(7));
    }
}
