//! Offsets that only the records of a given-back event need. Where one is missing the programs do without all of them.

use collector_ebpf::{LabelLayout, NotingLayout};

use super::{BtfError, KernelTypes};
use crate::probe::features;

/// Where the kernel tells the addresses of its variables.
const SYMBOLS: &str = "/proc/kallsyms";

impl KernelTypes {
    /// What the kernel notes for its records.
    ///
    /// # Errors
    /// As [`Self::layout`].
    pub fn noting_layout(&self) -> Result<NotingLayout, BtfError> {
        const CONTEXT: &str = "audit_context";
        const NAMES: &str = "audit_names";
        let capabilities = self.offset(NAMES, "fcap")?;
        let within = |member| -> Result<u32, BtfError> {
            Ok(capabilities + self.offset("audit_cap_data", member)?)
        };
        let layout = NotingLayout {
            known: 1,
            title_length: self.offset(CONTEXT, "proctitle.len")?,
            title: self.offset(CONTEXT, "proctitle.value")?,
            name_count: self.offset(CONTEXT, "name_count")?,
            names: self.offset(CONTEXT, "names_list")?,
            kind: self.offset(CONTEXT, "type")?,
            special: self.offset(CONTEXT, "mmap")?,
            descriptors: self.offset(CONTEXT, "fds")?,
            aux: self.offset(CONTEXT, "aux")?,
            aux_pids: self.offset(CONTEXT, "aux_pids")?,
            target: self.offset(CONTEXT, "target_pid")?,
            target_comm: self.offset(CONTEXT, "target_comm")?,
            name_list: self.offset(NAMES, "list")?,
            name_text: self.offset(NAMES, "name")?,
            name_length: self.offset(NAMES, "name_len")?,
            name_hidden: self.offset(NAMES, "hidden")?,
            name_inode: self.offset(NAMES, "ino")?,
            name_permitted: within("permitted")?,
            name_effective: within("fE")?,
            name_root: within("rootid")?,
            name_version: self.offset(NAMES, "fcap_ver")?,
            name_role: self.offset(NAMES, "type")?,
            filename_text: self.offset("filename", "name")?,
            padding: 0,
        };
        // The programs read these at once.
        let file = ["dev", "mode", "uid", "gid", "rdev"];
        self.expect_in_order(NAMES, layout.name_inode + 8, 4, &file)?;
        let capabilities = ["permitted", "inheritable"];
        let first = layout.name_permitted - self.offset(NAMES, "fcap")?;
        self.expect_in_order("audit_cap_data", first, 8, &capabilities)?;
        let target = [
            "target_pid",
            "target_auid",
            "target_uid",
            "target_sessionid",
        ];
        self.expect_in_order(CONTEXT, layout.target, 4, &target)?;
        Ok(layout)
    }

    /// Where AppArmor keeps a task's label; none where the kernel does not tell.
    pub fn label_layout(&self) -> Option<LabelLayout> {
        let symbols = std::fs::read_to_string(SYMBOLS).ok()?;
        let blobs = address_of(&symbols, "apparmor_blob_sizes")?;
        let offset = |structure, member| self.offset(structure, member).ok();
        Some(LabelLayout {
            blobs,
            blobs_cred: offset("lsm_blob_sizes", "lbs_cred")?,
            cred_security: offset("cred", "security")?,
            label_name: offset("aa_label", "hname")?,
            label_size: offset("aa_label", "size")?,
            label_profiles: offset("aa_label", "vec")?,
            profile_namespace: offset("aa_profile", "ns")?,
            namespace_parent: offset("aa_ns", "parent")?,
            padding: 0,
        })
    }
}

/// What only the records of a given-back event need; where it is not known they say so.
pub(in crate::probe) struct Records {
    /// 1 where the kernel labels tasks.
    pub(in crate::probe) labels: u32,
    pub(in crate::probe) label: LabelLayout,
    pub(in crate::probe) noting: NotingLayout,
}

impl Records {
    /// Of the running kernel.
    pub(in crate::probe) fn of(types: &KernelTypes) -> Self {
        let labels = features::labels_tasks();
        let apparmor = labels && features::apparmor_labels_tasks();
        Self {
            labels: u32::from(labels),
            label: apparmor
                .then(|| types.label_layout())
                .flatten()
                .unwrap_or_default(),
            noting: types.noting_layout().unwrap_or_default(),
        }
    }
}

/// The address of a variable; none where it is hidden.
fn address_of(symbols: &str, name: &str) -> Option<u64> {
    let address = symbols.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (address, _, symbol) = (words.next()?, words.next()?, words.next()?);
        (symbol == name).then(|| u64::from_str_radix(address, 16).ok())?
    });
    address.filter(|address| *address != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_all_that_records_need() {
        let layout = KernelTypes::running().unwrap().noting_layout().unwrap();
        assert_eq!(layout.known, 1);
        assert_eq!(layout.title - layout.title_length, 8);
        assert!(layout.name_version > layout.name_permitted);
    }

    #[test]
    fn an_address_that_is_hidden_is_none() {
        let symbols = "0000000000000000 d hidden\nffffffff81000000 d shown\nffffffff82000000 t shown.part.0\n";
        assert_eq!(address_of(symbols, "shown"), Some(0xffff_ffff_8100_0000));
        assert_eq!(address_of(symbols, "hidden"), None);
        assert_eq!(address_of(symbols, "absent"), None);
    }
}
