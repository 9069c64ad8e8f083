//! Values that carry their bounds, so that a flag and a line of the file are refused with the same words.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, Visitor};

use crate::verify::Sampling;

/// A whole number between two bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Bounded<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Bounded<MIN, MAX> {
    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> TryFrom<i64> for Bounded<MIN, MAX> {
    type Error = String;

    fn try_from(value: i64) -> Result<Self, String> {
        match u32::try_from(value) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(format!("{value} is not between {MIN} and {MAX}")),
        }
    }
}

impl<const MIN: u32, const MAX: u32> FromStr for Bounded<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value: i64 = text
            .parse()
            .map_err(|_| format!("'{text}' is not a whole number between {MIN} and {MAX}"))?;
        Self::try_from(value)
    }
}

/// A size in bytes between two bounds, both included; as text it may end in KiB, MiB or GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> ByteSize<MIN, MAX> {
    /// The size in bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    fn checked(bytes: Option<u64>, given: &dyn fmt::Display) -> Result<Self, String> {
        match bytes {
            Some(bytes) if (MIN..=MAX).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(format!(
                "{given} is not a size between {MIN} and {MAX} bytes"
            )),
        }
    }
}

impl<const MIN: u64, const MAX: u64> FromStr for ByteSize<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, unit) = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1_u64 << 30)]
            .into_iter()
            .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?.trim_end(), unit)))
            .unwrap_or((text, 1));
        let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
        Self::checked(bytes, &format_args!("'{text}'"))
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for ByteSize<MIN, MAX> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor<const MIN: u64, const MAX: u64>;

        impl<const MIN: u64, const MAX: u64> Visitor<'_> for SizeVisitor<MIN, MAX> {
            type Value = ByteSize<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes or a text such as \"16MiB\"")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                ByteSize::checked(u64::try_from(value).ok(), &value).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                ByteSize::checked(Some(value), &value).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                value.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(SizeVisitor)
    }
}

/// The folder of the account socket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum AccountFolder {
    /// No socket.
    Off,
    /// This folder, from the root.
    At(PathBuf),
}

impl AccountFolder {
    /// Unless told otherwise.
    pub const DEFAULT: &str = "/run/audit-collector";

    /// The folder, where there is to be a socket.
    pub fn path(self) -> Option<PathBuf> {
        match self {
            Self::Off => None,
            Self::At(path) => Some(path),
        }
    }
}

impl Default for AccountFolder {
    fn default() -> Self {
        Self::At(PathBuf::from(Self::DEFAULT))
    }
}

impl TryFrom<String> for AccountFolder {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "off" => Ok(Self::Off),
            _ if text.starts_with('/') => Ok(Self::At(PathBuf::from(text))),
            _ => Err(format!("'{text}' is neither a path from the root nor off")),
        }
    }
}

impl FromStr for AccountFolder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

/// How many events are compared in a second: a number, or `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyPerSecond(Sampling);

impl VerifyPerSecond {
    /// Which events that is.
    pub const fn get(self) -> Sampling {
        self.0
    }

    fn number(number: i64) -> Result<Self, String> {
        Bounded::<0, 1_000_000>::try_from(number)
            .map(|number| Self(Sampling::PerSecond(number.get())))
    }
}

impl FromStr for VerifyPerSecond {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self(Sampling::All)),
            _ => text
                .parse()
                .map_err(|_| format!("'{text}' is neither a whole number nor all"))
                .and_then(Self::number),
        }
    }
}

impl<'de> Deserialize<'de> for VerifyPerSecond {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SamplingVisitor;

        impl Visitor<'_> for SamplingVisitor {
            type Value = VerifyPerSecond;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of events or \"all\"")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                VerifyPerSecond::number(value).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                value.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(SamplingVisitor)
    }
}

/// A key of a rule: 1 to [`RuleKey::LONGEST`] bytes, none of them a control character, which would part it in two or break
/// the line of a record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RuleKey(String);

impl RuleKey {
    /// Half of what the kernel allows all keys of a rule together (`AUDIT_MAX_KEY_LEN`, include/uapi/linux/audit.h).
    pub const LONGEST: usize = 128;

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl TryFrom<String> for RuleKey {
    type Error = String;

    fn try_from(key: String) -> Result<Self, String> {
        if key.is_empty() || key.len() > Self::LONGEST || key.chars().any(char::is_control) {
            return Err(format!(
                "{key:?} is not a key: 1 to {} bytes without control characters",
                Self::LONGEST
            ));
        }
        Ok(Self(key))
    }
}

impl FromStr for RuleKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

/// Where the metrics are served: a path that no page of the collector's own has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TelemetryPath(String);

impl TelemetryPath {
    /// The path, from its slash on.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TelemetryPath {
    fn default() -> Self {
        Self("/metrics".to_owned())
    }
}

impl TryFrom<String> for TelemetryPath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
        let is_own =
            ["/", "/healthz", "/readyz", "/-/healthy", "/-/ready"].contains(&path.as_str());
        if is_own || !path.starts_with('/') || !path.chars().all(is_plain) {
            return Err(format!(
                "{path:?} is not a path such as /metrics of letters, digits and / - _ . ~, or is taken"
            ));
        }
        Ok(Self(path))
    }
}

impl FromStr for TelemetryPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}
