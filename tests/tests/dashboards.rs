//! The alerts that come with the collector fire when they should, and stay silent when they should.

use std::path::Path;
use std::process::Command;

use audit_collector_tests::requirement::{self, Requirement};

#[test]
fn alerts_are_valid_and_behave_as_their_tests_say() {
    if !requirement::met(&[Requirement::Program("promtool")]) {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards/prometheus");
    for arguments in [
        ["check", "rules", "recording.yml", "alerts.yml"].as_slice(),
        &["test", "rules", "alerts_test.yml"],
        &["check", "config", "scrape.yml"],
    ] {
        let output = Command::new(requirement::find_program("promtool").unwrap())
            .args(arguments)
            .current_dir(&folder)
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}
