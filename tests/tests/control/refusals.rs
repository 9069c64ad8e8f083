//! Who is refused: other users, processes without a capability, other namespaces.

use std::path::Path;

use audit_collector_tests::again;
use audit_collector_tests::requirement::{self, Requirement};
use collector::audit::client::{Client, ClientError, TtyStatus, UserMessage};
use collector::audit::feature::{Feature, FeatureLock, FeatureState};
use collector::audit::privilege::Capability;
use collector::audit::record::RecordType;
use collector::audit::socket::EventSocket;
use collector::audit::status::StatusChange;
use collector::command::doctor::Diagnosis;

use crate::{UID, rule, take};

/// What the kernel says to each request but user messages, none of which it accepts here.
fn refusals() -> Vec<ClientError> {
    let mut client = Client::connect().unwrap();
    let change = StatusChange {
        failure: Some(0),
        ..StatusChange::default()
    };
    let root = Path::new("/");
    let feature = Feature::OnlyUnsetLoginuid;
    vec![
        client.status().unwrap_err(),
        client.set(&change).unwrap_err(),
        client.reset_lost().unwrap_err(),
        client.reset_backlog_wait_time_actual().unwrap_err(),
        client.release_pid().unwrap_err(),
        EventSocket::unicast(None).unwrap().claim().unwrap_err(),
        client.features().unwrap_err(),
        client
            .set_feature(feature, FeatureState::Off, FeatureLock::Open)
            .unwrap_err(),
        client.rules().unwrap_err(),
        client.add_rule(&rule()).unwrap_err(),
        client.delete_rule(&rule()).unwrap_err(),
        client.tty().unwrap_err(),
        client.set_tty(TtyStatus::default()).unwrap_err(),
        client.signal_info().unwrap_err(),
        client.trim().unwrap_err(),
        client.make_equivalent(root, root).unwrap_err(),
    ]
}

fn send_a_message() -> Result<(), ClientError> {
    let message = UserMessage::new(RecordType::USER, b"audit-collector-test").unwrap();
    Client::connect().unwrap().user_message(&message)
}

fn launcher(program: &'static str) -> bool {
    requirement::met(&[Requirement::Program(program)])
}

#[test]
fn without_the_capability_the_error_names_it() {
    if again::is_child() {
        for error in refusals() {
            assert!(
                matches!(
                    error,
                    ClientError::MissingCapability {
                        capability: Capability::AuditControl,
                        ..
                    }
                ),
                "{error:?}"
            );
            assert_eq!(error.label(), "permission");
            assert!(error.to_string().contains("CAP_AUDIT_CONTROL is missing"));
        }
        send_a_message().unwrap();
        return;
    }
    let name = "refusals::without_the_capability_the_error_names_it";
    let options = ["--bounding-set=-audit_control", "--inh-caps=-audit_control"];
    if !launcher("setpriv") {
        return;
    }
    if let Some(_guard) = take() {
        again::by(&["setpriv", options[0], options[1]], name).unwrap();
    }
}

#[test]
fn a_message_needs_a_capability_of_its_own() {
    if again::is_child() {
        let error = send_a_message().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot send a user message of type 1005: CAP_AUDIT_WRITE is missing"
        );
        Client::connect().unwrap().status().unwrap();
        return;
    }
    let name = "refusals::a_message_needs_a_capability_of_its_own";
    let options = ["--bounding-set=-audit_write", "--inh-caps=-audit_write"];
    if !launcher("setpriv") {
        return;
    }
    if let Some(_guard) = take() {
        again::by(&["setpriv", options[0], options[1]], name).unwrap();
    }
}

#[test]
fn another_user_is_refused_everything() {
    if again::is_child() {
        for error in refusals().into_iter().chain(send_a_message().err()) {
            assert!(
                matches!(error, ClientError::MissingCapability { .. }),
                "{error:?}"
            );
        }
        println!("multicast: {}", EventSocket::multicast(None).unwrap_err());
        let diagnosis = Diagnosis::make();
        println!("doctor: {}\n{}", diagnosis.exit_code(), diagnosis.text());
        return;
    }
    let Some(_guard) = take() else {
        return;
    };
    let said = again::as_user(UID, "refusals::another_user_is_refused_everything").unwrap();
    assert!(said.contains("CAP_AUDIT_READ is missing"), "{said}");
    assert!(said.contains("doctor: 77\n"), "{said}");
    assert!(
        said.contains("prevents  CAP_AUDIT_CONTROL    missing"),
        "{said}"
    );
}

#[test]
fn another_user_namespace_is_told_from_a_missing_capability() {
    if again::is_child() {
        for error in refusals().into_iter().chain(send_a_message().err()) {
            assert!(
                matches!(error, ClientError::ForeignUserNamespace { .. }),
                "{error:?}"
            );
            assert!(error.is_refusal());
        }
        assert!(send_a_message().is_err());
        return;
    }
    let name = "refusals::another_user_namespace_is_told_from_a_missing_capability";
    if !launcher("unshare") {
        return;
    }
    if let Some(_guard) = take() {
        again::by(&["unshare", "--user", "--map-root-user"], name).unwrap();
    }
}

#[test]
fn another_pid_namespace_may_send_messages_only() {
    if again::is_child() {
        for error in refusals() {
            assert!(
                matches!(error, ClientError::ForeignPidNamespace { .. }),
                "{error:?}"
            );
            assert!(error.is_refusal());
        }
        send_a_message().unwrap();
        return;
    }
    let name = "refusals::another_pid_namespace_may_send_messages_only";
    if !launcher("unshare") {
        return;
    }
    if let Some(_guard) = take() {
        again::by(&["unshare", "--pid", "--fork"], name).unwrap();
    }
}
