//! Debian's audit daemon in the foreground, with a configuration and a log of its own: the neighbour that a collector
//! runs beside. The machine's own service and its files are left alone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use collector::audit::client::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::requirement::{find_program, patience};

/// What a test that starts it has to name among its requirements.
pub const PROGRAM: &str = "auditd";

/// How long it may take to become the daemon, and to end.
const TIME: Duration = Duration::from_secs(10);

/// A daemon that runs until this is dropped.
#[derive(Debug)]
pub struct Auditd {
    child: Child,
    folder: TempDir,
}

impl Auditd {
    /// Starts it and waits until the kernel holds it for the daemon. It leaves rules and settings as they are.
    ///
    /// # Errors
    /// Where it does not become the daemon in time.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// [`Auditd::start`] with plugins, each of a name and what its file in `plugins.d` says.
    ///
    /// # Errors
    /// As [`Auditd::start`].
    pub fn start_with(plugins_of: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let plugins = folder.path().join("plugins.d");
        fs::create_dir(&plugins)?;
        for (name, settings) in plugins_of {
            let file = plugins.join(format!("{name}.conf"));
            fs::write(&file, settings)?;
            // It takes nothing that others could write.
            fs::set_permissions(&file, Permissions::from_mode(0o640))?;
        }
        let log = folder.path().join("audit.log");
        let settings = format!(
            "local_events = yes\nwrite_logs = yes\nlog_file = {}\nlog_format = RAW\n\
             flush = INCREMENTAL_ASYNC\nfreq = 50\nmax_log_file = 1000\nmax_log_file_action = ignore\n\
             space_left = 75\nspace_left_action = ignore\nadmin_space_left = 50\n\
             admin_space_left_action = ignore\ndisk_full_action = ignore\ndisk_error_action = ignore\n\
             plugin_dir = {}\n",
            log.display(),
            plugins.display()
        );
        fs::write(folder.path().join("auditd.conf"), settings)?;
        let child = Command::new(find_program(PROGRAM).context("auditd is not installed")?)
            .args(["-n", "-s", "nochange", "-c"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run auditd")?;
        let mut daemon = Self { child, folder };
        let mut client = Client::connect()?;
        let began = Instant::now();
        while client.status()?.pid != daemon.child.id() {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("auditd ended with {status}");
            }
            if began.elapsed() > patience(TIME) {
                bail!("auditd did not become the daemon");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it writes records.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }
}

impl Drop for Auditd {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if began.elapsed() > patience(TIME) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
