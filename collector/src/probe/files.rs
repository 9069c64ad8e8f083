//! What rules ask about files, and three-valued answers.
//!
//! Semantics of kernel/auditsc.c `audit_filter_rules` and kernel/audit_watch.c, kernel/audit_tree.c (6.12).

use collector_ebpf::Comparison;

use crate::audit::rules::{Condition, Field, Operator, Rule};
use crate::clock::KtimeNs;
use crate::probe::compile::compare;
use crate::probe::names::{Name, Role};
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

/// Whether a file is the one watched at `path`.
///
/// The kernel knows it by its inode, and follows what happens at the path: whatever stands there under that name in that
/// directory is it, also if it was created by this very call.
pub(super) fn watched(
    path: &[u8],
    name: &Name,
    seen: &Observation,
    places: &Places,
    (from, to): (KtimeNs, KtimeNs),
) -> Three {
    if name.role != Role::Parent
        && let Some(opened) = &seen.opened
        && let Some(directory) = directory_of(opened)
        && places.parent_during(path, from, to) == Found::File(directory)
        && last_name(path) == opened.path.whole().and_then(|path| last_name(path))
    {
        return Three::Yes;
    }
    match places.during(path, from, to) {
        Found::Unknown => Three::Unknown,
        Found::Nothing => Three::No,
        Found::File(file) => (Identity::of(&name.inode) == file).into(),
    }
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
        .next()
        .filter(|name| !name.is_empty() && !name.ends_with(b" (deleted)"))
}

/// Whether the opened file is in the directory that was marked for `path`.
pub(super) fn below(path: &[u8], seen: &Observation, places: &Places) -> Three {
    let (Some(opened), Found::File(marked)) = (&seen.opened, places.marked(path)) else {
        return Three::Unknown;
    };
    let dev = opened.inode.dev;
    let Some(lineage) = opened.lineage.value() else {
        return Three::Unknown;
    };
    if marked.dev == dev && lineage.contains(&marked.inode) {
        return Three::Yes;
    }
    let (Captured::Whole(_), Some(mounted)) = (&opened.lineage, places.mounted_below(path)) else {
        return Three::Unknown;
    };
    // The kernel marked what was mounted there when the rule was loaded; which that was is not known.
    let perhaps = mounted
        .iter()
        .any(|mount| mount.dev == dev && mount.root.is_none_or(|root| lineage.contains(&root)));
    if perhaps { Three::Unknown } else { Three::No }
}
