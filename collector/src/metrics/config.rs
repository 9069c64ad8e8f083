//! What came of loading the configuration.

use super::family::Families;
use crate::config::LoadState;

pub(super) fn add(families: &mut Families, state: &LoadState) {
    let succeeded = u32::from(state.last_reload_succeeded());
    families.set("config_last_reload_successful", &[], succeeded);
    if let Some(at) = state.last_success() {
        families.set("config_last_reload_success_timestamp_seconds", &[], at);
    }
}
