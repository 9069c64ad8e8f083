//! The rules in the kernel as last read.

use std::collections::BTreeMap;

use crate::audit::rules::{FilterList, Rule};
use crate::clock::KtimeNs;

/// The rules in the kernel, and since when they are known to be these.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) loaded: Vec<Rule>,
    /// Counts the changes; samples of the witness say by which rules they were judged.
    pub(crate) generation: u32,
    /// When they were last seen to be these.
    pub(crate) confirmed: KtimeNs,
}

impl Held {
    /// How many rules are on each of the kernel's lists.
    pub(crate) fn by_list(&self) -> BTreeMap<&'static str, u64> {
        let mut lists: BTreeMap<_, _> = [
            FilterList::USER,
            FilterList::TASK,
            FilterList::EXIT,
            FilterList::EXCLUDE,
            FilterList::FILESYSTEM,
            FilterList::URING_EXIT,
        ]
        .map(|list| (list.name(), 0))
        .into();
        for rule in &self.loaded {
            *lists.entry(rule.list.name()).or_default() += 1;
        }
        lists
    }
}
