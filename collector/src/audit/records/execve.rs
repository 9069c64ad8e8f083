//! The argument list of an execve, which may be spread over many EXECVE records.
//!
//! Bound: [`ExecveFields::MAX_ARGUMENTS`] arguments, so that a number in a record cannot make memory grow.

use crate::audit::fields::decode_untrusted;
use crate::audit::record::{Record, RecordType};

/// The arguments in all EXECVE records of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecveFields {
    /// How many arguments the program was given; none where the first record is missing.
    pub argc: Option<u64>,
    /// The arguments, `argv[0]` first. None for one that no record holds.
    pub argv: Vec<Option<Vec<u8>>>,
    /// Whether all `argc` arguments are there and every piece of each.
    pub complete: bool,
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

    /// Reads the EXECVE records among `records`, in their order. None where there are none.
    ///
    /// The kernel cuts an argument that does not fit a record into pieces (`a2_len=… a2[0]=… a2[1]=…`), each
    /// encoded by itself (kernel/auditsc.c `audit_log_execve_info`). The length it gives is of the text in the record and taken
    /// before the argument was read: it is not trusted here.
    pub fn from_records<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<Self> {
        let mut seen = false;
        let mut list = Self {
            argc: None,
            argv: Vec::new(),
            complete: true,
        };
        // Of the argument being put together from pieces: its index and the piece that comes next.
        let mut expected = (0, 0);
        for record in records {
            if record.record_type != RecordType::EXECVE {
                continue;
            }
            seen = true;
            for field in record.fields() {
                if field.name == b"argc" {
                    list.argc = field.value.as_u64();
                    continue;
                }
                let Some((index, part)) = argument(field.name) else {
                    continue;
                };
                if index >= Self::MAX_ARGUMENTS {
                    list.complete = false;
                    continue;
                }
                let Some(bytes) = decode_untrusted(field.name, field.value) else {
                    list.complete = false;
                    continue;
                };
                match part {
                    Part::Length => {}
                    Part::Whole => *list.slot(index) = Some(bytes.into_owned()),
                    Part::Piece(piece) => {
                        list.complete &= (piece == 0) || expected == (index, piece);
                        expected = (index, piece.saturating_add(1));
                        list.slot(index)
                            .get_or_insert_default()
                            .extend_from_slice(&bytes);
                    }
                }
            }
        }
        list.complete &=
            list.argc == Some(list.argv.len() as u64) && list.argv.iter().all(Option::is_some);
        seen.then_some(list)
    }

    fn slot(&mut self, index: usize) -> &mut Option<Vec<u8>> {
        if index >= self.argv.len() {
            self.argv.resize(index + 1, None);
        }
        &mut self.argv[index]
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

    fn records(bodies: &[&str]) -> Vec<Record> {
        bodies
            .iter()
            .map(|body| {
                let text = format!("audit(1.000:1): {body}");
                netlink_record(RecordType::EXECVE.0, text.as_bytes()).unwrap()
            })
            .collect()
    }

    fn read(bodies: &[&str]) -> ExecveFields {
        ExecveFields::from_records(&records(bodies)).unwrap()
    }

    #[test]
    fn arguments_in_one_record() {
        let list = read(&["argc=3 a0=\"ls\" a1=2D6C2061 a2=\"\""]);
        let argv = [&b"ls"[..], b"-l a", b""].map(|arg| Some(arg.to_vec()));
        assert_eq!(list.argv, argv);
        assert!(list.complete);
    }

    #[test]
    fn a_long_argument_is_joined_across_records() {
        let list = read(&[
            "argc=3 a0=\"sh\" a1_len=12 a1[0]=4142",
            "a1[1]=4344 a1[2]=45460A",
            "a2=\"end\"",
        ]);
        let argv = [&b"sh"[..], b"ABCDEF\n", b"end"].map(|arg| Some(arg.to_vec()));
        assert_eq!(list.argv, argv);
        assert!(list.complete);
    }

    #[test]
    fn a_lost_record_leaves_a_hole_and_not_a_shifted_list() {
        let list = read(&["argc=4 a0=\"sh\" a1=\"x\"", "a3=\"end\""]);
        assert_eq!(list.argv[2], None);
        assert_eq!(list.argv[3].as_deref(), Some(&b"end"[..]));
        assert!(!list.complete);
        assert!(!read(&["argc=2 a0=\"sh\" a1_len=6 a1[0]=41", "a1[2]=43"]).complete);
        assert!(!read(&["a1=\"x\""]).complete);
        assert!(!read(&["argc=3 a0=\"sh\" a1=\"x\""]).complete);
    }

    #[test]
    fn a_number_in_a_record_cannot_make_memory_grow() {
        let list =
            read(&["argc=18446744073709551615 a4000000000=\"x\" a99999999999999999999=\"y\""]);
        assert!(list.argv.is_empty());
        assert!(!list.complete);
    }

    proptest! {
        #[test]
        fn no_body_panics(body in "(argc=[0-9]{0,3} )?(a[0-9]{1,5}(_len|\\[[0-9]{0,20}\\])?=[0-9A-F\"]{0,6} ){0,9}") {
            ExecveFields::from_records(&records(&[&body]));
        }
    }
}
