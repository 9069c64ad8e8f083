//! Watched subtrees: made equivalent, trimmed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use audit_collector_tests::audit_state::KEY;
use audit_collector_tests::listener::listen;
use audit_collector_tests::workload;
use collector::audit::client::ClientError;
use collector::audit::rules::{Field, Operator, Permissions, Rule, Watched};
use collector::audit::socket::EventSocket;

use crate::{UID, take};

#[test]
fn an_equivalent_subtree_is_watched_until_it_is_trimmed() {
    let Some(mut guard) = take() else {
        return;
    };
    let folder = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let watched = folder.path().join("watched");
    let mount_point = watched.join("mount");
    let subtree = folder.path().join("subtree");
    let file = subtree.join("file");
    fs::create_dir_all(&mount_point).unwrap();
    fs::create_dir(&subtree).unwrap();
    fs::write(&file, "").unwrap();
    let rule = Rule::watch(
        Watched::Directory(watched.as_os_str().as_bytes()),
        Permissions::READ,
    )
    .condition(Field::UID, Operator::EQUAL, UID)
    .key(KEY);
    guard.add_rule(&rule).unwrap();
    guard.enable().unwrap();

    let mut socket = EventSocket::multicast(Some(1 << 20)).unwrap();
    // Each time another file outside, which a second rule reports, tells that all has come.
    let outside = folder.path().join("outside");
    fs::write(&outside, "").unwrap();
    let marker = Rule::watch(
        Watched::Path(outside.as_os_str().as_bytes()),
        Permissions::READ,
    )
    .condition(Field::UID, Operator::EQUAL, UID)
    .key(format!("{KEY}-marker"));
    guard.add_rule(&marker).unwrap();
    let mut opening_is_reported = || {
        for path in [&file, &outside] {
            let arguments = ["open", "--count", "1", "--path"].map(OsStr::new);
            workload::run(UID, &[&arguments, [path.as_os_str()].as_slice()].concat()).unwrap();
        }
        let marker = format!("key=\"{KEY}-marker\"");
        let heard = listen(&mut socket, |heard| heard.says(&marker)).unwrap();
        assert!(heard.says(&marker));
        heard.says(&format!("key=\"{KEY}\""))
    };
    assert!(!opening_is_reported());
    guard
        .client()
        .make_equivalent(&mount_point, &subtree)
        .unwrap();
    assert!(opening_is_reported());
    guard.client().trim().unwrap();
    assert!(!opening_is_reported());
}

#[test]
fn paths_that_do_not_exist_are_named() {
    let Some(mut guard) = take() else {
        return;
    };
    let error = guard
        .client()
        .make_equivalent(Path::new("/"), Path::new("/nowhere\n"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"cannot make "/nowhere\n" equivalent to "/""#
    );
    let ClientError::NotEquivalent { source, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(source.raw_os_error(), Some(libc::ENOENT));
}
