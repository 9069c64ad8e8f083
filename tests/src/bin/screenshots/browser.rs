//! A Chromium without a window: what it shows of a page, as a PNG.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use audit_collector_tests::page::{DRAWN, Size};
use tempfile::TempDir;

use crate::palette;

/// How long one page may take.
const TIME: Duration = Duration::from_secs(60);

/// What the page may take to fetch its figures, in ms of the page's own time.
const BUDGET: u32 = 20_000;

/// One that keeps what it writes to itself.
pub(super) struct Browser {
    program: PathBuf,
    folder: TempDir,
}

impl Browser {
    pub(super) fn new(program: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            program: program.to_owned(),
            folder: tempfile::tempdir()?,
        })
    }

    /// Has it draw the page `html`, and keeps what is seen as `picture`.
    pub(super) fn draw(&self, html: &str, size: Size, picture: &Path) -> anyhow::Result<()> {
        let page = self.folder.path().join("page.html");
        fs::write(&page, html)?;
        let seen = self.folder.path().join("page.png");
        let (stdout, stderr) = (
            self.folder.path().join("dom"),
            self.folder.path().join("stderr"),
        );
        let mut child = Command::new(&self.program)
            .args([
                "--headless",
                // Ours is the only page, and root has no other way.
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--force-device-scale-factor=1",
                // Nothing but this machine is asked for anything.
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                "--dump-dom",
            ])
            .arg(format!("--virtual-time-budget={BUDGET}"))
            .arg(format!("--window-size={},{}", size.width, size.height))
            .arg(format!(
                "--user-data-dir={}",
                self.folder.path().join("profile").display()
            ))
            .arg(format!("--screenshot={}", seen.display()))
            .arg(format!("file://{}", page.display()))
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let began = Instant::now();
        let status: ExitStatus = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if began.elapsed() > TIME {
                child.kill()?;
                child.wait()?;
                bail!("the browser did not end");
            }
            thread::sleep(Duration::from_millis(50));
        };
        let said = fs::read(&stderr)?;
        ensure!(
            status.success(),
            "the browser ended with {status}: {}",
            String::from_utf8_lossy(&said)
        );
        let document = fs::read_to_string(&stdout)?;
        ensure!(
            document.contains(DRAWN),
            "the page was not drawn: {document}"
        );
        let seen_of = BufReader::new(File::open(&seen)?);
        palette::reduce(seen_of, BufWriter::new(File::create(picture)?))?;
        fs::remove_file(&seen)?;
        Ok(())
    }
}
