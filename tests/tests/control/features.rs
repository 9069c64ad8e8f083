//! The features: read, switched, locked.

use collector::audit::client::ClientError;
use collector::audit::feature::{Feature, FeatureLock, FeatureState};

use crate::take;

fn state(on: bool) -> FeatureState {
    if on {
        FeatureState::On
    } else {
        FeatureState::Off
    }
}

#[test]
fn a_feature_is_switched_and_switched_back_unless_it_is_locked() {
    let Some(mut guard) = take() else {
        return;
    };
    let client = guard.client();
    let before = client.features().unwrap();
    assert_eq!(before.version, 1);
    for feature in Feature::ALL {
        let was = before.is_on(feature);
        // Immutable login users would hinder whoever logs in now.
        if feature == Feature::LoginuidImmutable && !before.is_locked(feature) {
            client
                .set_feature(feature, state(was), FeatureLock::Open)
                .unwrap();
            assert_eq!(client.features().unwrap(), before);
            continue;
        }
        let switched = client.set_feature(feature, state(!was), FeatureLock::Open);
        if before.is_locked(feature) {
            let error = switched.unwrap_err();
            assert!(
                matches!(error, ClientError::FeatureLocked { .. }),
                "{error:?}"
            );
            assert_eq!(client.features().unwrap(), before);
            continue;
        }
        switched.unwrap();
        let now = client.features().unwrap();
        client
            .set_feature(feature, state(was), FeatureLock::Open)
            .unwrap();
        assert_eq!(now.is_on(feature), !was);
        assert_eq!(now.lock, before.lock);
        assert_eq!(client.features().unwrap(), before);
    }
}
