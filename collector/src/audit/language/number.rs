//! Numbers as strtol(3) reads them.
//!
//! Owns the reading: decimal, `0x…`, or octal after a `0`; a sign; and how many bytes that took. auditctl ignores what
//! follows a number, so that is not an error here.

/// A number at the start of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    /// Its value, at most `i64::MAX` off zero.
    pub value: i64,
    /// How many bytes it takes.
    pub length: usize,
}

impl Number {
    /// The number `text` starts with: a digit, or a minus and a digit.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        if !digits.first()?.is_ascii_digit() {
            return None;
        }
        let (radix, prefix) = match digits {
            [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => (16, 2),
            [b'0', ..] => (8, 0),
            _ => (10, 0),
        };
        let values = digits[prefix..]
            .iter()
            .map_while(|byte| char::from(*byte).to_digit(radix));
        let (value, count) = values.fold((0_i64, 0), |(value, count), digit| {
            let value = value.saturating_mul(i64::from(radix));
            (value.saturating_add(i64::from(digit)), count + 1)
        });
        let sign = text.len() - digits.len();
        Some(Self {
            value: if sign == 0 { value } else { -value },
            length: sign + prefix + count,
        })
    }

    /// Its value in the 32 bits of a rule; a negative one as its two's complement.
    pub(super) fn in_32_bits(self) -> Option<u32> {
        let negative = || i32::try_from(self.value).ok().map(i32::cast_unsigned);
        u32::try_from(self.value).ok().or_else(negative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strtol_does() {
        for (text, value, length) in [
            ("0", 0, 1),
            ("12", 12, 2),
            ("-1", -1, 2),
            ("0x1F", 31, 4),
            ("-0x10", -16, 5),
            ("0644", 420, 4),
            ("089", 0, 1),
            ("0x", 0, 1),
            ("0xg", 0, 1),
            ("12ab", 12, 2),
            ("4294967295", 4_294_967_295, 10),
            ("99999999999999999999", i64::MAX, 20),
        ] {
            let number = Number::read(text.as_bytes());
            assert_eq!(number, Some(Number { value, length }), "{text}");
        }
        for text in ["", "-", "--1", "a", " 1", "+1", "-a"] {
            assert_eq!(Number::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn rules_have_room_for_32_bits() {
        let value = |text: &str| Number::read(text.as_bytes()).unwrap().in_32_bits();
        assert_eq!(value("4294967295"), Some(u32::MAX));
        assert_eq!(value("-1"), Some(u32::MAX));
        assert_eq!(value("-2147483648"), Some(0x8000_0000));
        assert_eq!(value("4294967296"), None);
        assert_eq!(value("-2147483649"), None);
    }
}
