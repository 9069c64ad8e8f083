use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::audit::parse::log_line;
use crate::output::testing::{
    self, BODIES, audit_event, audit_event_of, backfilled, loss, matched, observation, state,
};

fn lines(output: &Output) -> String {
    String::from_utf8(bytes(output)).unwrap()
}

fn bytes(output: &Output) -> Vec<u8> {
    let mut out = Vec::new();
    RawRenderer::new(testing::identity()).render(output, &mut out);
    out
}

#[test]
fn records_of_the_kernel_come_out_as_they_were() {
    let text = lines(&Output::Event(Box::new(matched())));
    let stamp = "msg=audit(1700000000.123:455): ";
    let mut wanted = String::new();
    for (record_type, body) in BODIES {
        wanted += &format!("type={record_type} {stamp}{body}\n");
    }
    wanted += &format!("type=EOE {stamp}\n");
    assert_eq!(text, wanted);
}

#[test]
fn an_event_without_its_end_gets_none() {
    let mut event = matched();
    event.audit = Some(audit_event(&BODIES, Completion::Timeout));
    assert!(!lines(&Output::Event(Box::new(event))).contains("type=EOE"));
}

#[test]
fn what_was_given_back_is_marked_and_one_line() {
    let text = lines(&Output::Event(Box::new(backfilled())));
    let wanted = "type=UNKNOWN[2090] msg=audit(1700000000.123:0): op=backfilled cause=backlog_limit verdict=inferred \
        id=0b9f3a52-7d7a-4c35-9f0e-4d9a4f0f6c11:e5000012345.1.42 after=455 before=470 arch=c000003e call=openat nr=257 \
        success=no exit=-13 a0=ffffff9c a1=7ffd0a a2=0 a3=0 a4=55 a5=66 ppid=10 pid=11 tid=12 auid=1000 uid=1 gid=2 \
        euid=0 suid=0 fsuid=0 egid=0 sgid=2 fsgid=2 ses=4294967295 tty=(none) comm=612062 exe=\"/usr/bin/cat\" \
        cwd=\"/root\" path1=2F6574632FFF key=\"etc-write\"\n";
    assert_eq!(text, wanted);
}

#[test]
fn an_event_that_lost_its_call_has_the_call_beside_it() {
    let mut event = matched();
    event.audit = Some(audit_event(&BODIES[1..], Completion::Eoe));
    let text = lines(&Output::Event(Box::new(event)));
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("type=UNKNOWN[2090] msg=audit(1700000000.123:455): op=matched "),
        "{text}"
    );
}

#[test]
fn losses_and_states_are_lines_of_their_own() {
    assert_eq!(
        lines(&Output::Loss(loss())),
        "type=UNKNOWN[2091] msg=audit(1700000000.123:0): op=loss stage=kernel cause=rate_limit count=9 unit=events \
         recovered=7 first=460 last=469 from=1699999999.123 to=1700000000.123\n"
    );
    let counted = Loss {
        recovered: None,
        serials: None,
        between: (Some(Serial(5)), None),
        span: None,
        ..loss()
    };
    assert!(lines(&Output::Loss(counted)).ends_with(" count=9 unit=events after=5\n"));
    assert_eq!(
        lines(&Output::State(state())),
        "type=UNKNOWN[2092] msg=audit(1700000000.123:0): op=started \
         message=6D6F64653D6461656D6F6E202271756F746564220A7365636F6E64206C696E65\n"
    );
}

/// ausearch is Debian's `auditd` package.
fn ausearch(log: &[u8], arguments: &[&str]) -> Option<String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, log).unwrap();
    let output = Command::new("ausearch")
        .args(["-if", file.path().to_str().unwrap()])
        .args(arguments)
        .env("TZ", "UTC")
        .output();
    match output {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            let needed = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!needed, "cannot run ausearch: {error}");
            eprintln!("not run: ausearch: {error}");
            None
        }
    }
}

#[test]
fn ausearch_groups_the_kernel_s_records_and_shows_ours_by_their_type() {
    // Serial 0 within the same millisecond would be shown as one group.
    let loss = Output::Loss(Loss {
        time: TimeMs(testing::TIME.0 + 1),
        ..loss()
    });
    let log = [
        bytes(&Output::Event(Box::new(matched()))),
        bytes(&Output::Event(Box::new(backfilled()))),
        bytes(&loss),
    ]
    .concat();
    let Some(calls) = ausearch(&log, &["--raw", "-sc", "openat"]) else {
        return;
    };
    assert_eq!(calls.lines().count(), BODIES.len() + 1, "{calls}");
    assert!(!calls.contains("UNKNOWN"), "{calls}");
    let ours = ausearch(&log, &["--raw", "-m", "2090"]).unwrap();
    assert_eq!(ours, lines(&Output::Event(Box::new(backfilled()))));
    let losses = ausearch(&log, &["--raw", "-m", "2091"]).unwrap();
    assert_eq!(losses, lines(&loss));
    let all = ausearch(&log, &["--raw"]).unwrap();
    assert_eq!(all.lines().count(), BODIES.len() + 3, "{all}");
}

proptest! {
    #[test]
    fn any_bytes_stay_within_their_lines(
        types in proptest::collection::vec(any::<u16>(), 1..4),
        bodies in proptest::collection::vec(testing::hostile_body(), 4),
        strings in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 4),
        message in any::<String>(),
    ) {
        let pairs: Vec<(u16, &[u8])> = types.into_iter().zip(bodies.iter().map(|b| &b[..])).collect();
        let mut with_records = matched();
        with_records.audit = Some(audit_event_of(&pairs, Completion::Timeout));
        with_records.observation = None;
        let mut given_back = backfilled();
        let mut seen = observation();
        seen.comm = strings[0].clone().into();
        seen.exe = Captured::Whole(strings[1].clone().into());
        seen.argv = Captured::Truncated(strings[2].clone().into());
        seen.cwd = Captured::Truncated(strings[3].clone().into());
        given_back.observation = Some(Box::new(seen));
        let said = State { message, ..state() };

        for (output, n_lines) in [
            (Output::Event(Box::new(with_records)), pairs.len()),
            (Output::Event(Box::new(given_back)), 1),
            (Output::State(said), 1),
        ] {
            let out = bytes(&output);
            prop_assert_eq!(out.last(), Some(&b'\n'));
            let lines: Vec<&[u8]> = out[..out.len() - 1].split(|byte| *byte == b'\n').collect();
            prop_assert_eq!(lines.len(), n_lines);
            for line in lines {
                let record = log_line(line).unwrap();
                prop_assert_eq!(record.stamp.time, testing::TIME);
                if let (GIVEN_BACK, Output::Event(_)) = (record.record_type, &output) {
                    let comm = record.decoded(b"comm").unwrap_or_default();
                    if !comm.is_empty() || n_lines == 1 {
                        prop_assert_eq!(comm.as_ref(), &strings[0][..]);
                    }
                }
            }
        }
    }
}
