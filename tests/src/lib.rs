//! What the end-to-end tests, the demo and the screenshots stand on: the lock that makes them run one at a time, the guard that puts
//! the kernel's audit state back, the workload, the collector as a process, and what it says.
//!
//! Everything here acts on the real kernel. A test that lacks something says so through [`requirement`] and is never
//! silently skipped.

pub mod address;
pub mod again;
pub mod audit_state;
pub mod auditctl;
pub mod auditd;
pub mod balance;
pub mod bpf_maps;
pub mod bpf_stats;
pub mod changes;
pub mod disk;
pub mod displacement;
pub mod example;
pub mod exposition;
pub mod files;
pub mod grafana;
pub mod journal;
pub mod listener;
pub mod lock;
pub mod page;
pub mod picture;
pub mod process;
pub mod program;
pub mod prometheus;
pub mod promtool;
mod remote_write;
pub mod requirement;
pub mod ring;
pub mod storm;
pub mod stream;
pub mod sys;
pub mod time_scale;
pub mod timing;
pub mod tls;
pub mod typed;
pub mod verification;
pub mod wait;
pub mod witnesses;
pub mod workload;

use std::path::PathBuf;

/// The folder cargo built the running program into, where its siblings (`audit-collector`, `workload`) are too.
pub fn built_folder() -> PathBuf {
    let program = std::env::current_exe().expect("/proc/self/exe can be read");
    let folder = program.parent().expect("a program lies in a folder");
    match folder.file_name() {
        // Test programs lie one level deeper.
        Some(name) if name == "deps" => folder.parent().expect("deps lies in a folder"),
        _ => folder,
    }
    .to_owned()
}
