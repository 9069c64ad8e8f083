//! Audit rules as the kernel holds them, `struct audit_rule_data` of include/uapi/linux/audit.h.

/// Which of the kernel's lists a rule is on (`AUDIT_FILTER_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilterList(pub u32);

impl FilterList {
    /// Messages from user space.
    pub const USER: Self = Self(0);
    /// Task creation.
    pub const TASK: Self = Self(1);
    /// System call exit.
    pub const EXIT: Self = Self(4);
    /// Records that are not wanted.
    pub const EXCLUDE: Self = Self(5);
    /// File systems.
    pub const FILESYSTEM: Self = Self(6);
    /// io_uring operations.
    pub const URING_EXIT: Self = Self(7);
}

/// What a rule that matches does (`AUDIT_NEVER`, `AUDIT_ALWAYS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// No event.
    Never,
    /// An event.
    Always,
}

/// How a field compares (`AUDIT_EQUAL` …), the `fieldflags` of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operator(pub u32);

impl Operator {
    /// `=`
    pub const EQUAL: Self = Self(0x4000_0000);
    /// `!=`
    pub const NOT_EQUAL: Self = Self(0x3000_0000);
    /// `<`
    pub const LESS: Self = Self(0x1000_0000);
    /// `>`
    pub const GREATER: Self = Self(0x2000_0000);
    /// `<=`
    pub const LESS_OR_EQUAL: Self = Self(0x5000_0000);
    /// `>=`
    pub const GREATER_OR_EQUAL: Self = Self(0x6000_0000);
    /// `&`
    pub const BIT_MASK: Self = Self(0x0800_0000);
    /// `&=`
    pub const BIT_TEST: Self = Self(0x4800_0000);
}

/// A field a rule compares (`AUDIT_PID` …).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field(pub u32);

/// One comparison of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which field.
    pub field: Field,
    /// How it compares.
    pub operator: Operator,
    /// The number to compare with; for fields with a string its length, as on the wire.
    pub value: u32,
    /// The string of fields that have one (paths, keys, labels).
    pub string: Option<Box<[u8]>>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The list it is on, without the prepend flag.
    pub list: FilterList,
    /// What it does.
    pub action: Action,
    /// The system calls it names, bit `nr % 32` of word `nr / 32`.
    pub syscalls: [u32; 64],
    /// Its comparisons; all must hold.
    pub conditions: Vec<Condition>,
}
