//! Offsets of the running kernel's structures, from its BTF.
//!
//! Owns the list of members the programs read; must not know the programs or maps. Offsets differ by configuration
//! within one kernel version, so nothing here is a constant.

mod noting;

pub(super) use noting::Records;

use std::path::Path;

use btf_rs::{Btf, Struct, Type};
use collector_ebpf::{ContextLayout, Layout, QueueLayout};

use crate::probe::features::release;

/// Where the kernel shows its types (kernel/bpf/sysfs_btf.c, since 5.4).
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
/// How deep anonymous structures and unions are searched.
const MAX_NESTING: u32 = 8;

/// Why the offsets could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The kernel shows no types.
    #[error("cannot read the kernel's types from {path}; it needs CONFIG_DEBUG_INFO_BTF=y")]
    Unreadable {
        /// The file tried.
        path: String,
        /// What went wrong.
        #[source]
        source: btf_rs::Error,
    },
    /// A structure is not there.
    #[error("kernel {release} has no struct {structure} in its BTF")]
    NoStructure {
        /// The kernel's release.
        release: String,
        /// The structure's name.
        structure: &'static str,
    },
    /// A member is not there.
    #[error("struct {structure} of kernel {release} has no member {member}")]
    NoMember {
        /// The kernel's release.
        release: String,
        /// The structure's name.
        structure: &'static str,
        /// The member, with dots between the names.
        member: &'static str,
    },
    /// Members that always stood one after the other do not.
    #[error(
        "struct {structure} of kernel {release} is laid out at random (CONFIG_RANDSTRUCT); {member} is not where expected"
    )]
    RandomLayout {
        /// The kernel's release.
        release: String,
        /// The structure's name.
        structure: &'static str,
        /// The first member out of order.
        member: &'static str,
    },
}

/// The types of one kernel.
pub struct KernelTypes {
    btf: Btf,
    release: String,
}

impl KernelTypes {
    /// Reads the running kernel's types.
    ///
    /// # Errors
    /// [`BtfError::Unreadable`].
    pub fn running() -> Result<Self, BtfError> {
        Self::from_file(Path::new(KERNEL_BTF), release())
    }

    /// Reads types from a file, as of the kernel `release`.
    ///
    /// # Errors
    /// [`BtfError::Unreadable`].
    pub fn from_file(path: &Path, release: String) -> Result<Self, BtfError> {
        let btf = Btf::from_file(path).map_err(|source| BtfError::Unreadable {
            path: path.display().to_string(),
            source,
        })?;
        Ok(Self { btf, release })
    }

    /// Every offset the programs need.
    ///
    /// # Errors
    /// Names the first structure or member that is missing or out of place.
    pub fn layout(&self) -> Result<Layout, BtfError> {
        let compat = if cfg!(target_arch = "x86_64") {
            "thread_info.status"
        } else {
            "thread_info.flags"
        };
        let layout = Layout {
            task_compat: self.offset("task_struct", compat)?,
            task_cred: self.offset("task_struct", "cred")?,
            task_real_parent: self.offset("task_struct", "real_parent")?,
            task_tgid: self.offset("task_struct", "tgid")?,
            task_loginuid: self.offset("task_struct", "loginuid")?,
            task_sessionid: self.offset("task_struct", "sessionid")?,
            task_personality: self.offset("task_struct", "personality")?,
            task_audit_context: self.offset("task_struct", "audit_context")?,
            task_signal: self.offset("task_struct", "signal")?,
            task_mm: self.offset("task_struct", "mm")?,
            task_fs: self.offset("task_struct", "fs")?,
            cred_uid: self.offset("cred", "uid")?,
            signal_tty: self.offset("signal_struct", "tty")?,
            tty_name: self.offset("tty_struct", "name")?,
            mm_exe_file: self.offset("mm_struct", "exe_file")?,
            mm_arg_start: self.offset("mm_struct", "arg_start")?,
            mm_arg_end: self.offset("mm_struct", "arg_end")?,
            file_path: self.offset("file", "f_path")?,
            fs_pwd: self.offset("fs_struct", "pwd")?,
            fs_root: self.offset("fs_struct", "root")?,
            dentry_parent: self.offset("dentry", "d_parent")?,
            dentry_name: self.offset("dentry", "d_name.name")?,
            dentry_hash_pprev: self.offset("dentry", "d_hash.pprev")?,
            vfsmount_root: self.offset("vfsmount", "mnt_root")?,
            mount_mnt: self.offset("mount", "mnt")?,
            mount_parent: self.offset("mount", "mnt_parent")?,
            mount_mountpoint: self.offset("mount", "mnt_mountpoint")?,
            task_files: self.offset("task_struct", "files")?,
            files_fdt: self.offset("files_struct", "fdt")?,
            fdt_max_fds: self.offset("fdtable", "max_fds")?,
            fdt_fd: self.offset("fdtable", "fd")?,
            file_inode: self.offset("file", "f_inode")?,
            file_mode: self.offset("file", "f_mode")?,
            file_flags: self.offset("file", "f_flags")?,
            dentry_inode: self.offset("dentry", "d_inode")?,
            inode_mode: self.offset("inode", "i_mode")?,
            inode_uid: self.offset("inode", "i_uid")?,
            inode_rdev: self.offset("inode", "i_rdev")?,
            inode_sb: self.offset("inode", "i_sb")?,
            inode_ino: self.offset("inode", "i_ino")?,
            sb_dev: self.offset("super_block", "s_dev")?,
            sb_magic: self.offset("super_block", "s_magic")?,
            cred_group_info: self.offset("cred", "group_info")?,
            group_info_ngroups: self.offset("group_info", "ngroups")?,
            group_info_gid: self.offset("group_info", "gid")?,
            audit_state: self.offset("audit_context", "state")?,
            audit_names: self.offset("audit_context", "preallocated_names")?,
            names_size: self.size("audit_names")?,
            names_name: self.offset("audit_names", "name")?,
            names_ino: self.offset("audit_names", "ino")?,
            names_type: self.offset("audit_names", "type")?,
        };
        // The programs read these at once.
        let ids = [
            "uid", "gid", "suid", "sgid", "euid", "egid", "fsuid", "fsgid",
        ];
        self.expect_in_order("cred", layout.cred_uid, 4, &ids)?;
        self.expect_in_order("path", 0, 8, &["mnt", "dentry"])?;
        self.expect_in_order("inode", layout.inode_uid, 4, &["i_uid", "i_gid"])?;
        let file = ["dev", "mode", "uid", "gid", "rdev"];
        self.expect_in_order("audit_names", layout.names_ino + 8, 4, &file)?;
        Ok(layout)
    }

    /// The offsets that only the hooks on the audit code need.
    ///
    /// # Errors
    /// As [`Self::layout`].
    pub fn context_layout(&self) -> Result<ContextLayout, BtfError> {
        const CONTEXT: &str = "audit_context";
        let layout = ContextLayout {
            kind: self.offset_of_either(CONTEXT, ["context", "in_syscall"])?,
            serial: self.offset_of_either(CONTEXT, ["stamp.serial", "serial"])?,
            ctime: self.offset_of_either(CONTEXT, ["stamp.ctime", "ctime"])?,
            major: self.offset(CONTEXT, "major")?,
            argv: self.offset(CONTEXT, "argv")?,
            return_code: self.offset(CONTEXT, "return_code")?,
            return_valid: self.offset(CONTEXT, "return_valid")?,
            arch: self.offset(CONTEXT, "arch")?,
            pwd: self.offset(CONTEXT, "pwd")?,
            filterkey: self.offset(CONTEXT, "filterkey")?,
            sockaddr: self.offset(CONTEXT, "sockaddr")?,
            sockaddr_len: self.offset(CONTEXT, "sockaddr_len")?,
            name_count: self.offset(CONTEXT, "name_count")?,
            // Before io_uring was audited no context is of one of its operations.
            uring_op: self.offset(CONTEXT, "uring_op").unwrap_or_default(),
        };
        self.expect_in_order("timespec64", 0, 8, &["tv_sec", "tv_nsec"])?;
        Ok(layout)
    }

    /// The offsets that only the hooks behind the audit queue need.
    ///
    /// # Errors
    /// As [`Self::layout`].
    pub fn queue_layout(&self) -> Result<QueueLayout, BtfError> {
        Ok(QueueLayout {
            skb_data: self.offset("sk_buff", "data")?,
            skb_len: self.offset("sk_buff", "len")?,
            sock_cookie: self.offset("sock", "__sk_common.skc_cookie")?,
        })
    }

    /// The offset of the first of `members` that is there: kernels have moved it.
    fn offset_of_either(
        &self,
        structure: &'static str,
        members: [&'static str; 2],
    ) -> Result<u32, BtfError> {
        let [now, formerly] = members;
        self.offset(structure, now)
            .or_else(|error| self.offset(structure, formerly).map_err(|_| error))
    }

    /// That `members` stand one after the other from `start` on, each `size` bytes long.
    fn expect_in_order(
        &self,
        structure: &'static str,
        start: u32,
        size: u32,
        members: &[&'static str],
    ) -> Result<(), BtfError> {
        let mut expected = start;
        for member in members {
            if self.offset(structure, member)? != expected {
                return Err(BtfError::RandomLayout {
                    release: self.release.clone(),
                    structure,
                    member,
                });
            }
            expected += size;
        }
        Ok(())
    }

    /// Bytes from the start of `structure` to `member`, whose names are separated by dots.
    fn offset(&self, structure: &'static str, member: &'static str) -> Result<u32, BtfError> {
        let no_member = || BtfError::NoMember {
            release: self.release.clone(),
            structure,
            member,
        };
        let mut within = self.structure(structure)?;
        let mut bits = 0;
        let mut names = member.split('.').peekable();
        while let Some(name) = names.next() {
            let (at, of) = self
                .member(&within, name, MAX_NESTING)
                .ok_or_else(no_member)?;
            bits += at;
            if names.peek().is_some() {
                within = self.structure_behind(of).ok_or_else(no_member)?;
            }
        }
        Ok(bits / 8)
    }

    /// Bytes of `structure`.
    fn size(&self, structure: &'static str) -> Result<u32, BtfError> {
        let found = self.structure(structure)?;
        Ok(u32::try_from(found.size()).unwrap_or(u32::MAX))
    }

    fn structure(&self, structure: &'static str) -> Result<Struct, BtfError> {
        self.btf
            .resolve_types_by_name(structure)
            .unwrap_or_default()
            .into_iter()
            .find_map(|found| match found {
                Type::Struct(found) => Some(found),
                _ => None,
            })
            .ok_or_else(|| BtfError::NoStructure {
                release: self.release.clone(),
                structure,
            })
    }

    /// Offset in bits and type of the member `name`, also within members that have no name.
    fn member(&self, within: &Struct, name: &str, nesting: u32) -> Option<(u32, Type)> {
        for member in &within.members {
            let of = || self.btf.resolve_chained_type(member).ok();
            let member_name = self.btf.resolve_name(member).unwrap_or_default();
            if member_name == name {
                return Some((member.bit_offset(), of()?));
            }
            if member_name.is_empty()
                && nesting > 0
                && let Some(inner) = of().and_then(|of| self.structure_behind(of))
                && let Some((bits, of)) = self.member(&inner, name, nesting - 1)
            {
                return Some((member.bit_offset() + bits, of));
            }
        }
        None
    }

    /// The structure that `of` is by whatever names and qualifiers.
    fn structure_behind(&self, of: Type) -> Option<Struct> {
        let mut of = of;
        for _ in 0..MAX_NESTING {
            of = match of {
                Type::Struct(found) | Type::Union(found) => return Some(found),
                Type::Typedef(typedef) => self.btf.resolve_chained_type(&typedef).ok()?,
                Type::Const(qualified) | Type::Volatile(qualified) => {
                    self.btf.resolve_chained_type(&qualified).ok()?
                }
                _ => return None,
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// None where this machine's kernel shows no types, which is an error only where CI promises a kernel.
    fn running() -> Option<KernelTypes> {
        match KernelTypes::running() {
            Ok(types) => Some(types),
            Err(error) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("{error}"),
            Err(error) => {
                eprintln!("not run: {error}");
                None
            }
        }
    }

    #[test]
    fn the_running_kernel_has_every_member() {
        let Some(types) = running() else { return };
        let layout = types.layout().unwrap();
        assert_ne!(layout.task_cred, layout.task_real_parent);
        assert_ne!(layout.fs_pwd, layout.fs_root);
        let context = types.context_layout().unwrap();
        assert_eq!(context.kind, 4, "as every kernel so far has it");
        assert!(context.serial < context.argv && context.argv < context.arch);
        let queue = types.queue_layout().unwrap();
        assert!(queue.skb_len < queue.skb_data && queue.sock_cookie > 0);
    }

    #[test]
    fn a_missing_member_is_named_with_its_structure() {
        let Some(types) = running() else { return };
        let error = types
            .offset("task_struct", "cred_of_the_future")
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("struct task_struct of kernel "),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .ends_with("has no member cred_of_the_future"),
            "{error}"
        );
        let error = types.offset("no_such_struct", "x").unwrap_err();
        assert!(
            error.to_string().contains("no struct no_such_struct"),
            "{error}"
        );
    }
}
