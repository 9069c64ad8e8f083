//! EXECVE records: the argument list, in as many records as it takes (kernel/auditsc.c `audit_log_execve_info`).

use super::record::{RebuiltRecord, Source, needs_hex};
use crate::audit::record::RecordType;
use crate::byte_string::ByteString;
use crate::probe::observation::Captured;

/// `MAX_EXECVE_AUDIT_LEN`: what one record holds.
const RECORD: usize = 7_500;
/// `sizeof(abuf)`: what is kept free for an argument's name.
const NAME: usize = 96;

/// The records for `argv`, the strings joined by NUL; and whether the kernel has no others.
pub(super) fn records(argv: &Captured<ByteString>) -> (Vec<RebuiltRecord>, bool) {
    let mut record = RebuiltRecord::new(RecordType::EXECVE);
    let (bytes, whole) = match argv {
        Captured::Whole(bytes) | Captured::Late(bytes) => (&bytes[..], true),
        Captured::Truncated(bytes) => (&bytes[..], false),
        Captured::Absent | Captured::Unreadable => {
            record.unknown("argc");
            return (vec![record], false);
        }
    };
    let mut arguments: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    if whole {
        record.plain("argc", Source::Task, arguments.len());
    } else {
        // The last one was cut.
        arguments.pop();
        record.unknown("argc");
    }
    let mut writer = Writer {
        done: Vec::new(),
        record,
        left: RECORD,
    };
    for (number, argument) in arguments.iter().enumerate() {
        writer.argument(number, argument);
    }
    writer.done.push(writer.record);
    (writer.done, whole)
}

struct Writer {
    done: Vec<RebuiltRecord>,
    record: RebuiltRecord,
    /// `len_rem`: what is left of the record.
    left: usize,
}

impl Writer {
    /// Follows the kernel step by step, its buffer of [`RECORD`] bytes included, as that decides where it splits.
    fn argument(&mut self, number: usize, argument: &[u8]) {
        let mut full = argument.len();
        let mut unread = argument;
        let mut buffer: Vec<u8> = Vec::new();
        let mut encode = false;
        let mut more = true;
        let mut part = 0;
        // What the kernel takes the rest to need as text.
        let mut text = 0;
        loop {
            if more {
                let room = RECORD - buffer.len();
                let (now, later) = unread.split_at(unread.len().min(room));
                more = now.len() == room;
                if more {
                    encode = true;
                    full *= 2;
                } else {
                    encode = encode || needs_hex(now);
                    if full < RECORD {
                        full = if encode { now.len() * 2 } else { now.len() };
                    }
                }
                buffer.extend_from_slice(now);
                unread = later;
                text = if encode {
                    buffer.len() * 2
                } else {
                    buffer.len() + 2
                };
            }
            if NAME + 8 > self.left {
                self.left = RECORD;
                let next = RebuiltRecord::new(RecordType::EXECVE);
                self.done.push(std::mem::replace(&mut self.record, next));
            }
            let mut name = format!("a{number}");
            if more || part > 0 || text + NAME > self.left {
                if part == 0 {
                    let length = format!("a{number}_len");
                    self.left -= length.len() + 2 + full.to_string().len();
                    self.record.plain(length, Source::Task, full);
                }
                name = format!("a{number}[{part}]");
                part += 1;
            }
            self.left -= name.len() + 2;
            let mut length = buffer.len();
            if encode {
                if text > self.left {
                    length = self.left / 2;
                }
                self.record.hex(name, Source::Task, &buffer[..length]);
                self.left -= length * 2;
                text -= length * 2;
            } else {
                if text > self.left {
                    length = self.left - 2;
                }
                self.record.quoted(name, Source::Task, &buffer[..length]);
                self.left -= length + 2;
                text -= length;
            }
            buffer.drain(..length);
            if buffer.is_empty() && !more {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::{Provenance, Record, Serial, Stamp};
    use crate::audit::records::ExecveFields;
    use crate::clock::TimeMs;

    fn written(argv: &[u8]) -> Vec<RebuiltRecord> {
        let (records, whole) = records(&Captured::Whole(argv.into()));
        assert!(whole);
        records
    }

    /// What our own reader makes of them.
    fn read(records: &[RebuiltRecord]) -> ExecveFields {
        let records = records.iter().map(|record| Record {
            record_type: record.record_type,
            stamp: Stamp {
                time: TimeMs(1),
                serial: Serial(1),
            },
            node: None,
            body: &record.body,
            enrichment: None,
            provenance: Provenance::Stream,
        });
        ExecveFields::from_records(records).unwrap()
    }

    #[test]
    fn a_short_list_is_one_record() {
        let records = written(b"sh\0-c\0a b\"c\"\0");
        assert_eq!(records.len(), 1);
        let body = std::str::from_utf8(&records[0].body).unwrap();
        assert_eq!(body, "argc=4 a0=\"sh\" a1=\"-c\" a2=612062226322 a3=\"\"");
    }

    #[test]
    fn an_argument_beyond_a_record_is_split_and_says_its_length() {
        let long = vec![b'x'; 8_000];
        let records = written(&[b"echo\0", &long[..], b"\0end"].concat());
        assert!(records.len() > 1);
        let fields = read(&records);
        assert!(fields.complete);
        let argv: Vec<_> = fields.argv().collect();
        assert_eq!(argv[1..], [Some(&long[..]), Some(b"end")]);
        let first = String::from_utf8_lossy(&records[0].body).into_owned();
        assert!(
            first.starts_with("argc=3 a0=\"echo\" a1_len=16000 a1[0]=7878"),
            "{first:.60}"
        );
        for record in &records {
            assert!(record.body.len() < RECORD + NAME);
        }
    }

    #[test]
    fn many_arguments_run_on_in_further_records() {
        let many: Vec<u8> = vec!["argument"; 700].join("\0").into();
        let records = written(&many);
        assert_eq!(records.len(), 2);
        assert_eq!(read(&records).argv().len(), 700);
        assert!(records[1].field("a699").is_some());
    }

    #[test]
    fn of_a_list_that_was_cut_the_count_is_not_known() {
        let (records, whole) = records(&Captured::Truncated(b"a\0b\0cu"[..].into()));
        assert!(!whole);
        assert_eq!(records[0].body, b"argc=? a0=\"a\" a1=\"b\"");
    }
}
