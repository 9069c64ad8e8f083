//! Numbers as text, for the lines that are written for every event: no formatting machinery, no allocation.
//!
//! Owns digits and nothing else; what surrounds a number is its caller's.

/// Appends `number` in decimal.
pub(crate) fn decimal(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends `number` in decimal, with zeros in front where it has fewer than `width` digits.
pub(crate) fn padded(out: &mut Vec<u8>, number: u64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number).as_bytes();
    out.extend(std::iter::repeat_n(
        b'0',
        width.saturating_sub(digits.len()),
    ));
    out.extend_from_slice(digits);
}

/// Appends `number` in lower-case hex, with zeros in front where it has fewer than `width` digits.
pub(crate) fn hex(out: &mut Vec<u8>, number: u64, width: usize) {
    by_bits::<4>(out, number, width);
}

/// Appends `number` in octal.
pub(crate) fn octal(out: &mut Vec<u8>, number: u64) {
    by_bits::<3>(out, number, 1);
}

/// Digits of `BITS` bits each.
fn by_bits<const BITS: usize>(out: &mut Vec<u8>, mut number: u64, width: usize) {
    // 64 bits are 22 octal digits.
    let mut digits = [b'0'; 22];
    let mut begin = digits.len();
    while number != 0 {
        begin -= 1;
        digits[begin] = b"0123456789abcdef"[(number & ((1 << BITS) - 1)) as usize];
        number >>= BITS;
    }
    let begin = begin.min(digits.len().saturating_sub(width.max(1)));
    out.extend_from_slice(&digits[begin..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_the_formatting_machinery_writes_them(
            number in prop_oneof![any::<u64>(), 0..1_000_u64], width in 0..8_usize,
        ) {
            prop_assert_eq!(written(|out| decimal(out, number as i64)), (number as i64).to_string());
            prop_assert_eq!(written(|out| padded(out, number, width)), format!("{number:0width$}"));
            prop_assert_eq!(written(|out| hex(out, number, width)), format!("{number:0width$x}"));
            prop_assert_eq!(written(|out| octal(out, number)), format!("{number:o}"));
        }
    }

    #[test]
    fn the_largest_number_fits() {
        assert_eq!(
            written(|out| octal(out, u64::MAX)),
            format!("{:o}", u64::MAX)
        );
    }
}
