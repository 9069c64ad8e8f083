//! The standard `process_*` metrics of this process, from `/proc/self`.
//!
//! A figure that cannot be read is left out.

use std::fs;
use std::sync::OnceLock;

use nix::unistd::{SysconfVar, sysconf};
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};

/// What `/proc/self` says now.
pub(super) fn families() -> Vec<MetricFamily> {
    let mut families = Vec::with_capacity(7);
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            families.push(family(
                name,
                help,
                MetricType::GAUGE,
                Metric::from_gauge(gauge),
            ));
        }
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let stat = Stat::parse(&stat);
    gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        stat.number(24)
            .zip(setting(SysconfVar::PAGE_SIZE))
            .map(|(pages, size)| pages * size),
    );
    gauge(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        stat.number(23),
    );
    gauge(
        "process_threads",
        "Number of OS threads in the process.",
        stat.number(20),
    );
    gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        boot_time()
            .zip(stat.number(22).zip(setting(SysconfVar::CLK_TCK)))
            .map(|(boot, (ticks, hz))| boot + ticks / hz),
    );
    gauge(
        "process_open_fds",
        "Number of open file descriptors.",
        // The folder's own descriptor is among them.
        fs::read_dir("/proc/self/fd")
            .ok()
            .map(|fds| fds.count().saturating_sub(1) as f64),
    );
    gauge(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
            .ok()
            .map(|(soft, _)| soft as f64),
    );
    let cpu = stat
        .number(14)
        .zip(stat.number(15))
        .zip(setting(SysconfVar::CLK_TCK));
    if let Some(((user, system), hz)) = cpu {
        let mut counter = Counter::default();
        counter.set_value((user + system) / hz);
        let mut metric = Metric::default();
        metric.set_counter(counter);
        families.push(family(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            MetricType::COUNTER,
            metric,
        ));
    }
    families
}

/// Fields of `/proc/self/stat` by their number in proc_pid_stat(5), from 3 on.
struct Stat<'a>(Vec<&'a str>);

impl<'a> Stat<'a> {
    fn parse(text: &'a str) -> Self {
        // The name in parentheses may hold anything, so fields count from the last parenthesis.
        let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
        Self(fields.split_ascii_whitespace().collect())
    }

    fn number(&self, field: usize) -> Option<f64> {
        self.0.get(field - 3)?.parse().ok()
    }
}

fn setting(variable: SysconfVar) -> Option<f64> {
    sysconf(variable).ok()?.map(|value| value as f64)
}

fn boot_time() -> Option<f64> {
    static BOOT_TIME: OnceLock<Option<f64>> = OnceLock::new();
    *BOOT_TIME.get_or_init(|| {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
        line.trim().parse().ok()
    })
}

fn family(name: &str, help: &str, kind: MetricType, metric: Metric) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(vec![metric]);
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_figures_of_this_process_are_there() {
        let names: Vec<_> = families().iter().map(|f| f.name().to_owned()).collect();
        assert_eq!(names.len(), 7, "{names:?}");
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = Stat::parse("7 (a) b) R 1 2 3");
        assert_eq!(stat.number(4), Some(1.0));
    }
}
