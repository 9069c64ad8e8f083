//! What one line of auditctl's language asks for.

use crate::audit::feature::Feature;
use crate::audit::language::fault::Fault;
use crate::audit::rules::{Placement, Rule};
use crate::audit::status::StatusField;

/// One line, understood. A line may ask for several things (`-e 1 -f 1`), in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// What it asks for.
    pub directives: Vec<Directive>,
    /// What is allowed but probably not meant, such as system calls without an architecture.
    pub warnings: Vec<Fault>,
}

/// One thing a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directive {
    /// `-a`, `-A`, `-w`
    Add {
        /// The rule.
        rule: Rule,
        /// At which end of its list.
        placement: Placement,
    },
    /// `-d`, `-W`
    Delete {
        /// The rule.
        rule: Rule,
    },
    /// `-D`: every rule, or with `-k` every rule with that key.
    DeleteAll {
        /// The key.
        key: Option<Box<[u8]>>,
    },
    /// `-b`, `--backlog_wait_time`, `-e`, `-f`, `-r`
    Set {
        /// Which setting.
        field: StatusField,
        /// Its value in the kernel's unit.
        value: u32,
    },
    /// `--reset-lost`, `--reset_backlog_wait_time_actual`
    Reset {
        /// Which counter.
        field: StatusField,
    },
    /// `--loginuid-immutable`: switches a feature on and locks it until reboot.
    Lock {
        /// Which feature.
        feature: Feature,
    },
    /// `-c`: go on after an error, and fail in the end.
    ContinueOnErrors,
    /// `-i`: go on after an error, and succeed in the end.
    IgnoreErrors,
    /// `-t`: drop the watches of subtrees that were unmounted.
    Trim,
    /// `-q mount,subtree`: watches below `mount` hold below `subtree` too.
    MakeEquivalent {
        /// Where the subtree is mounted.
        mount: Box<[u8]>,
        /// The subtree.
        subtree: Box<[u8]>,
    },
    /// `-m`: a message of user space into the log.
    Message {
        /// Its text.
        text: Box<[u8]>,
    },
    /// `-i` after `-l` or `-s`: what these show, they show with names for numbers.
    Interpret,
    /// `-s`
    Status,
    /// `-l`, with `-k` only the rules with that key.
    List {
        /// The key.
        key: Option<Box<[u8]>>,
    },
    /// `-R file`
    Read {
        /// The file.
        path: Box<[u8]>,
    },
    /// `-v`
    Version,
    /// `-h`
    Help,
}
