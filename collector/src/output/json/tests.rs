use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::audit::event::Completion;
use crate::audit::record::{Provenance, Record, RecordType, Serial};
use crate::event::{Cause, Outcome};
use crate::output::testing::{self, BODIES, audit_event, event, loss, observation, state};
use crate::probe::observation::{
    Captured, FileInode, Observation, OpenedFile, PathArgument, Report,
};

fn line(output: &Output) -> String {
    let mut renderer = JsonRenderer::new(testing::identity(), None);
    let mut out = Vec::new();
    renderer.render(output, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    assert!(text.ends_with('\n'));
    text
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

fn rendered(output: &Output) -> Value {
    serde_json::from_str(&line(output)).unwrap()
}

/// Compares with a file of `testdata/stream`; `UPDATE_GOLDEN=1` writes it instead.
fn golden(name: &str, output: &Output) -> Value {
    let line = line(output);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/stream")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &line).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(line, wanted, "{}", path.display());
    serde_json::from_str(&line).unwrap()
}

#[test]
fn the_examples_of_the_document_are_what_is_rendered() {
    let document = include_str!("../../../../docs/stream.md");
    let blocks = document.split("```json\n").skip(1);
    let examples: Vec<Value> = blocks
        .map(|rest| serde_json::from_str(rest.split("```").next().unwrap()).unwrap())
        .collect();
    let outputs = [
        Output::Event(Box::new(testing::matched())),
        Output::Event(Box::new(testing::backfilled())),
        Output::Loss(loss()),
    ];
    let wanted: Vec<Value> = outputs.iter().map(rendered).collect();
    assert_eq!(examples, wanted);
}

#[test]
fn a_matched_event() {
    let value = golden("matched.json", &Output::Event(Box::new(testing::matched())));
    assert_eq!(value["complete"], true);
    assert_eq!(value["source"], "both");
}

#[test]
fn a_backfilled_event_without_a_serial() {
    let value = golden(
        "backfilled.json",
        &Output::Event(Box::new(testing::backfilled())),
    );
    assert_eq!(value["serial"], Value::Null);
    assert_eq!(value["between"], json!([455, 470]));
    assert_eq!(value["records"], json!([]));
    assert_eq!(value["complete"], false);
    assert_eq!(value["missing"][0], "records");
    assert!(value.get("from_ebpf").is_none(), "all of it is from eBPF");
}

#[test]
fn an_exec_with_hostile_arguments() {
    let value = golden("execve.json", &Output::Event(Box::new(testing::execve())));
    assert_eq!(
        value["process"]["argv"],
        json!(["sh", "-c", "a b\n\"c\"", "\u{fffd}x", ""])
    );
    assert_eq!(
        value["process"]["argv_hex"],
        json!([null, null, null, "FF78", null])
    );
}

#[test]
fn a_message_from_user_space() {
    let value = golden(
        "user_login.json",
        &Output::Event(Box::new(testing::user_login())),
    );
    assert_eq!(value["process"]["pid"], 7, "not the pid the message claims");
    assert_eq!(value["verdict"], Value::Null);
}

#[test]
fn a_loss() {
    golden("loss.json", &Output::Loss(loss()));
}

#[test]
fn a_loss_that_was_only_counted_says_between_which_serials_it_fell() {
    let counted = Loss {
        recovered: None,
        serials: None,
        between: (Some(Serial(5)), None),
        ..loss()
    };
    let value = rendered(&Output::Loss(counted));
    assert_eq!(value["recovered"], Value::Null);
    assert_eq!(value["serials"], Value::Null);
    assert_eq!(value["between"], json!([5, null]));
}

#[test]
fn a_state() {
    golden("state.json", &Output::State(state()));
}

#[test]
fn all_lines_begin_with_the_same_names() {
    for output in [
        Output::Event(Box::new(testing::matched())),
        Output::Event(Box::new(testing::backfilled())),
        Output::Loss(loss()),
        Output::State(state()),
    ] {
        let text = line(&output);
        let mut from = 0;
        for name in ["v", "kind", "id", "serial", "time", "host"] {
            let key = format!("\"{name}\":");
            let at = text[from..]
                .find(&key)
                .unwrap_or_else(|| panic!("{name} in {text}"));
            from += at;
        }
    }
}

#[test]
fn an_event_lists_the_records_it_lacks() {
    let lost_paths = audit_event(&BODIES[..1], Completion::Timeout);
    let mut event = testing::matched();
    event.audit = Some(lost_paths);
    let value = rendered(&Output::Event(Box::new(event)));
    assert_eq!(value["missing"], json!(["record:EOE", "record:PATH"]));
    assert_eq!(value["complete"], false);
    assert_eq!(value["paths"][0]["argument"], 1, "eBPF has it");
    let filled = value["from_ebpf"].as_array().unwrap();
    assert!(filled.contains(&json!("paths")) && filled.contains(&json!("process.cwd")));
}

#[test]
fn an_event_says_that_a_record_of_another_part_of_the_kernel_is_missing() {
    let preceded = |mut event: Event| {
        let mut seen = observation();
        seen.report = Some(Report {
            time: testing::TIME,
            serial: Some(Serial(455)),
            lost_records: 0,
            first_lost: None,
            preceded: true,
        });
        event.observation = Some(Box::new(seen));
        event
    };
    let login = [(
        RecordType::LOGIN,
        "pid=11 uid=0 old-auid=4294967295 auid=1000",
    )];
    let records: Vec<_> = login.into_iter().chain(BODIES).collect();
    let mut whole = preceded(testing::matched());
    whole.audit = Some(audit_event(&records, Completion::Eoe));
    let value = rendered(&Output::Event(Box::new(whole)));
    assert_eq!(
        (&value["missing"], &value["complete"]),
        (&json!([]), &json!(true))
    );

    let mut cut = preceded(testing::matched());
    cut.audit = Some(audit_event(&BODIES, Completion::Eoe));
    let value = rendered(&Output::Event(Box::new(cut)));
    assert_eq!(
        (&value["missing"], &value["complete"]),
        (&json!(["record:other"]), &json!(false))
    );

    let value = rendered(&Output::Event(Box::new(preceded(testing::backfilled()))));
    let missing = value["missing"].as_array().unwrap();
    assert!(missing.contains(&json!("record:other")), "{missing:?}");
    assert_eq!(value["rebuilt"]["complete"], false);
}

#[test]
fn without_its_syscall_record_an_event_takes_the_call_from_ebpf() {
    let mut event = testing::matched();
    event.audit = Some(audit_event(&BODIES[1..], Completion::Eoe));
    let value = rendered(&Output::Event(Box::new(event)));
    assert_eq!(value["missing"], json!(["record:SYSCALL"]));
    assert_eq!(value["syscall"]["name"], "openat");
    assert_eq!(value["process"]["pid"], 11);
    assert_eq!(value["from_ebpf"][0], "syscall");
}

#[test]
fn an_event_nobody_has_says_so() {
    let mut event = event();
    event.outcome = Outcome::Unrecovered;
    let value = rendered(&Output::Event(Box::new(event)));
    assert_eq!(value["source"], Value::Null);
    assert_eq!(value["missing"], json!(["records"]));
    assert!(value.get("process").is_none() && value.get("syscall").is_none());
}

#[test]
fn what_ebpf_could_not_read_is_missing() {
    let mut event = testing::backfilled();
    let mut seen = observation();
    seen.exe = Captured::Unreadable;
    seen.cwd = Captured::Truncated(b"/long"[..].into());
    seen.paths.push(PathArgument {
        argument: 3,
        path: Captured::Unreadable,
    });
    seen.paths.push(PathArgument {
        argument: 4,
        path: Captured::Late(b"x"[..].into()),
    });
    seen.sockaddr = Captured::Late(b"\x01\0"[..].into());
    event.observation = Some(Box::new(seen));
    event.rule_keys = None;
    let value = rendered(&Output::Event(Box::new(event)));
    let wanted = [
        "records",
        "keys",
        "process.title",
        "paths.inode",
        "process.exe",
        "process.cwd:truncated",
        "socket:late",
        "paths.name",
        "paths.name:late",
    ];
    assert_eq!(value["missing"], json!(wanted));
    assert_eq!(
        value["paths"][1],
        json!({"argument": 3, "unreadable": true})
    );
    assert_eq!(
        value["paths"][2],
        json!({"argument": 4, "name": "x", "late": true})
    );
    assert!(value["process"].get("exe").is_none());
}

#[test]
fn a_copied_record_says_so_and_why() {
    let mut event = testing::matched();
    let audit = event.audit.as_mut().unwrap();
    audit.mirrored = Some(Cause::RetryOverflow);
    fn copied(record: Record<'_>) -> Record<'_> {
        Record {
            provenance: Provenance::Mirror(Cause::RetryOverflow),
            ..record
        }
    }
    let records = audit.records.iter().enumerate();
    audit.records = records
        .map(|(index, record)| if index == 1 { copied(record) } else { record })
        .collect();
    event.outcome = Outcome::Backfilled;
    let said_copied = json!({"provenance": "mirror", "cause": "retry_overflow"});
    let said = |value: &Value, record: usize| {
        let record = &value["records"][record];
        json!({"provenance": record["provenance"], "cause": record["cause"]})
    };
    let value = rendered(&Output::Event(Box::new(event.clone())));
    assert_eq!(said(&value, 1), said_copied);
    assert_eq!(said(&value, 0), json!({"provenance": null, "cause": null}));
    assert_eq!(
        (&value["source"], &value["complete"]),
        (&json!("both"), &json!(true))
    );
    let audit = event.audit.as_mut().unwrap();
    audit.records = audit.records.iter().map(copied).collect();
    event.observation = None;
    let value = rendered(&Output::Event(Box::new(event)));
    assert_eq!(value["source"], "ebpf");
}

#[test]
fn a_file_that_was_opened_reads_as_in_a_path_record() {
    let inode = FileInode {
        number: 77,
        dev: (0xfd, 1),
        rdev: (0, 0),
        mode: 0o100_640,
        uid: 3,
        gid: 4,
        magic: 0xef53,
    };
    let mut seen = observation();
    seen.result = Some(3);
    // O_CREAT
    seen.args[2] = 0o101;
    seen.title = Captured::Whole(b"cat\0x y"[..].into());
    seen.opened = Some(OpenedFile {
        inode,
        directory: Some(FileInode {
            number: 2,
            mode: 0o040_755,
            ..inode
        }),
        created: true,
        flags: 1,
        path: Captured::Whole(b"/etc/\xff"[..].into()),
        lineage: Captured::Absent,
    });
    let json = |seen: &Observation| {
        let mut event = testing::backfilled();
        event.observation = Some(Box::new(seen.clone()));
        rendered(&Output::Event(Box::new(event)))
    };
    let value = json(&seen);
    assert_eq!(value["missing"], json!(["records"]));
    assert_eq!(value["process"]["title"], json!(["cat", "x y"]));
    assert_eq!(
        value["paths"],
        json!([
            {"name": "/etc/", "nametype": "PARENT", "inode": 2, "dev": "fd:01", "mode": "040755", "ouid": 3, "ogid": 4},
            {"argument": 1, "name": "/etc/\u{fffd}", "name_hex": "2F6574632FFF", "nametype": "CREATE",
             "inode": 77, "dev": "fd:01", "mode": "0100640", "ouid": 3, "ogid": 4},
        ])
    );
    // Of a file that was there it is not known whether the kernel told of its directory.
    seen.opened.as_mut().unwrap().created = false;
    let value = json(&seen);
    assert_eq!(value["missing"], json!(["records", "paths.parent"]));
    assert_eq!(value["paths"].as_array().unwrap().len(), 1);
    assert_eq!(value["paths"][0]["nametype"], "NORMAL");
}

#[test]
fn ids_are_names_only_where_asked_for() {
    let output = Output::Event(Box::new(testing::matched()));
    assert!(rendered(&output)["process"].get("euid_name").is_none());
    let mut renderer = JsonRenderer::new(testing::identity(), Some(UserNames::of_this_host()));
    let mut out = Vec::new();
    renderer.render(&output, &mut out);
    let value: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(value["process"]["euid_name"], "root");
    assert_eq!(value["process"]["egid_name"], "root");
}

#[test]
fn ids_are_stable_and_tell_parts_apart() {
    let id = |id| written(|out| Id { boot: "b", id }.append(out));
    let audit = |part| EventId::Audit {
        time: TimeMs(1_700_000_000_123),
        serial: Serial(7),
        part,
    };
    assert_eq!(id(audit(0)), "b:1700000000123.7");
    assert_eq!(id(audit(2)), "b:1700000000123.7.2");
    let ebpf = EventId::Ebpf {
        taken: crate::clock::KtimeNs(5),
        cpu: 1,
        sequence: 9,
    };
    assert_eq!(id(ebpf), "b:e5.1.9");
}

#[test]
fn times_are_rfc_3339() {
    for (ms, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (951_868_800_000, "2000-03-01T00:00:00.000Z"),
        (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
        (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
    ] {
        assert_eq!(written(|out| append_rfc3339(TimeMs(ms), out)), text);
    }
    let far = written(|out| append_rfc3339(TimeMs(u64::MAX), out));
    assert!(far.ends_with('Z'), "{far}");
}

proptest! {
    #[test]
    fn any_bytes_make_one_line_of_json_that_gives_them_back(
        types in proptest::collection::vec(
            prop_oneof![
                Just(1300_u16), Just(1302), Just(1306), Just(1307), Just(1309), Just(1327),
                Just(1112), any::<u16>(),
            ],
            0..4,
        ),
        bodies in proptest::collection::vec(testing::hostile_body(), 4),
        strings in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 4),
    ) {
        let pairs: Vec<(u16, &[u8])> = types.into_iter().zip(bodies.iter().map(|b| &b[..])).collect();
        let mut event = testing::matched();
        event.audit = Some(testing::audit_event_of(&pairs, Completion::Timeout));
        let mut seen = observation();
        seen.comm = strings[0].clone().into();
        seen.exe = Captured::Whole(strings[1].clone().into());
        seen.argv = Captured::Truncated(strings[2].clone().into());
        seen.sockaddr = Captured::Whole(strings[3].clone().into());
        event.observation = Some(Box::new(seen));

        let value = rendered(&Output::Event(Box::new(event)));
        let records = value["records"].as_array().unwrap();
        prop_assert_eq!(records.len(), pairs.len());
        for (record, (_, body)) in records.iter().zip(&pairs) {
            let bytes = match record.get("body_hex") {
                Some(hex) => crate::audit::fields::decode_hex(hex.as_str().unwrap().as_bytes()).unwrap(),
                None => record["body"].as_str().unwrap().as_bytes().to_vec(),
            };
            prop_assert_eq!(&bytes, body);
        }
    }
}
