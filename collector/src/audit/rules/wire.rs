//! Rules as bytes: `struct audit_rule_data` of include/uapi/linux/audit.h.
//!
//! Owns the layout. Lists, fields and operators of kernels newer than this code pass through as numbers; what does not
//! fit the layout is an error that says where. No I/O.

use crate::audit::message::u32_at;
use crate::audit::rules::{Action, Condition, Field, FilterList, Operator, Rule};

/// Length of the struct without its strings.
pub const FIXED_LENGTH: usize = 1040;

/// Most conditions a rule can have (`AUDIT_MAX_FIELDS`).
pub const CONDITION_LIMIT: usize = 64;

/// Most bytes of strings one rule may have here: one PATH_MAX per condition, more than the kernel accepts.
const STRING_LIMIT: usize = CONDITION_LIMIT * 4096;

const FLAGS: usize = 0;
const ACTION: usize = 4;
const FIELD_COUNT: usize = 8;
const MASK: usize = 12;
const FIELDS: usize = 268;
const VALUES: usize = 524;
const OPERATORS: usize = 780;
const BUFFER_LENGTH: usize = 1036;

/// `AUDIT_FILTER_PREPEND`
const PREPEND: u32 = 0x10;

/// At which end of its list a rule is put. The first rule that matches decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Before all others, as `auditctl -A`.
    First,
    /// After all others, as `auditctl -a`.
    Last,
}

/// Why bytes are not a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleDecodeError {
    /// Shorter than the struct.
    #[error("a rule of {length} bytes is shorter than {FIXED_LENGTH}")]
    TooShort {
        /// Its length in bytes.
        length: usize,
    },
    /// An action that is neither `never` nor `always`.
    #[error("unknown action {action}")]
    UnknownAction {
        /// The number.
        action: u32,
    },
    /// More conditions than the struct has room for.
    #[error("{count} conditions, more than {CONDITION_LIMIT}")]
    TooManyConditions {
        /// How many it claims.
        count: u32,
    },
    /// A string that ends behind the end of the message.
    #[error(
        "the string of condition {condition} is {length} bytes long, of which {left} are there"
    )]
    StringCut {
        /// The condition's place, from 0.
        condition: usize,
        /// The length it claims.
        length: u32,
        /// Bytes left in the message.
        left: usize,
    },
}

/// Why a rule cannot be put into bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleEncodeError {
    /// More conditions than the struct has room for.
    #[error("{count} conditions, more than {CONDITION_LIMIT}")]
    TooManyConditions {
        /// How many it has.
        count: usize,
    },
    /// A string with a NUL byte, where the kernel would cut it.
    #[error("a NUL byte in the string of condition {condition}")]
    NulInString {
        /// The condition's place, from 0.
        condition: usize,
    },
    /// Longer strings than the kernel accepts.
    #[error("{length} bytes of strings, more than {STRING_LIMIT}")]
    StringsTooLong {
        /// Their length in bytes.
        length: usize,
    },
}

impl Rule {
    /// Reads the payload of an `AUDIT_LIST_RULES` message.
    ///
    /// # Errors
    /// Where it does not fit the layout.
    pub fn decode(payload: &[u8]) -> Result<Self, RuleDecodeError> {
        let too_short = RuleDecodeError::TooShort {
            length: payload.len(),
        };
        let (fixed, mut strings) = payload.split_at_checked(FIXED_LENGTH).ok_or(too_short)?;
        let word = |offset: usize| u32_at(fixed, offset).ok_or(too_short);

        let action = match word(ACTION)? {
            0 => Action::Never,
            2 => Action::Always,
            action => return Err(RuleDecodeError::UnknownAction { action }),
        };
        let count = word(FIELD_COUNT)?;
        if count as usize > CONDITION_LIMIT {
            return Err(RuleDecodeError::TooManyConditions { count });
        }
        let mut syscalls = [0; 64];
        for (index, mask) in syscalls.iter_mut().enumerate() {
            *mask = word(MASK + index * 4)?;
        }
        let mut conditions = Vec::with_capacity(count as usize);
        for index in 0..count as usize {
            let field = Field(word(FIELDS + index * 4)?);
            let value = word(VALUES + index * 4)?;
            let string = if field.has_string() {
                let (string, rest) =
                    strings
                        .split_at_checked(value as usize)
                        .ok_or(RuleDecodeError::StringCut {
                            condition: index,
                            length: value,
                            left: strings.len(),
                        })?;
                strings = rest;
                Some(string.into())
            } else {
                None
            };
            conditions.push(Condition {
                field,
                operator: Operator(word(OPERATORS + index * 4)?),
                value,
                string,
            });
        }
        Ok(Self {
            list: FilterList(word(FLAGS)? & !PREPEND),
            action,
            syscalls,
            conditions,
        })
    }

    /// The payload of an `AUDIT_ADD_RULE` or `AUDIT_DEL_RULE` request. The number of a field with a string is the
    /// string's length, whatever [`Condition::value`] says; strings of other fields are left out.
    ///
    /// # Errors
    /// Where the layout has no room for it, or the kernel would cut a string at a NUL byte and then hold another rule.
    pub fn encode(&self, placement: Placement) -> Result<Vec<u8>, RuleEncodeError> {
        let count = self.conditions.len();
        if count > CONDITION_LIMIT {
            return Err(RuleEncodeError::TooManyConditions { count });
        }
        let strings: Vec<&[u8]> = self.conditions.iter().map(string_of).collect();
        if let Some(condition) = strings.iter().position(|string| string.contains(&0)) {
            return Err(RuleEncodeError::NulInString { condition });
        }
        let length: usize = strings.iter().map(|string| string.len()).sum();
        if length > STRING_LIMIT {
            return Err(RuleEncodeError::StringsTooLong { length });
        }

        let mut bytes = vec![0; FIXED_LENGTH];
        let mut put = |offset: usize, value: u32| {
            bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        };
        put(
            FLAGS,
            match placement {
                Placement::First => self.list.0 | PREPEND,
                Placement::Last => self.list.0,
            },
        );
        put(
            ACTION,
            match self.action {
                Action::Never => 0,
                Action::Always => 2,
            },
        );
        put(FIELD_COUNT, count as u32);
        for (index, mask) in self.syscalls.iter().enumerate() {
            put(MASK + index * 4, *mask);
        }
        for (index, condition) in self.conditions.iter().enumerate() {
            put(FIELDS + index * 4, condition.field.0);
            put(OPERATORS + index * 4, condition.operator.0);
            let value = if condition.field.has_string() {
                strings[index].len() as u32
            } else {
                condition.value
            };
            put(VALUES + index * 4, value);
        }
        put(BUFFER_LENGTH, length as u32);
        for string in strings {
            bytes.extend(string);
        }
        Ok(bytes)
    }
}

fn string_of(condition: &Condition) -> &[u8] {
    match &condition.string {
        Some(string) if condition.field.has_string() => string,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn condition() -> impl Strategy<Value = Condition> {
        let fields = prop_oneof![
            Just(Field::FILTERKEY),
            Just(Field::DIR),
            Just(Field::UID),
            any::<u32>().prop_map(Field),
        ];
        (fields, any::<u32>(), any::<u32>(), vec(1_u8.., 0..40)).prop_map(
            |(field, operator, value, string)| Condition {
                field,
                operator: Operator(operator),
                value: if field.has_string() {
                    string.len() as u32
                } else {
                    value
                },
                string: field.has_string().then(|| string.into()),
            },
        )
    }

    fn rule() -> impl Strategy<Value = Rule> {
        (
            (0_u32..0x10).prop_map(FilterList),
            prop_oneof![Just(Action::Never), Just(Action::Always)],
            proptest::array::uniform32(any::<u32>()),
            vec(condition(), 0..=CONDITION_LIMIT),
        )
            .prop_map(|(list, action, half, conditions)| {
                let mut syscalls = [0; 64];
                syscalls[16..48].copy_from_slice(&half);
                Rule {
                    list,
                    action,
                    syscalls,
                    conditions,
                }
            })
    }

    proptest! {
        #[test]
        fn a_rule_survives_encoding(rule in rule()) {
            for placement in [Placement::First, Placement::Last] {
                let bytes = rule.encode(placement).unwrap();
                prop_assert_eq!(Rule::decode(&bytes), Ok(rule.clone()));
            }
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in vec(any::<u8>(), 0..1200)) {
            if let Ok(rule) = Rule::decode(&bytes) {
                let _ = rule.to_string();
            }
        }

        #[test]
        fn no_damage_makes_decoding_panic(
            rule in rule(), at in 0_usize..FIXED_LENGTH, byte in any::<u8>(), cut in 0_usize..2000,
        ) {
            let mut bytes = rule.encode(Placement::Last).unwrap();
            bytes[at] = byte;
            bytes.truncate(cut.max(at));
            if let Ok(rule) = Rule::decode(&bytes) {
                let _ = rule.to_string();
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(
            Rule::decode(&[0; 1039]),
            Err(RuleDecodeError::TooShort { length: 1039 })
        );
        let good = Rule::always_exit()
            .key("abc")
            .encode(Placement::Last)
            .unwrap();
        assert_eq!(good.len(), FIXED_LENGTH + 3);
        assert_eq!(
            Rule::decode(&good[..FIXED_LENGTH + 2]),
            Err(RuleDecodeError::StringCut {
                condition: 0,
                length: 3,
                left: 2
            })
        );
        let mut bad = good.clone();
        bad[ACTION] = 1;
        assert_eq!(
            Rule::decode(&bad),
            Err(RuleDecodeError::UnknownAction { action: 1 })
        );
        let mut bad = good;
        bad[FIELD_COUNT] = 65;
        assert_eq!(
            Rule::decode(&bad),
            Err(RuleDecodeError::TooManyConditions { count: 65 })
        );
    }

    #[test]
    fn a_string_the_kernel_would_cut_is_refused() {
        let rule = Rule::always_exit()
            .arch(crate::audit::arch::Arch::X86_64)
            .key("a\0b");
        assert_eq!(
            rule.encode(Placement::Last),
            Err(RuleEncodeError::NulInString { condition: 1 })
        );
    }

    #[test]
    fn too_many_conditions_are_refused() {
        let mut rule = Rule::always_exit();
        for _ in 0..=CONDITION_LIMIT {
            rule = rule.condition(Field::PID, Operator::EQUAL, 1);
        }
        assert_eq!(
            rule.encode(Placement::Last),
            Err(RuleEncodeError::TooManyConditions { count: 65 })
        );
    }
}
