//! `cargo xtask ci`: what CI runs, each step named and timed. All steps run even when one fails.

use std::process::ExitCode;
use std::time::Instant;

use crate::{dashboards, instructions, policy, setup, step, test, workspace};

pub(crate) fn command() -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut reports = vec![step::timed("set-up", || {
        setup::for_build()?;
        setup::for_tests();
        Ok(())
    })];
    reports.push(step::timed("format", || {
        step::run(workspace::cargo().args(["fmt", "--all", "--check"]))
    }));
    reports.push(step::timed("clippy", || {
        step::run(
            workspace::cargo()
                .args(["clippy", "--workspace", "--all-targets", "--locked"])
                // After --: flags in RUSTFLAGS would build every dependency anew for the tests.
                .args(["--", "-D", "warnings"]),
        )
    }));
    reports.push(step::timed("documentation", || {
        step::run(
            workspace::cargo()
                .args([
                    "doc",
                    "--workspace",
                    "--no-deps",
                    "--document-private-items",
                    "--locked",
                ])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    }));
    reports.push(step::timed("dependency policy", policy::check));
    reports.push(step::timed("dashboards", dashboards::check));
    reports.push(step::timed("instructions", instructions::check));
    let mut tally = None;
    reports.push(step::timed("tests", || {
        let result = test::run(None)?;
        let failed = result.failed();
        tally = Some(result);
        anyhow::ensure!(failed == 0, "{failed} failed");
        Ok(())
    }));

    println!();
    for report in &reports {
        let outcome = if report.outcome.is_ok() {
            "ok"
        } else {
            "FAILED"
        };
        println!(
            "{outcome:>6}  {:<18} {}",
            report.name,
            step::words(report.took)
        );
    }
    println!("        {:<18} {}", "all", step::words(began.elapsed()));
    if let Some(tally) = tally {
        tally.print();
    }
    Ok(if reports.iter().all(|report| report.outcome.is_ok()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
