//! The argument list of an execve, which may be spread over many EXECVE records.
//!
//! Bound: [`ExecveFields::MAX_ARGUMENTS`] arguments, so that a number in a record cannot make memory grow.

use std::mem;

use crate::audit::fields::Text;
use crate::audit::record::{Record, RecordType};

/// The arguments in all EXECVE records of one event.
#[derive(Clone, Debug, Default)]
pub struct ExecveFields {
    /// How many arguments the program was given; none where the first record is missing.
    pub argc: Option<u64>,
    /// Whether all `argc` arguments are there and every piece of each.
    pub complete: bool,
    arguments: Vec<Argument>,
    /// How many of them are this list's. Those behind it were an earlier one's, and are kept for their memory.
    n_arguments: usize,
}

/// One argument.
#[derive(Clone, Debug, Default)]
struct Argument {
    /// Whether a record holds it, or a piece of it.
    came: bool,
    bytes: Vec<u8>,
}

/// What `a0`, `a0_len` or `a0[0]` names.
enum Part {
    Whole,
    Length,
    Piece(u64),
}

impl ExecveFields {
    /// More arguments than this are dropped, and the list is not `complete`. With 7,500 bytes of arguments in a record
    /// the kernel needs dozens of records to get here.
    pub const MAX_ARGUMENTS: usize = 1 << 16;
    /// How many arguments' memory is kept from one list to the next, and how many bytes of all.
    const KEPT: (usize, usize) = (1_024, 256 << 10);

    /// Reads the EXECVE records among `records`, in their order. None where there are none.
    pub fn from_records<'a>(records: impl IntoIterator<Item = Record<'a>>) -> Option<Self> {
        let mut list = Self::default();
        list.read(records).then_some(list)
    }

    /// The arguments, `argv[0]` first. None for one that no record holds.
    pub fn argv(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> + Clone {
        let arguments = self.arguments[..self.n_arguments].iter();
        arguments.map(|argument| argument.came.then_some(&*argument.bytes))
    }

    /// Becomes what the EXECVE records among `records` say, in their order. False where there are none.
    ///
    /// The kernel cuts an argument that does not fit a record into pieces (`a2_len=… a2[0]=… a2[1]=…`), each
    /// encoded by itself (kernel/auditsc.c `audit_log_execve_info`). The length it gives is of the text in the record and taken
    /// before the argument was read: it is not trusted here.
    pub fn read<'a>(&mut self, records: impl IntoIterator<Item = Record<'a>>) -> bool {
        self.clear();
        let mut seen = false;
        // Of the argument being put together from pieces: its index and the piece that comes next.
        let mut expected = (0, 0);
        for record in records {
            if record.record_type != RecordType::EXECVE {
                continue;
            }
            seen = true;
            for field in record.fields() {
                if field.name == b"argc" {
                    self.argc = field.value.as_u64();
                    continue;
                }
                let Some((index, part)) = argument(field.name) else {
                    continue;
                };
                if index >= Self::MAX_ARGUMENTS {
                    self.complete = false;
                    continue;
                }
                let Some(text) = Text::untrusted(field.value) else {
                    self.complete = false;
                    continue;
                };
                match part {
                    Part::Length => {}
                    Part::Whole => {
                        let bytes = self.slot(index);
                        bytes.clear();
                        text.append(bytes);
                    }
                    Part::Piece(piece) => {
                        self.complete &= (piece == 0) || expected == (index, piece);
                        expected = (index, piece.saturating_add(1));
                        text.append(self.slot(index));
                    }
                }
            }
        }
        self.complete &= self.argc == Some(self.n_arguments as u64)
            && self.argv().all(|argument| argument.is_some());
        seen
    }

    fn clear(&mut self) {
        (self.argc, self.complete) = (None, true);
        if mem::take(&mut self.n_arguments) == 0 {
            return;
        }
        let (arguments, mut room) = Self::KEPT;
        self.arguments.truncate(arguments);
        self.arguments.shrink_to(arguments);
        for argument in &mut self.arguments {
            argument.came = false;
            argument.bytes.clear();
            match room.checked_sub(argument.bytes.capacity()) {
                Some(left) => room = left,
                None => argument.bytes = Vec::new(),
            }
        }
    }

    /// The bytes of an argument of which a record holds something.
    fn slot(&mut self, index: usize) -> &mut Vec<u8> {
        self.n_arguments = self.n_arguments.max(index + 1);
        if index >= self.arguments.len() {
            self.arguments.resize_with(index + 1, Argument::default);
        }
        let argument = &mut self.arguments[index];
        argument.came = true;
        &mut argument.bytes
    }
}

fn argument(name: &[u8]) -> Option<(usize, Part)> {
    let rest = name.strip_prefix(b"a")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let index = decimal(&rest[..digits])?;
    let part = match &rest[digits..] {
        b"" => Part::Whole,
        b"_len" => Part::Length,
        [b'[', piece @ .., b']'] => Part::Piece(decimal(piece)?),
        _ => return None,
    };
    Some((usize::try_from(index).ok()?, part))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse::netlink_record;
    use proptest::prelude::*;

    fn records<'a>(bodies: &[&'a str]) -> Vec<Record<'a>> {
        let empty = netlink_record(RecordType::EXECVE.0, b"audit(1.000:1): ").unwrap();
        let record = |body: &&'a str| Record {
            body: body.as_bytes(),
            ..empty
        };
        bodies.iter().map(record).collect()
    }

    fn argv(list: &ExecveFields) -> Vec<Option<&[u8]>> {
        list.argv().collect()
    }

    fn read(bodies: &[&str]) -> ExecveFields {
        ExecveFields::from_records(records(bodies)).unwrap()
    }

    #[test]
    fn arguments_in_one_record() {
        let list = read(&["argc=3 a0=\"ls\" a1=2D6C2061 a2=\"\""]);
        let expected = [&b"ls"[..], b"-l a", b""].map(Some);
        assert_eq!(argv(&list), expected);
        assert!(list.complete);
    }

    #[test]
    fn a_long_argument_is_joined_across_records() {
        let list = read(&[
            "argc=3 a0=\"sh\" a1_len=12 a1[0]=4142",
            "a1[1]=4344 a1[2]=45460A",
            "a2=\"end\"",
        ]);
        let expected = [&b"sh"[..], b"ABCDEF\n", b"end"].map(Some);
        assert_eq!(argv(&list), expected);
        assert!(list.complete);
    }

    #[test]
    fn a_lost_record_leaves_a_hole_and_not_a_shifted_list() {
        let list = read(&["argc=4 a0=\"sh\" a1=\"x\"", "a3=\"end\""]);
        assert_eq!(argv(&list)[2], None);
        assert_eq!(argv(&list)[3], Some(&b"end"[..]));
        assert!(!list.complete);
        assert!(!read(&["argc=2 a0=\"sh\" a1_len=6 a1[0]=41", "a1[2]=43"]).complete);
        assert!(!read(&["a1=\"x\""]).complete);
        assert!(!read(&["argc=3 a0=\"sh\" a1=\"x\""]).complete);
    }

    #[test]
    fn a_number_in_a_record_cannot_make_memory_grow() {
        let list =
            read(&["argc=18446744073709551615 a4000000000=\"x\" a99999999999999999999=\"y\""]);
        assert!(argv(&list).is_empty());
        assert!(!list.complete);
    }

    proptest! {
        #[test]
        fn no_body_panics_and_what_was_read_before_makes_no_difference(
            bodies in proptest::collection::vec(
                "(argc=[0-9]{0,3} )?(a[0-9]{1,5}(_len|\\[[0-9]{0,20}\\])?=[0-9A-F\"]{0,6} ){0,9}", 2,
            ),
        ) {
            let mut used = read(&[&bodies[0]]);
            let fresh = read(&[&bodies[1]]);
            prop_assert!(used.read(records(&[&bodies[1]])));
            prop_assert_eq!(argv(&used), argv(&fresh));
            prop_assert_eq!((used.argc, used.complete), (fresh.argc, fresh.complete));
        }
    }
}
