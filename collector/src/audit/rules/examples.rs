//! The rules a newcomer begins with.

use super::{Field, Operator, Permissions, Rule};
use crate::audit::arch::Arch;

/// A small set of rules to begin with, tagged with `key`: programs started, writes and changes of attributes under
/// `/etc`, connections. For the native architecture and its 32-bit sibling.
///
/// The rules for `/etc` name the system calls that can match `perm=wa` (the classes of
/// include/asm-generic/audit_{write,dir_write,change_attr}.h and the open calls) and no others: the kernel decides the
/// same as with `-S all`, and neither it nor the eBPF witness need look at the rest.
pub fn example_rules(key: &str) -> Vec<Rule> {
    [Some(Arch::NATIVE), Arch::COMPAT]
        .into_iter()
        .flatten()
        .flat_map(|arch| {
            let rule = |names: &[&str]| Rule::always_exit().arch(arch).syscalls(arch, names);
            let mut rules = vec![
                rule(&["execve", "execveat"]).key(key),
                rule(&WRITES_AND_ATTRIBUTES)
                    .text(Field::DIR, Operator::EQUAL, "/etc")
                    .condition(
                        Field::PERM,
                        Operator::EQUAL,
                        Permissions::WRITE.and(Permissions::ATTRIBUTES).0,
                    )
                    .key(key),
                rule(&["connect"]).key(key),
            ];
            if arch == Arch::I386 {
                // Older programs connect through socketcall(2); its first argument says what it does.
                rules.push(
                    rule(&["socketcall"])
                        .condition(Field::ARG0, Operator::EQUAL, SYS_CONNECT)
                        .key(key),
                );
            }
            rules
        })
        .collect()
}

/// `SYS_CONNECT` of include/uapi/linux/net.h.
const SYS_CONNECT: u32 = 3;

const WRITES_AND_ATTRIBUTES: [&str; 46] = [
    "open",
    "openat",
    "openat2",
    "creat",
    "rename",
    "renameat",
    "renameat2",
    "mkdir",
    "mkdirat",
    "rmdir",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "symlink",
    "symlinkat",
    "mknod",
    "mknodat",
    "acct",
    "swapon",
    "quotactl",
    "truncate",
    "truncate64",
    "ftruncate",
    "ftruncate64",
    "bind",
    "fallocate",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "lchown",
    "fchown",
    "fchownat",
    "chown32",
    "lchown32",
    "fchown32",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "setxattrat",
    "removexattrat",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_rules_are_tagged_and_limited_to_an_architecture() {
        let rules = example_rules("mine");
        assert!(rules.len() >= 3);
        for rule in &rules {
            assert_eq!(rule.keys().collect::<Vec<_>>(), [b"mine"]);
            assert!(rule.arch_condition().is_some(), "{rule}");
            assert!(rule.syscall_numbers().next().is_some(), "{rule}");
            assert!(!rule.names_all_syscalls());
        }
    }
}
