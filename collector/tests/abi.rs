//! The kernel's numbers as this crate has them, against the kernel's own header (package linux-libc-dev).

use std::collections::HashMap;

use collector::audit::arch::Arch;
use collector::audit::rules::{Field, FilterList, Operator, Permissions};

const HEADER: &str = "/usr/include/linux/audit.h";

/// The `#define`s of the header that are plain numbers.
fn defines() -> HashMap<String, u32> {
    let text = std::fs::read_to_string(HEADER)
        .unwrap_or_else(|error| panic!("{HEADER}: {error}; install linux-libc-dev"));
    text.lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("#define")?.split_whitespace();
            let (name, value) = (words.next()?, words.next()?);
            let number = match value.strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => value.parse().ok()?,
            };
            Some((name.to_owned(), number))
        })
        .collect()
}

#[test]
fn fields_have_the_kernels_numbers() {
    let defines = defines();
    for (name, field) in [
        ("PID", Field::PID),
        ("UID", Field::UID),
        ("EUID", Field::EUID),
        ("SUID", Field::SUID),
        ("FSUID", Field::FSUID),
        ("GID", Field::GID),
        ("EGID", Field::EGID),
        ("SGID", Field::SGID),
        ("FSGID", Field::FSGID),
        ("LOGINUID", Field::LOGINUID),
        ("PERS", Field::PERS),
        ("ARCH", Field::ARCH),
        ("MSGTYPE", Field::MSGTYPE),
        ("SUBJ_USER", Field::SUBJ_USER),
        ("SUBJ_ROLE", Field::SUBJ_ROLE),
        ("SUBJ_TYPE", Field::SUBJ_TYPE),
        ("SUBJ_SEN", Field::SUBJ_SEN),
        ("SUBJ_CLR", Field::SUBJ_CLR),
        ("PPID", Field::PPID),
        ("OBJ_USER", Field::OBJ_USER),
        ("OBJ_ROLE", Field::OBJ_ROLE),
        ("OBJ_TYPE", Field::OBJ_TYPE),
        ("OBJ_LEV_LOW", Field::OBJ_LEV_LOW),
        ("OBJ_LEV_HIGH", Field::OBJ_LEV_HIGH),
        ("LOGINUID_SET", Field::LOGINUID_SET),
        ("SESSIONID", Field::SESSIONID),
        ("FSTYPE", Field::FSTYPE),
        ("DEVMAJOR", Field::DEVMAJOR),
        ("DEVMINOR", Field::DEVMINOR),
        ("INODE", Field::INODE),
        ("EXIT", Field::EXIT),
        ("SUCCESS", Field::SUCCESS),
        ("WATCH", Field::WATCH),
        ("PERM", Field::PERM),
        ("DIR", Field::DIR),
        ("FILETYPE", Field::FILETYPE),
        ("OBJ_UID", Field::OBJ_UID),
        ("OBJ_GID", Field::OBJ_GID),
        ("FIELD_COMPARE", Field::FIELD_COMPARE),
        ("EXE", Field::EXE),
        ("SADDR_FAM", Field::SADDR_FAM),
        ("ARG0", Field::ARG0),
        ("FILTERKEY", Field::FILTERKEY),
    ] {
        assert_eq!(
            defines.get(&format!("AUDIT_{name}")),
            Some(&field.0),
            "{name}"
        );
    }
    assert_eq!(Field::ARG3.0, Field::ARG0.0 + 3);
}

#[test]
fn lists_operators_and_permissions_have_the_kernels_numbers() {
    let defines = defines();
    for (name, number) in [
        ("FILTER_USER", FilterList::USER.0),
        ("FILTER_TASK", FilterList::TASK.0),
        ("FILTER_EXIT", FilterList::EXIT.0),
        ("FILTER_EXCLUDE", FilterList::EXCLUDE.0),
        ("FILTER_FS", FilterList::FILESYSTEM.0),
        ("FILTER_URING_EXIT", FilterList::URING_EXIT.0),
        ("EQUAL", Operator::EQUAL.0),
        ("BIT_MASK", Operator::BIT_MASK.0),
        ("LESS_THAN", Operator::LESS.0),
        ("GREATER_THAN", Operator::GREATER.0),
        ("PERM_EXEC", Permissions::EXECUTE.0),
        ("PERM_WRITE", Permissions::WRITE.0),
        ("PERM_READ", Permissions::READ.0),
        ("PERM_ATTR", Permissions::ATTRIBUTES.0),
    ] {
        assert_eq!(
            defines.get(&format!("AUDIT_{name}")),
            Some(&number),
            "{name}"
        );
    }
    // The header builds the others from these.
    let [equal, less, greater, mask] = [
        Operator::EQUAL,
        Operator::LESS,
        Operator::GREATER,
        Operator::BIT_MASK,
    ]
    .map(|operator| operator.0);
    assert_eq!(Operator::NOT_EQUAL.0, less | greater);
    assert_eq!(Operator::LESS_OR_EQUAL.0, less | equal);
    assert_eq!(Operator::GREATER_OR_EQUAL.0, greater | equal);
    assert_eq!(Operator::BIT_TEST.0, mask | equal);
}

#[test]
fn architectures_are_built_from_their_elf_numbers() {
    const BITS_64: u32 = 0x8000_0000;
    const LITTLE_ENDIAN: u32 = 0x4000_0000;
    for (arch, expected) in [
        (
            Arch::X86_64,
            u32::from(libc::EM_X86_64) | BITS_64 | LITTLE_ENDIAN,
        ),
        (Arch::I386, u32::from(libc::EM_386) | LITTLE_ENDIAN),
        (
            Arch::AARCH64,
            u32::from(libc::EM_AARCH64) | BITS_64 | LITTLE_ENDIAN,
        ),
        (Arch::ARM, u32::from(libc::EM_ARM) | LITTLE_ENDIAN),
        (
            Arch::RISCV64,
            u32::from(libc::EM_RISCV) | BITS_64 | LITTLE_ENDIAN,
        ),
    ] {
        assert_eq!(arch.0, expected, "{arch}");
    }
}
