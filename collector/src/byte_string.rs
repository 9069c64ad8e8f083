//! Bytes of a caller's or of the kernel's: paths, names, keys, addresses, which need not be text.
//!
//! Short ones are kept in place, so that a call whose texts are short costs no memory but that of its own.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use smallvec::SmallVec;

/// Some bytes; up to [`ByteString::IN_PLACE`] of them are no allocation.
#[derive(Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteString(SmallVec<[u8; ByteString::IN_PLACE]>);

impl ByteString {
    /// Most paths of programs, of directories and of libraries are no longer, and nearly all rule keys, terminals and addresses.
    pub const IN_PLACE: usize = 40;

    /// An empty one with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(SmallVec::with_capacity(bytes))
    }

    /// Adds a byte.
    pub fn push(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Adds bytes.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Keeps no more than the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }
}

impl Clone for ByteString {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

impl Deref for ByteString {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for ByteString {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

// Order, equality and hash are those of the bytes.
impl Borrow<[u8]> for ByteString {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for ByteString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl From<&[u8]> for ByteString {
    fn from(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }
}

impl<const N: usize> From<[u8; N]> for ByteString {
    fn from(bytes: [u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<Vec<u8>> for ByteString {
    /// Without copying what is long.
    fn from(bytes: Vec<u8>) -> Self {
        match bytes.len() {
            0..=Self::IN_PLACE => Self::from(bytes.as_slice()),
            _ => Self(SmallVec::from_vec(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn short_or_long_the_bytes_are_the_same() {
        for length in [0, 1, ByteString::IN_PLACE, ByteString::IN_PLACE + 1, 4_096] {
            let bytes: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let string = ByteString::from(bytes.as_slice());
            assert_eq!(*string, *bytes);
            assert_eq!(string.0.spilled(), length > ByteString::IN_PLACE);
            // What shrank is still like one that was never longer, also in a table.
            let mut longer = ByteString::from([&bytes[..], &[0; 100]].concat());
            longer.truncate(length);
            assert_eq!(longer, string);
            assert!(HashSet::from([string]).contains(&bytes[..]));
            assert!(HashSet::from([longer]).contains(&bytes[..]));
        }
    }

    #[test]
    fn it_shows_what_is_no_text() {
        let string = ByteString::from(*b"/tmp/\xff\n\"");
        assert_eq!(format!("{string:?}"), r#"b"/tmp/\xff\n\"""#);
    }
}
