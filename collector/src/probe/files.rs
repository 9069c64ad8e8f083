//! What rules ask about files, and three-valued answers.
//!
//! Semantics of kernel/auditsc.c `audit_filter_rules` and kernel/audit_watch.c, kernel/audit_tree.c (6.12).

use collector_ebpf::Comparison;

use crate::audit::rules::{Condition, Field, Operator, Rule};
use crate::byte_string::ByteString;
use crate::probe::compile::compare;
use crate::probe::names::{Name, Names, Role};
use crate::probe::observation::{Captured, Observation, OpenedFile};
use crate::probe::places::{Found, Identity, Places};

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Three {
    No,
    Unknown,
    Yes,
}

impl From<bool> for Three {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl Three {
    pub(super) fn and(self, other: Self) -> Self {
        self.min(other)
    }

    pub(super) fn or(self, other: Self) -> Self {
        self.max(other)
    }

    pub(super) fn negated_if(self, negated: bool) -> Self {
        match self {
            Self::No if negated => Self::Yes,
            Self::Yes if negated => Self::No,
            _ => self,
        }
    }

    /// No better than unknown where it rests on something that is not certain.
    pub(super) fn at_best(self, certain: bool) -> Self {
        if certain {
            self
        } else {
            self.min(Self::Unknown)
        }
    }
}

/// `S_IFMT`
const TYPE: u32 = 0o170_000;

/// Whether the kernel keeps the rule by inode, and tries it on one file after the other.
pub(super) fn is_of_inode(rule: &Rule) -> bool {
    let of_inode = |condition: &Condition| match condition.field {
        // Not so with `inode!=` (kernel/auditfilter.c `audit_data_to_entry`).
        Field::INODE => condition.operator == Operator::EQUAL,
        field => field == Field::WATCH,
    };
    rule.conditions.iter().any(of_inode)
}

/// Whether the rule is on what a path stands for.
pub(super) fn is_watch(rule: &Rule) -> bool {
    let of_watch = |condition: &Condition| condition.field == Field::WATCH;
    rule.conditions.iter().any(of_watch)
}

/// Whether a field turns on which files a call named.
pub(super) const fn is_about_files(field: Field) -> bool {
    matches!(
        field,
        Field::WATCH
            | Field::DIR
            | Field::INODE
            | Field::DEVMAJOR
            | Field::DEVMINOR
            | Field::FILETYPE
            | Field::OBJ_UID
            | Field::OBJ_GID
            | Field::FIELD_COMPARE
    )
}

/// One comparison with one file.
pub(super) fn compare_file(condition: &Condition, comparison: Comparison, name: &Name) -> bool {
    let file = &name.inode;
    let holds = |left| compare(left, comparison, condition.value);
    match condition.field {
        // The kernel compares the lower half.
        Field::INODE => holds(file.number as u32),
        Field::DEVMAJOR => holds(file.dev.0) || holds(file.rdev.0),
        Field::DEVMINOR => holds(file.dev.1) || holds(file.rdev.1),
        Field::OBJ_UID | Field::OBJ_GID
            if matches!(comparison, Comparison::BIT_MASK | Comparison::BIT_TEST) =>
        {
            false
        }
        Field::OBJ_UID => holds(file.uid),
        Field::OBJ_GID => holds(file.gid),
        // Whatever the operator; the caller negates.
        Field::FILETYPE => u32::from(file.mode) & TYPE == condition.value,
        _ => false,
    }
}

/// What a rule on a path makes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// It is what stands there, or is not, when the rules are tried at the call's end.
    AtTheEnd(Three),
    /// The call took it away from there. The rule was tried just before, when nothing was known of the call's result.
    TakenAway,
}

/// Whether a file is the one watched at `path`.
///
/// The kernel knows it by its inode, and follows what happens at the path: whatever stands there under that name in that
/// directory is it, also if it was created by this very call (kernel/audit_watch.c `audit_update_watch`).
pub(super) fn watched(
    path: &[u8],
    name: &Name,
    names: &Names,
    seen: &Observation,
    places: &Places,
) -> Watched {
    let (from, to) = (seen.entry, seen.taken);
    match stands_at(path, name, names, seen, places) {
        Three::Yes if name.role == Role::Delete => return Watched::TakenAway,
        Three::Yes => return Watched::AtTheEnd(Three::Yes),
        _ => {}
    }
    let takes_away = |name: &Name| {
        name.role == Role::Delete && stands_at(path, name, names, seen, places) == Three::Yes
    };
    if names.known.iter().any(takes_away) {
        return Watched::AtTheEnd(Three::No);
    }
    let same = match places.during(path, from, to) {
        Found::Unknown => return Watched::AtTheEnd(Three::Unknown),
        Found::Nothing => false,
        Found::File(file) => Identity::of(&name.inode) == file,
    };
    // Something else may have stood there between two looks, and gone by that name only.
    let certain = places.quiet_during(path, from, to) || same == may_go_by(path, seen, places);
    Watched::AtTheEnd(if certain { same.into() } else { Three::Unknown })
}

/// Whether a file that was opened, removed or made is surely the one that stands at `path`, or surely none.
fn stands_at(
    path: &[u8],
    name: &Name,
    names: &Names,
    seen: &Observation,
    places: &Places,
) -> Three {
    let (parent, text) = if let Some(opened) = &seen.opened {
        if name.role == Role::Parent {
            return Three::Unknown;
        }
        (
            directory_of(opened),
            opened.path.whole().map(|path| &path[..]),
        )
    } else if seen.result == Some(0) && (name.role == Role::Create || is_first_removed(name, names))
    {
        of_child(name, names, seen)
    } else {
        return Three::Unknown;
    };
    let there = match (places.parent_during(path, seen.entry, seen.taken), parent) {
        (Found::File(directory), Some(parent)) => Three::from(directory == parent),
        _ => Three::Unknown,
    };
    there.and(text.map_or(Three::Unknown, |text| {
        (last_name(text) == last_name(path)).into()
    }))
}

/// Of two files that go, the second is the one whose place the first takes: nothing is gone from there.
fn is_first_removed(name: &Name, names: &Names) -> bool {
    let mut removed = (names.known.iter()).filter(|name| name.role == Role::Delete);
    removed.next() == Some(name)
}

/// Whether the call may have got at its file by the last name of `path`.
fn may_go_by(path: &[u8], seen: &Observation, places: &Places) -> bool {
    let wanted = last_name(path);
    if !seen.paths.is_empty() {
        let text =
            |path: &Captured<ByteString>| path.whole().is_none_or(|path| last_name(path) == wanted);
        return seen.paths.iter().any(|named| text(&named.path));
    }
    // By descriptor: what is known is where the file stands.
    let directory = places.parent_during(path, seen.entry, seen.taken);
    seen.standing.iter().all(|standing| {
        let above = standing.lineage.value().and_then(|lineage| lineage.get(1));
        above.is_none_or(|above| {
            let inode = *above;
            directory
                == Found::File(Identity {
                    dev: standing.dev,
                    inode,
                })
        })
    })
}

/// The directory that something was removed from or made in, and the path that named it.
fn of_child<'a>(
    name: &Name,
    names: &Names,
    seen: &'a Observation,
) -> (Option<Identity>, Option<&'a [u8]>) {
    let directory = name.name.and_then(|text| {
        let of_text = |other: &&Name| other.role == Role::Parent && other.name == Some(text);
        names.known.iter().find(of_text)
    });
    // Of two paths the first is where it is taken from.
    let path = match name.role {
        Role::Create => seen.paths.last(),
        _ => seen.paths.first(),
    };
    let text = path.and_then(|path| path.path.whole());
    (
        directory.map(|name| Identity::of(&name.inode)),
        text.map(|path| &path[..]),
    )
}

fn directory_of(opened: &OpenedFile) -> Option<Identity> {
    let above = opened.lineage.value().and_then(|lineage| lineage.get(1));
    let inode = opened
        .directory
        .map(|directory| directory.number)
        .or(above.copied())?;
    Some(Identity {
        dev: opened.inode.dev,
        inode,
    })
}

/// The last name of a path; none where it is deleted, which the kernel appends.
fn last_name(path: &[u8]) -> Option<&[u8]> {
    path.rsplit(|byte| *byte == b'/')
        .find(|name| !name.is_empty())
        .filter(|name| !name.ends_with(b" (deleted)"))
}

/// Whether the kernel, when it noted `name`, passed the directory that was marked for `path`.
///
/// Of a file that was looked up, or a directory, it passes all that stands above it; of one that is removed or created
/// only itself (`__audit_inode`, `__audit_inode_child`).
pub(super) fn below(path: &[u8], name: &Name, seen: &Observation, places: &Places) -> Three {
    let Some(inode) = name.found() else {
        return Three::No;
    };
    let own = Identity::of(inode);
    let alone = [own.inode];
    let lineage = match name.role {
        Role::Unknown => return Three::No,
        Role::Parent if name.name.is_none() => return Three::No,
        Role::Create | Role::Delete => Some((&alone[..], true)),
        Role::Normal | Role::Parent => lineage_of(own, seen),
    };
    let Found::File(marked) = places.marked(path) else {
        return Three::Unknown;
    };
    let above_it = |(above, _): &(&[u64], bool)| above.contains(&marked.inode);
    if marked == own || marked.dev == own.dev && lineage.as_ref().is_some_and(above_it) {
        return Three::Yes;
    }
    let Some(mounted) = places.mounted_below(path) else {
        return Three::Unknown;
    };
    let Some((above, whole)) = lineage else {
        // What is of another file system cannot stand below it, unless that is mounted there.
        let reaches = marked.dev == own.dev || mounted.iter().any(|mount| mount.dev == own.dev);
        return if reaches { Three::Unknown } else { Three::No };
    };
    // The kernel marked what was mounted there when the rule was loaded; which that was is not known.
    let perhaps = mounted
        .iter()
        .any(|mount| mount.dev == own.dev && mount.root.is_none_or(|root| above.contains(&root)));
    if perhaps || !whole {
        Three::Unknown
    } else {
        Three::No
    }
}

/// The inode numbers from `file`'s own up to the root of its file system, and whether these are all; none where nobody saw
/// it stand anywhere.
fn lineage_of(file: Identity, seen: &Observation) -> Option<(&[u64], bool)> {
    let opened = (seen.opened.iter()).map(|opened| (opened.inode.dev, &opened.lineage));
    let standing = (seen.standing.iter()).map(|standing| (standing.dev, &standing.lineage));
    opened
        .chain(standing)
        .filter(|(dev, _)| *dev == file.dev)
        .find_map(|(_, lineage)| {
            let numbers = lineage.value()?;
            let place = numbers.iter().position(|number| *number == file.inode)?;
            let whole = matches!(lineage, Captured::Whole(_));
            Some((&numbers[place..], whole))
        })
}
