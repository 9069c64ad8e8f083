//! Draws every dashboard of the repository, with figures from a real Prometheus that scrapes collectors on this kernel while they
//! lose events, and keeps the pictures. `cargo xtask dashboards screenshots` has what it needs and runs it.

mod browser;
mod palette;
mod scene;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use audit_collector_tests::grafana::Dashboard;
use audit_collector_tests::page::{Page, Values};
use audit_collector_tests::requirement::Requirement;
use audit_collector_tests::{picture, program, prometheus};
use clap::Parser;

use browser::Browser;
use scene::{DAEMON, Scene};

/// The dashboard for one host, and the variable that says for which.
const OF_ONE_HOST: (&str, &str) = ("audit-collector-host", "instance");

#[derive(Parser)]
struct Cli {
    /// A Chromium
    #[arg(long)]
    browser: PathBuf,
    /// uPlot's folder `dist`
    #[arg(long)]
    uplot: PathBuf,
    /// The folder for the pictures
    #[arg(long)]
    into: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let needs = [
        Requirement::AuditControl,
        Requirement::DaemonSeat,
        Requirement::NoRules,
        Requirement::Ebpf,
        Requirement::Mount,
        Requirement::Program(prometheus::PROGRAM),
    ];
    program::run("screenshots", needs, |interrupted| draw(&cli, interrupted))
}

fn draw(cli: &Cli, interrupted: &AtomicBool) -> anyhow::Result<()> {
    let browser = Browser::new(&cli.browser)?;
    let mut scene = Scene::set()?;
    scene.play(&|| interrupted.load(Ordering::Relaxed))?;
    // The same for all: what comes while they are drawn is not of the scene.
    let moments = scene.moments()?;
    for board in Dashboard::all()? {
        let place = cli.into.join(board.name()?);
        let picture = place.with_extension("png");
        let chosen = if board.0["uid"] == OF_ONE_HOST.0 {
            Values::from([(OF_ONE_HOST.1, DAEMON)])
        } else {
            Values::new()
        };
        let page = Page {
            board: &board,
            chosen,
            prometheus: scene.prometheus.address(),
            moments,
            note: &scene::note(),
        };
        save(&browser, &page, &cli.uplot, &picture)
            .with_context(|| format!("cannot draw {}", picture.display()))?;
        fs::write(
            place.with_extension("sha256"),
            picture::note(board.name()?)?,
        )?;
        println!("drew {}", picture.display());
    }
    scene.end()
}

fn save(browser: &Browser, page: &Page<'_>, uplot: &Path, picture: &Path) -> anyhow::Result<()> {
    browser.draw(&page.html(uplot)?, page.size()?, picture)
}
