//! Bytes from a socket or a log line into a record, and a record back into a log line.
//!
//! Owns the outer form of a record: type, node, stamp, body, enrichment. Bodies stay the bytes the kernel wrote; see
//! [`crate::audit::fields`] for what is in them. Does no I/O, borrows and does not allocate, never panics on any bytes.

use crate::audit::record::{Provenance, Record, RecordType, Serial, Stamp};
use crate::clock::TimeMs;
use crate::digits;

/// What parts the kernel's text from auditd's in an enriched log (`log_format = ENRICHED`, auditd.conf(5)).
const ENRICHMENT: u8 = 0x1d;

/// Why bytes are no record. `at` is the offset of the byte where it was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Something else stands where the form asks for `wanted`.
    #[error("no {wanted:?} at byte {at} of the record")]
    Form {
        /// What had to be there.
        wanted: &'static str,
        /// Where.
        at: usize,
    },
    /// A number of the stamp is missing or too large.
    #[error("no valid {what} in the stamp at byte {at} of the record")]
    Stamp {
        /// Which number.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// `type=` holds a name this program does not know.
    #[error("unknown record type, {length} bytes long, at byte {at} of the record")]
    UnknownType {
        /// Where.
        at: usize,
        /// Its length in bytes.
        length: usize,
    },
}

/// Parses what follows the netlink header of one datagram: `audit(1700000000.123:45): body`.
///
/// NULs and line ends behind the body are not part of it. Everything else is kept as it is.
///
/// # Errors
/// The text does not begin with a stamp.
pub fn netlink_record(record_type: u16, text: &[u8]) -> Result<Record<'_>, ParseError> {
    let mut cursor = Cursor::new(without_line_end(text));
    let stamp = cursor.stamp()?;
    Ok(Record {
        record_type: RecordType(record_type),
        stamp,
        node: None,
        body: cursor.body(),
        enrichment: None,
        provenance: Provenance::Stream,
    })
}

/// Parses one line of an auditd log or of what auditd hands to a plugin:
/// `[node=X ]type=T msg=audit(…): body[0x1d enrichment]`, with or without its line end.
///
/// # Errors
/// The line is not of that form, or its type has a name this program does not know.
#[inline(never)] // A stage: its instructions are counted apart (`cargo xtask instructions`).
pub fn log_line(line: &[u8]) -> Result<Record<'_>, ParseError> {
    let mut cursor = Cursor::new(without_line_end(line));
    let node = match cursor.skip("node=") {
        Ok(()) => Some(cursor.word()?),
        Err(_) => None,
    };
    cursor.skip("type=")?;
    let at = cursor.at;
    let name = cursor.word()?;
    let length = name.len();
    let record_type = RecordType::from_name(name).ok_or(ParseError::UnknownType { at, length })?;
    cursor.skip("msg=")?;
    let stamp = cursor.stamp()?;
    let rest = cursor.body();
    let (body, enrichment) = match memchr::memchr(ENRICHMENT, rest) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    Ok(Record {
        record_type,
        stamp,
        node,
        body,
        enrichment,
        provenance: Provenance::Stream,
    })
}

/// Appends `record` to `out` as one line of an auditd log, its line end included.
///
/// Parsing the line gives the record back, but for bytes that would make the line say something else: line ends, NUL
/// and (from the kernel only) 0x1d become spaces, as auditd makes them, so that no body can forge a second
/// record. The kernel escapes them in all it prints itself; only messages from user space can hold them.
pub fn write_log_line(record: &Record<'_>, out: &mut Vec<u8>) {
    if let Some(node) = record.node {
        out.extend_from_slice(b"node=");
        out.extend(node.iter().map(|&byte| match byte {
            0..=b' ' => b'_',
            other => other,
        }));
        out.push(b' ');
    }
    let Stamp { time, serial } = record.stamp;
    out.extend_from_slice(b"type=");
    append_type(out, record.record_type);
    out.extend_from_slice(b" msg=audit(");
    digits::decimal(out, time.0 / 1000);
    out.push(b'.');
    digits::padded(out, time.0 % 1000, 3);
    out.push(b':');
    digits::decimal(out, serial.0);
    out.extend_from_slice(b"): ");
    extend_on_one_line(out, record.body, b' ');
    if let Some(enrichment) = record.enrichment {
        out.push(ENRICHMENT);
        extend_on_one_line(out, enrichment, ENRICHMENT);
    }
    out.push(b'\n');
}

/// As libaudit prints it, like the type's `Display`.
fn append_type(out: &mut Vec<u8>, record_type: RecordType) {
    match record_type.name() {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => {
            out.extend_from_slice(b"UNKNOWN[");
            digits::decimal(out, record_type.0);
            out.push(b']');
        }
    }
}

fn extend_on_one_line(out: &mut Vec<u8>, text: &[u8], separator: u8) {
    let start = out.len();
    out.extend_from_slice(text);
    // Without an early end to the loop, the compiler looks at many bytes at once.
    let control = text
        .iter()
        .fold(false, |found, byte| found | (*byte < b' '));
    if !control {
        return;
    }
    for byte in &mut out[start..] {
        match *byte {
            b'\n' | b'\r' | 0 => *byte = b' ',
            ENRICHMENT => *byte = separator,
            _ => {}
        }
    }
}

fn without_line_end(text: &[u8]) -> &[u8] {
    let end = text
        .iter()
        .rposition(|byte| !matches!(byte, b'\n' | b'\r' | 0))
        .map_or(0, |last| last + 1);
    &text[..end]
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    fn skip(&mut self, wanted: &'static str) -> Result<(), ParseError> {
        if self.rest().starts_with(wanted.as_bytes()) {
            self.at += wanted.len();
            Ok(())
        } else {
            Err(ParseError::Form {
                wanted,
                at: self.at,
            })
        }
    }

    /// The bytes up to the next space, which is passed over.
    fn word(&mut self) -> Result<&'a [u8], ParseError> {
        let rest = self.rest();
        let length = memchr::memchr(b' ', rest).ok_or(ParseError::Form {
            wanted: " ",
            at: self.text.len(),
        })?;
        self.at += length + 1;
        Ok(&rest[..length])
    }

    fn number(&mut self, what: &'static str, limit: u64) -> Result<u64, ParseError> {
        let start = self.at;
        let mut number: u64 = 0;
        for &byte in self.rest() {
            if !byte.is_ascii_digit() {
                break;
            }
            number = number
                .checked_mul(10)
                .and_then(|number| number.checked_add(u64::from(byte - b'0')))
                .filter(|number| *number <= limit)
                .ok_or(ParseError::Stamp { what, at: start })?;
            self.at += 1;
        }
        if self.at == start {
            return Err(ParseError::Stamp { what, at: start });
        }
        Ok(number)
    }

    fn stamp(&mut self) -> Result<Stamp, ParseError> {
        self.skip("audit(")?;
        let seconds = self.number("seconds", u64::MAX / 1000 - 1)?;
        self.skip(".")?;
        let ms = self.number("milliseconds", 999)?;
        self.skip(":")?;
        let serial = self.number("serial", u64::from(u32::MAX))?;
        self.skip("):")?;
        Ok(Stamp {
            time: TimeMs(seconds * 1000 + ms),
            serial: Serial(serial as u32),
        })
    }

    /// What follows the stamp. auditd cuts off the space where nothing follows it.
    fn body(&mut self) -> &'a [u8] {
        let rest = self.rest();
        rest.strip_prefix(b" ").unwrap_or(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn render(record: &Record<'_>) -> Vec<u8> {
        let mut line = Vec::new();
        write_log_line(record, &mut line);
        line
    }

    #[test]
    fn a_datagram_keeps_its_bytes_but_for_its_end() {
        let record = netlink_record(1307, b"audit(1700000000.007:45): cwd=\"/\xff\" \n\0").unwrap();
        assert_eq!(record.record_type, RecordType::CWD);
        assert_eq!(record.stamp.time, TimeMs(1_700_000_000_007));
        assert_eq!(record.stamp.serial, Serial(45));
        assert_eq!(record.body, b"cwd=\"/\xff\" ");
        assert_eq!(record.enrichment, None);
    }

    #[test]
    fn an_enriched_line_with_node_is_taken_apart_and_put_together() {
        let line = b"node=web-1 type=SYSCALL msg=audit(1700000000.123:45): arch=c000003e uid=0\x1dARCH=x86_64 UID=\"root\"\n";
        let record = log_line(line).unwrap();
        assert_eq!(record.node, Some(&b"web-1"[..]));
        assert_eq!(record.body, b"arch=c000003e uid=0");
        assert_eq!(record.enrichment, Some(&b"ARCH=x86_64 UID=\"root\""[..]));
        assert_eq!(render(&record), line);
    }

    #[test]
    fn an_empty_body_may_have_lost_its_space() {
        for line in [
            &b"type=EOE msg=audit(1.000:4294967295):"[..],
            b"type=EOE msg=audit(1.000:4294967295): \r\n",
        ] {
            let record = log_line(line).unwrap();
            assert_eq!(record.body, b"");
            assert_eq!(record.stamp.serial, Serial(u32::MAX));
        }
    }

    #[test]
    fn a_body_cannot_forge_a_second_record() {
        let record = netlink_record(
            1112,
            b"audit(1.000:2): msg='x\ntype=USER_AUTH msg=audit(1.000:3): \0\x1dUID=\"root\"'",
        )
        .unwrap();
        assert!(record.body.contains(&b'\n'));
        let line = render(&record);
        assert_eq!(memchr::memchr(b'\n', &line), Some(line.len() - 1));
        let again = log_line(&line).unwrap();
        assert_eq!(again.enrichment, None);
        assert_eq!(
            again.body,
            b"msg='x type=USER_AUTH msg=audit(1.000:3):   UID=\"root\"'"
        );
    }

    #[test]
    fn what_is_no_record_is_refused_with_the_place() {
        let form = |wanted, at| ParseError::Form { wanted, at };
        let stamp = |what, at| ParseError::Stamp { what, at };
        let cases: [(&[u8], ParseError); 9] = [
            (b"", form("audit(", 0)),
            (b"audit", form("audit(", 0)),
            (b"audit(", stamp("seconds", 6)),
            (b"audit(1:2): ", form(".", 7)),
            (b"audit(1.:2): ", stamp("milliseconds", 8)),
            (b"audit(1.1000:2): ", stamp("milliseconds", 8)),
            (b"audit(1.000:4294967296): ", stamp("serial", 12)),
            (b"audit(99999999999999999999.000:1): ", stamp("seconds", 6)),
            (b"audit(1.000:1) ", form("):", 13)),
        ];
        for (text, error) in cases {
            assert_eq!(netlink_record(1300, text), Err(error), "{text:?}");
        }
        let (at, length) = (5, 3);
        assert_eq!(
            log_line(b"type=NEW msg=audit(1.000:1): x"),
            Err(ParseError::UnknownType { at, length })
        );
        assert_eq!(log_line(b"type=EOE"), Err(form(" ", 8)));
    }

    fn body() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            any::<u8>().prop_filter("would be changed", |byte| {
                !matches!(*byte, b'\n' | b'\r' | 0 | ENRICHMENT)
            }),
            0..200,
        )
    }

    proptest! {
        #[test]
        fn rendering_is_undone_by_parsing(
            record_type in any::<u16>(),
            seconds in 0..=u64::MAX / 1000 - 1,
            ms in 0..1000u64,
            serial in any::<u32>(),
            node in proptest::option::of("[!-~]{0,20}"),
            body in body(),
            enrichment in proptest::option::of(body()),
        ) {
            let record = Record {
                record_type: RecordType(record_type),
                stamp: Stamp { time: TimeMs(seconds * 1000 + ms), serial: Serial(serial) },
                node: node.as_deref().map(str::as_bytes),
                body: &body,
                enrichment: enrichment.as_deref(),
                provenance: Provenance::Stream,
            };
            let line = render(&record);
            prop_assert_eq!(log_line(&line).unwrap(), record);
        }

        #[test]
        fn no_bytes_panic_and_what_parses_renders_to_one_stable_line(
            start in proptest::sample::select(vec!["", "audit(", "audit(1.000:2): "]),
            text in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let text = [start.as_bytes(), &text].concat();
            if let Ok(record) = netlink_record(1300, &text) {
                let line = render(&record);
                prop_assert_eq!(memchr::memchr(b'\n', &line), Some(line.len() - 1));
                prop_assert_eq!(render(&log_line(&line).unwrap()), line);
            }
        }
    }
}
