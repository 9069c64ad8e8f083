//! The point of the collector in half a minute: make this kernel lose audit events, then show the account.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::balance::Balance;
use audit_collector_tests::process::Collector;
use audit_collector_tests::requirement::Requirement;
use audit_collector_tests::stream::{Event, Stream, tally};
use audit_collector_tests::{program, workload};
use collector::audit::arch::Arch;
use collector::audit::status::StatusChange;
use serde_json::Value;

/// Whose calls are audited. No rule of the demo concerns anybody else.
const UID: u32 = 60_900;

/// How long one account may take to settle.
const SETTLE_TIME: Duration = Duration::from_secs(30);

/// One way to make the kernel lose events.
struct Scene {
    title: &'static str,
    settings: StatusChange,
    processes: u32,
    count: u32,
}

fn main() -> ExitCode {
    let needs = [
        Requirement::AuditControl,
        Requirement::Ebpf,
        Requirement::DaemonSeat,
    ];
    program::run("demo", needs, |interrupted| show(interrupted))
}

fn show(interrupted: &AtomicBool) -> anyhow::Result<()> {
    let quiet = StatusChange {
        enabled: Some(1),
        rate_limit: Some(0),
        backlog_limit: Some(65_536),
        backlog_wait_time: Some(0),
        ..StatusChange::default()
    };
    let scenes = [
        Scene {
            title: "a rate limit: the kernel may report 100 records a second",
            settings: StatusChange {
                rate_limit: Some(100),
                ..quiet
            },
            processes: 1,
            count: 2_000,
        },
        Scene {
            title: "a tiny backlog: the kernel may queue 64 records, and nobody waits for room",
            settings: StatusChange {
                backlog_limit: Some(64),
                ..quiet
            },
            processes: 2,
            count: 5_000,
        },
    ];
    say(&format!(
        "Every openat(2) by user {UID} is to be audited, and by nobody else. Two bursts of them follow."
    ));
    let mut last = Stream::default();
    for (number, scene) in scenes.iter().enumerate() {
        say(&format!("\n{}. {}", number + 1, scene.title));
        last = scene.play(interrupted)?;
    }
    side_by_side(&last)?;
    say("\nThe kernel's audit settings and rules are as they were.");
    Ok(())
}

impl Scene {
    fn play(&self, interrupted: &AtomicBool) -> anyhow::Result<Stream> {
        let check = || {
            ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
            Ok(())
        };
        let mut guard = AuditGuard::take()?;
        guard.add_rule(&rule_for(UID, Arch::NATIVE, &["openat"], "demo"))?;
        guard.set(&self.settings)?;
        let mut collector = Collector::start(&[
            "--mode=daemon",
            "--reassembly-timeout-ms=500",
            "--reorder-window-ms=1000",
        ])?;
        check()?;
        let lost_before = guard.status()?.lost;
        let (processes, count) = (self.processes.to_string(), self.count.to_string());
        let report = workload::run(UID, &["open", "--processes", &processes, "--count", &count])?;
        check()?;
        say(&format!(
            "   made           {} calls in {} process(es)",
            report.calls, self.processes
        ));
        let lost = guard.status()?.lost.wrapping_sub(lost_before);
        let metrics = collector.settle(report.calls, SETTLE_TIME)?;
        check()?;
        let finished = collector.stop()?;
        let balance = Balance::of_metrics(&metrics);
        let events = finished.stream.events_of(UID);
        let causes = tally(
            events
                .iter()
                .copied()
                .filter(|event| event.outcome() == "backfilled"),
            Event::cause,
        );
        say(&format!(
            "   kernel says    {lost} records lost, and not one word which"
        ));
        say(&format!(
            "   audit stream   {} of {} events came through, whole or in part",
            balance.matched, report.calls
        ));
        for (cause, events) in causes {
            say(&format!(
                "   given back     {events} events from eBPF; cause of the loss: {}",
                cause.unwrap_or("unknown")
            ));
        }
        say(&format!(
            "   account        {} expected = {} matched + {} backfilled + {} unrecovered",
            balance.settled(),
            balance.matched,
            balance.backfilled,
            balance.unrecovered
        ));
        Ok(finished.stream)
    }
}

/// A matched event and a backfilled one, field by field.
fn side_by_side(stream: &Stream) -> anyhow::Result<()> {
    let events = stream.events_of(UID);
    let pick = |outcome| {
        events
            .iter()
            .filter(|event| event.outcome() == outcome)
            .max_by_key(|event| event.0["complete"] == true)
            .with_context(|| format!("no event is {outcome}"))
    };
    let (matched, backfilled) = (pick("matched")?, pick("backfilled")?);
    say("\nOne event that the kernel reported, beside one that it lost:");
    for path in [
        "/outcome",
        "/source",
        "/verdict",
        "/cause",
        "/serial",
        "/between",
        "/time",
        "/syscall/name",
        "/syscall/args/3",
        "/syscall/exit",
        "/process/pid",
        "/process/ppid",
        "/process/uid",
        "/process/comm",
        "/process/exe",
        "/process/cwd",
        "/paths/0/name",
        "/keys",
        "/complete",
        "/missing",
    ] {
        let (left, right) = (shown(*matched, path), shown(*backfilled, path));
        let name = path.trim_start_matches('/').replace('/', ".");
        say(&format!("   {name:<14} {left:<44} {right}"));
    }
    let records = |event: &Event<'_>| event.0["records"].as_array().map_or(0, Vec::len);
    say(&format!(
        "   {:<14} {:<44} {}",
        "records",
        format!("{}, as the kernel wrote them", records(matched)),
        records(backfilled)
    ));
    Ok(())
}

fn shown(event: Event<'_>, path: &str) -> String {
    match event.0.pointer(path) {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => list
            .iter()
            .map(|value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            })
            .collect::<Vec<_>>()
            .join(" "),
        Some(other) => other.to_string(),
    }
}

/// Prints a line at once. A reader that went away ends the demo at its next step, not here.
fn say(line: &str) {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
