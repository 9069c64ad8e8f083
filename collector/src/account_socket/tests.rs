use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::{fs, thread};

use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

use super::*;
use crate::account::{Account, Tally};

fn account() -> Account {
    let mut account = Account::default();
    account.input.source = "daemon";
    let crosscheck = &mut account.crosscheck;
    let tally = Tally {
        matched: 2,
        backfilled: 1,
        ..Tally::default()
    };
    let keys = [&b"one\x01two"[..], b"", b"\xff"];
    for key in keys {
        crosscheck.by_key.count(Some(&key.into()), tally);
        crosscheck
            .by_syscall
            .count(Some(&(0xc000_003e, 257)), tally);
        crosscheck.by_uid.count(None, tally);
    }
    account
}

fn identity() -> Identity {
    Identity {
        pid: std::process::id(),
        version: "1".to_owned(),
        started_ms: 5,
    }
}

/// Runs `test` while a server serves `folder`.
fn served(folder: &Path, test: impl FnOnce() + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = Server::open(folder).unwrap();
        let (_account, accounts) = watch::channel(Arc::new(account()));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(accounts, identity(), async {
            let _ = stopped.await;
        }));
        tokio::task::spawn_blocking(test).await.unwrap();
        stop.send(()).unwrap();
        serving.await.unwrap();
    });
}

#[test]
fn what_is_told_is_what_is_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("made");
    let within = path.clone();
    served(&path, move || {
        let found = find(&within).unwrap();
        assert_eq!(found.len(), 1);
        let document = found[0].account.as_ref().unwrap();
        assert_eq!(*document, Document::of(&account(), &identity()));
        let keys: Vec<_> = (document.keys.rows.iter())
            .map(|row| {
                (
                    row.key.as_str(),
                    row.key_hex.as_deref(),
                    row.counts.expected,
                )
            })
            .collect();
        assert_eq!(
            keys,
            [
                ("", None, 3),
                ("one\u{1}two", None, 3),
                ("\u{fffd}", Some("FF"), 3)
            ]
        );
        let call = &document.syscalls.rows[0];
        assert_eq!(
            (
                call.arch.as_str(),
                call.name.as_deref(),
                call.counts.matched
            ),
            ("x86_64", Some("openat"), 6)
        );
        assert_eq!(document.uids.unknown.backfilled, 3);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&within), mode(&found[0].socket)), (0o700, 0o600));
    });
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "the socket stays");
}

#[test]
fn clients_that_do_not_read_or_ask_keep_nobody_out() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_owned();
    served(folder.path(), move || {
        let socket = folder::sockets(&path).unwrap()[0].1.clone();
        let idle: Vec<_> = (0..50)
            .map(|_| UnixStream::connect(&socket).unwrap())
            .collect();
        assert!(find(&path).unwrap()[0].account.is_ok());
        drop(idle);
    });
}

#[test]
fn a_socket_left_behind_is_taken_away_and_one_in_use_is_not() {
    let folder = TempDir::new().unwrap();
    // No process has a number above 2²².
    let dead = folder.path().join("account-4194999.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let living = folder.path().join("account-4194998.sock");
    let _listener = UnixListener::bind(&living).unwrap();
    let foreign = folder.path().join("another.sock");
    drop(UnixListener::bind(&foreign).unwrap());
    let path = folder.path().to_owned();
    served(folder.path(), move || {
        let exist = [&dead, &living, &foreign].map(|socket| socket.exists());
        assert_eq!(exist, [false, true, true]);
        assert_eq!(folder::sockets(&path).unwrap().len(), 2);
    });
}

#[test]
fn a_folder_that_others_may_write_is_not_used() {
    let folder = TempDir::new().unwrap();
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/", &link).unwrap();
    for path in [open, link] {
        assert!(matches!(
            Server::open(&path),
            Err(OpenError::Folder(FolderError::Unsafe { .. }))
        ));
    }
    let nowhere = folder.path().join("no/where");
    assert!(matches!(
        Server::open(&nowhere),
        Err(OpenError::Folder(FolderError::Use { .. }))
    ));
    assert!(find(&nowhere).unwrap().is_empty());
}

#[test]
fn what_is_not_an_account_is_said_to_be_none() {
    let folder = TempDir::new().unwrap();
    for (pid, text) in [(1, "{\"v\":2}\n"), (2, "\x1b[2J"), (3, "{\"v\":1}")] {
        let listener = UnixListener::bind(folder.path().join(folder::socket_name(pid))).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
        });
    }
    let found = find(folder.path()).unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|found| found.account.as_ref().unwrap_err().to_string())
        .collect();
    assert_eq!(
        told,
        [
            "the account has version 2, and this program knows version 1",
            "not an account",
            "not an account"
        ]
    );
}
