//! The account as Prometheus text.
//!
//! Names, types, labels and help come from `metrics.tsv`, the one table of all metrics. Every combination of labels whose
//! values are closed sets is there from the first scrape, at zero, so that `increase()` sees the first loss. Nothing is
//! counted here: what is served is a copy of the [`Account`], so that metrics, account line and ledger say the same.
//! A family without a value (status never read, no eBPF) is left out rather than served as a guess.

mod assembly;
mod canary;
mod config;
mod crosscheck;
mod family;
mod kernel;
mod losses;
mod process;
mod reference;
mod rules;
mod runtime;
mod sinks;
mod sockets;
mod verify;
mod witness;

use std::sync::Arc;

use prometheus::proto::MetricFamily;
use prometheus::{Encoder as _, TextEncoder};

use self::family::Families;
use crate::account::Account;
use crate::config::LoadState;
pub use reference::reference;

/// The Content-Type of [`Metrics::render`]; Prometheus 3 refuses a scrape without one it knows.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is rendered beside the account.
#[derive(Debug)]
pub struct Metrics {
    kernel_release: String,
    arch: String,
    config: Arc<LoadState>,
}

impl Metrics {
    /// Asks the kernel for its release and architecture. `config` says what came of loading the configuration.
    pub fn new(config: Arc<LoadState>) -> Self {
        let name = nix::sys::utsname::uname().ok();
        let text = |field: Option<&std::ffi::OsStr>| {
            field.map_or_else(String::new, |text| text.to_string_lossy().into_owned())
        };
        Self {
            kernel_release: text(name.as_ref().map(|name| name.release())),
            arch: text(name.as_ref().map(|name| name.machine())),
            config,
        }
    }

    /// The account, and this process, in the text format 0.0.4.
    pub fn render(&self, account: &Account) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(32 << 10);
        TextEncoder::new().encode(&self.families(account), &mut text)?;
        Ok(text)
    }

    fn families(&self, account: &Account) -> Vec<MetricFamily> {
        let mut families = Families::default();
        self.info(&mut families, account);
        for add in [
            kernel::add,
            losses::add,
            assembly::add,
            sockets::add,
            witness::add,
            crosscheck::add,
            verify::add,
            sinks::add,
            rules::add,
            canary::add,
        ] {
            add(&mut families, account);
        }
        config::add(&mut families, &self.config);
        runtime::add(&mut families);
        let mut families = families.finish();
        families.extend(process::families());
        families
    }

    fn info(&self, families: &mut Families, account: &Account) {
        families.set(
            "build_info",
            &[
                env!("CARGO_PKG_VERSION"),
                option_env!("AUDIT_COLLECTOR_REVISION").unwrap_or("unknown"),
                env!("AUDIT_COLLECTOR_RUSTC"),
                env!("AUDIT_COLLECTOR_TARGET"),
            ],
            1,
        );
        let labels = [
            self.kernel_release.as_str(),
            self.arch.as_str(),
            account.input.source,
        ];
        families.set("host_info", &labels, 1);
    }
}

#[cfg(test)]
mod tests;
