//! Eight bytes at once, as the lanes of a word: which of them are of a kind.
//!
//! What is found is a word with the top bit of such lanes set. Of the lanes up to the first one that is set it is exact; those behind
//! may be set wrongly, as a subtraction borrows from the next lane (Mycroft). Words are little-endian: the first byte is the lowest lane.

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);

/// The lanes below `limit`, which is 128 at most.
pub(crate) const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64) & !word & TOPS
}

/// The lanes that are `byte`.
pub(crate) const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * byte as u64), 1)
}

/// The first lane that was found; 8 where none was.
pub(crate) const fn first(found: u64) -> usize {
    found.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_lane_is_the_first_byte_of_the_kind(
            bytes in proptest::array::uniform8(prop_oneof![any::<u8>(), 0x1e..0x24_u8]), limit in 1..=128_u8, byte: u8,
        ) {
            let word = u64::from_le_bytes(bytes);
            let position = |is: &dyn Fn(u8) -> bool| bytes.iter().position(|byte| is(*byte)).unwrap_or(8);
            prop_assert_eq!(first(below(word, limit)), position(&|other| other < limit));
            prop_assert_eq!(first(equal(word, byte)), position(&|other| other == byte));
            let either = below(word, 0x21) | equal(word, b'"');
            prop_assert_eq!(first(either), position(&|other| other < 0x21 || other == b'"'));
        }
    }
}
