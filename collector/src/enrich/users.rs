//! Names of users and groups, from the host's databases.
//!
//! Bounds: `ENTRIES` names of each kind, each asked for once per `LIFE`, ids without a name included. A database
//! behind the network can hold up whoever asks; that is why names are looked up only where `resolve_ids` says so.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use crate::clock::KtimeNs;

/// Most names held of each kind.
const ENTRIES: usize = 4_096;

/// How long a name counts as known.
const LIFE: Duration = Duration::from_secs(300);

/// A cache of names.
#[derive(Debug)]
pub struct UserNames {
    users: Names,
    groups: Names,
}

impl UserNames {
    /// A cache that asks the host (`getpwuid_r`, `getgrgid_r`).
    pub fn of_this_host() -> Self {
        let user = |id| Some(uzers::get_user_by_uid(id)?.name().to_owned());
        let group = |id| Some(uzers::get_group_by_gid(id)?.name().to_owned());
        Self {
            users: Names::new(user),
            groups: Names::new(group),
        }
    }

    /// The name of a user.
    pub fn user(&mut self, uid: u32) -> Option<&[u8]> {
        self.users.get(uid, KtimeNs::now())
    }

    /// The name of a group.
    pub fn group(&mut self, gid: u32) -> Option<&[u8]> {
        self.groups.get(gid, KtimeNs::now())
    }
}

type Lookup = fn(u32) -> Option<OsString>;

#[derive(Debug)]
struct Names {
    known: HashMap<u32, Entry>,
    lookup: Lookup,
}

#[derive(Debug)]
struct Entry {
    name: Option<Box<[u8]>>,
    asked: KtimeNs,
}

impl Names {
    fn new(lookup: Lookup) -> Self {
        Self {
            known: HashMap::new(),
            lookup,
        }
    }

    fn get(&mut self, id: u32, now: KtimeNs) -> Option<&[u8]> {
        let fresh = |entry: &Entry| now.since(entry.asked) < LIFE;
        if !self.known.get(&id).is_some_and(fresh) {
            if self.known.len() >= ENTRIES {
                self.known.retain(|_, entry| fresh(entry));
            }
            if self.known.len() >= ENTRIES {
                self.known.clear();
            }
            let name = (self.lookup)(id).map(|name| name.into_vec().into_boxed_slice());
            self.known.insert(id, Entry { name, asked: now });
        }
        self.known.get(&id)?.name.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static ASKED: Cell<u32> = const { Cell::new(0) };
    }

    fn even_only(id: u32) -> Option<OsString> {
        ASKED.set(ASKED.get() + 1);
        id.is_multiple_of(2)
            .then(|| OsString::from(format!("u{id}")))
    }

    #[test]
    fn a_name_is_asked_for_once_in_its_life_whether_there_is_one_or_not() {
        let mut names = Names::new(even_only);
        let start = KtimeNs(1);
        for _ in 0..3 {
            assert_eq!(names.get(2, start), Some(&b"u2"[..]));
            assert_eq!(names.get(3, start), None);
        }
        assert_eq!(ASKED.get(), 2);
        names.get(2, start.plus(LIFE));
        assert_eq!(ASKED.get(), 3);
    }

    #[test]
    fn many_ids_do_not_grow_the_cache() {
        let mut names = Names::new(even_only);
        for id in 0..ENTRIES as u32 * 3 {
            names.get(id, KtimeNs(1));
            assert!(names.known.len() <= ENTRIES);
        }
    }

    #[test]
    fn root_has_a_name() {
        assert_eq!(UserNames::of_this_host().user(0), Some(&b"root"[..]));
        assert_eq!(UserNames::of_this_host().group(0), Some(&b"root"[..]));
    }
}
