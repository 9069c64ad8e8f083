//! What the programs here have in common that change the kernel's audit state for a while: the demo, the benches, the screenshots.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::requirement::Requirement;

/// What sysexits.h calls EX_NOPERM, as of the collector itself.
const EXIT_NOT_PERMITTED: u8 = 77;
/// As of a shell's child that ended by SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// Does the work of the program called `name`, and says why where that does not end well. SIGINT and SIGTERM are noticed between its
/// steps rather than ending it, since what is changed must be put back.
pub fn run(
    name: &str,
    needs: impl IntoIterator<Item = Requirement>,
    work: impl FnOnce(&Arc<AtomicBool>) -> anyhow::Result<()>,
) -> ExitCode {
    let missing: Vec<String> = needs.into_iter().filter_map(Requirement::missing).collect();
    if !missing.is_empty() {
        let missing = missing.join("; ");
        eprintln!(
            "{name}: cannot run here: {missing} (root on the host, with no other audit daemon, has all the rights it takes)"
        );
        return ExitCode::from(EXIT_NOT_PERMITTED);
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    let registered = [SIGINT, SIGTERM].into_iter().try_for_each(|signal| {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map(drop)
    });
    match registered
        .map_err(Into::into)
        .and_then(|()| work(&interrupted))
    {
        Ok(()) => ExitCode::SUCCESS,
        // The programs it runs get Ctrl-C too, so whatever failed did so for that.
        Err(_) if interrupted.load(Ordering::Relaxed) => {
            eprintln!(
                "\n{name}: interrupted; the kernel's audit settings and rules are as they were"
            );
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Err(error) => {
            eprintln!(
                "\n{name}: {error:#}; the kernel's audit settings and rules are as they were"
            );
            ExitCode::FAILURE
        }
    }
}
