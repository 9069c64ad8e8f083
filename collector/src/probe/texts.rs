//! Texts of records, as the programs behind the audit queue send them.
//!
//! Owns the way from the ABI of [`collector_ebpf`] to a record's type and text. As with samples, no bytes panic.

use collector_ebpf::TextHeader;
use zerocopy::FromBytes as _;

use crate::clock::KtimeNs;
use crate::probe::decode::DecodeError;

pub use collector_ebpf::{TextCounters, TextMirror, TextReason};

/// One text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    /// Why it was sent.
    pub reason: TextReason,
    /// When.
    pub taken: KtimeNs,
    /// The record's type.
    pub record_type: u16,
    /// The record as a datagram of the audit socket has it, without the netlink header.
    pub bytes: &'a [u8],
    /// Whether that is all of it.
    pub whole: bool,
}

/// Reads one text.
///
/// # Errors
/// Its length or version is not that of our programs.
pub fn decode(sample: &[u8]) -> Result<Text<'_>, DecodeError> {
    let short = |_| DecodeError::Short {
        length: sample.len(),
        least: size_of::<TextHeader>(),
    };
    let (header, _) = TextHeader::read_from_prefix(sample).map_err(short)?;
    let unknown = DecodeError::Unknown {
        version: header.version,
        kind: header.reason,
    };
    if header.version != TextHeader::VERSION {
        return Err(unknown);
    }
    let reason = *TextReason::ALL
        .get(usize::from(header.reason))
        .ok_or(unknown)?;
    let bytes = sample.get(usize::from(header.fixed)..header.length as usize);
    let bytes = bytes
        .filter(|_| usize::from(header.fixed) >= size_of::<TextHeader>())
        .ok_or(DecodeError::Length {
            says: header.length,
            fixed: header.fixed,
            length: sample.len(),
        })?;
    Ok(Text {
        reason,
        taken: KtimeNs(header.taken_ns),
        record_type: header.record_type,
        bytes,
        whole: header.whole as usize == bytes.len(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes as _;

    use super::*;

    fn sample(whole: u32, text: &[u8]) -> Vec<u8> {
        let header = TextHeader {
            length: (size_of::<TextHeader>() + text.len()) as u32,
            fixed: size_of::<TextHeader>() as u16,
            version: TextHeader::VERSION,
            reason: TextReason::NotHeld as u8,
            taken_ns: 7,
            whole,
            record_type: 1300,
            padding: 0,
        };
        [header.as_bytes(), text].concat()
    }

    #[test]
    fn a_text_comes_back_to_the_byte_and_a_cut_one_says_so() {
        let bytes = sample(5, b"a\0 \xffb");
        let text = decode(&bytes).unwrap();
        assert_eq!(text.bytes, b"a\0 \xffb");
        assert_eq!((text.record_type, text.taken), (1300, KtimeNs(7)));
        assert_eq!((text.reason, text.whole), (TextReason::NotHeld, true));
        assert!(!decode(&sample(6, b"abcde")).unwrap().whole);
    }

    #[test]
    fn bytes_of_another_build_are_refused() {
        let mut bytes = sample(1, b"a");
        bytes[6] = 2;
        assert!(matches!(
            decode(&bytes),
            Err(DecodeError::Unknown { version: 2, .. })
        ));
        let bytes = sample(1, b"a");
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode(&bytes[..10]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes);
        }
    }
}
