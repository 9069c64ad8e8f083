//! The switches of the audit subsystem that can be locked (`AUDIT_FEATURE_*` of include/uapi/linux/audit.h).
//!
//! Owns their numbers, names and the layout of `struct audit_features`. No I/O.

use crate::audit::message::u32_at;

/// A switch of the audit subsystem that can be locked (`AUDIT_FEATURE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// The login user of a task can be set while it is unset, and not after.
    OnlyUnsetLoginuid,
    /// The login user of a task cannot be changed once it is set, whatever its capabilities.
    LoginuidImmutable,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::OnlyUnsetLoginuid, Self::LoginuidImmutable];

    /// The kernel's name of it (kernel/audit.c `audit_feature_names`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnlyUnsetLoginuid => "only_unset_loginuid",
            Self::LoginuidImmutable => "loginuid_immutable",
        }
    }

    /// Its bit in the words of `struct audit_features`.
    const fn bit(self) -> u32 {
        match self {
            Self::OnlyUnsetLoginuid => 1 << 0,
            Self::LoginuidImmutable => 1 << 1,
        }
    }
}

/// Which way a feature is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FeatureState {
    /// Not in force.
    Off,
    /// In force.
    On,
}

/// Whether a feature stays as it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FeatureLock {
    /// It can be switched again; a feature that is locked already stays locked.
    Open,
    /// It stays as it is until the next reboot.
    Locked,
}

/// `struct audit_features`: which features are in force, and which can no longer be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Version of the struct.
    pub version: u32,
    /// The features that are on, one bit each, also those that have no [`Feature`].
    pub features: u32,
    /// The features that can no longer be changed, likewise.
    pub lock: u32,
}

impl Features {
    /// Reads the payload of an `AUDIT_GET_FEATURE` reply; none where it is too short. What a longer one adds is
    /// ignored.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        // Word 1 is the mask, which a reply leaves at zero.
        Some(Self {
            version: u32_at(payload, 0)?,
            features: u32_at(payload, 8)?,
            lock: u32_at(payload, 12)?,
        })
    }

    /// Whether `feature` is in force.
    pub const fn is_on(&self, feature: Feature) -> bool {
        self.features & feature.bit() != 0
    }

    /// Whether `feature` can no longer be switched.
    pub const fn is_locked(&self, feature: Feature) -> bool {
        self.lock & feature.bit() != 0
    }
}

/// The payload of an `AUDIT_SET_FEATURE` request for one feature.
pub(super) fn encode_set(feature: Feature, state: FeatureState, lock: FeatureLock) -> [u8; 16] {
    let bit = feature.bit();
    let features = if state == FeatureState::On { bit } else { 0 };
    let lock = if lock == FeatureLock::Locked { bit } else { 0 };
    let mut payload = [0; 16];
    for (word, value) in [VERSION, bit, features, lock].into_iter().enumerate() {
        payload[word * 4..word * 4 + 4].copy_from_slice(&value.to_ne_bytes());
    }
    payload
}

/// `AUDIT_FEATURE_VERSION`
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_one_feature_and_is_read_back() {
        let feature = Feature::LoginuidImmutable;
        let payload = encode_set(feature, FeatureState::On, FeatureLock::Open);
        assert_eq!(payload[4..8], 2_u32.to_ne_bytes());
        let features = Features::decode(&payload).unwrap();
        assert_eq!((features.version, features.features), (1, 2));
        assert!(features.is_on(feature) && !features.is_locked(feature));
        let other = Feature::OnlyUnsetLoginuid;
        assert!(!features.is_on(other));
        let locked = encode_set(other, FeatureState::Off, FeatureLock::Locked);
        let features = Features::decode(&locked).unwrap();
        assert!(!features.is_on(other) && features.is_locked(other));
        assert!(!features.is_locked(feature));
    }

    #[test]
    fn a_short_reply_is_none_and_a_longer_one_is_read() {
        let mut payload = encode_set(
            Feature::OnlyUnsetLoginuid,
            FeatureState::On,
            FeatureLock::Open,
        )
        .to_vec();
        assert_eq!(Features::decode(&payload[..15]), None);
        let read = Features::decode(&payload);
        payload.extend([9; 5]);
        assert_eq!(Features::decode(&payload), read);
    }
}
