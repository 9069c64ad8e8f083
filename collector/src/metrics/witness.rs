//! The eBPF programs, their ring buffer and their maps.

use super::family::{Families, Number};
use crate::account::{Account, Ebpf, Texts};
use crate::probe::hooks::Level;

/// The ring buffers there are.
const RINGBUF: &str = "observations";
const TEXT_RINGBUF: &str = "texts";
const TEXT_DROP_REASONS: [&str; 4] = ["ring_full", "unreadable", "missed_run", "undecodable"];

const EBPF_DROP_REASONS: [&str; 4] = ["ring_full", "in_flight_full", "missed_run", "undecodable"];
const EBPF_UPDATED_MAPS: [&str; 5] = ["in_flight", "kept", "conditions", "plans", "control"];

pub(super) fn add(families: &mut Families, account: &Account) {
    for level in Level::ALL {
        let value = u32::from(account.level == Some(level));
        families.set("witness_level", &[level.name()], value);
    }
    if let Some(figures) = &account.ebpf {
        ebpf(families, figures);
    }
}

fn ebpf(families: &mut Families, ebpf: &Ebpf) {
    for (program, attached) in &ebpf.programs {
        families.set("ebpf_program_attached", &[program], u32::from(*attached));
    }
    for (program, runs) in &ebpf.runs {
        families.set("ebpf_program_runs_total", &[program], Number(runs.runs));
        families.set(
            "ebpf_program_run_seconds_total",
            &[program],
            runs.time.as_secs_f64(),
        );
    }
    families.counts(
        "ebpf_program_missed_runs_total",
        &[],
        &[],
        &ebpf.missed_runs,
    );
    families.set("ebpf_attempted_events_total", &[], Number(ebpf.attempted));
    families.set("ebpf_submitted_events_total", &[], Number(ebpf.submitted));
    families.counts("ebpf_events_total", &[], &[], &ebpf.read);
    families.counts(
        "ebpf_ringbuf_dropped_events_total",
        &[RINGBUF],
        &EBPF_DROP_REASONS,
        &ebpf.dropped,
    );
    for (name, value) in [
        ("ebpf_ringbuf_size_bytes", ebpf.ring_size),
        ("ebpf_ringbuf_used_bytes", ebpf.ring_used),
        ("ebpf_ringbuf_used_peak_bytes", ebpf.ring_used_peak),
    ] {
        families.set(name, &[RINGBUF], Number(value));
    }
    texts(families, &ebpf.texts);
    for (map, (entries, capacity)) in &ebpf.maps {
        families.set("ebpf_map_entries", &[map], Number(*entries));
        families.set("ebpf_map_max_entries", &[map], Number(*capacity));
    }
    families.counts(
        "ebpf_map_update_errors_total",
        &[],
        &EBPF_UPDATED_MAPS,
        &ebpf.map_update_errors,
    );
}

/// The ring with the texts of records.
fn texts(families: &mut Families, texts: &Texts) {
    families.counts(
        "ebpf_ringbuf_dropped_events_total",
        &[TEXT_RINGBUF],
        &TEXT_DROP_REASONS,
        &texts.dropped,
    );
    for (name, value) in [
        ("ebpf_ringbuf_size_bytes", texts.ring_size),
        ("ebpf_ringbuf_used_bytes", texts.ring_used),
        ("ebpf_ringbuf_used_peak_bytes", texts.ring_used_peak),
    ] {
        families.set(name, &[TEXT_RINGBUF], Number(value));
    }
}
