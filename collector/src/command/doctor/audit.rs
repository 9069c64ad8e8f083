//! What the kernel's audit subsystem and its sockets allow.

use std::fs;

use crate::audit::client::{Client, ClientError};
use crate::audit::socket::{EventSocket, Grant, SocketError};
use crate::audit::status::KernelStatus;
use crate::command::status::process_name;

use super::{Finding, State, with_causes};

/// The receive buffer `run` would like for records, in bytes.
const WANTED_RECEIVE_BUFFER: usize = 16 << 20;

pub(super) fn examine() -> Vec<Finding> {
    let mut findings = vec![boot(fs::read_to_string("/proc/cmdline").ok().as_deref())];
    match Client::connect().and_then(|mut client| client.status()) {
        Ok(status) => {
            findings.push(enabled(&status));
            findings.push(holder(&status));
        }
        Err(error) => findings.push(unreachable(&error)),
    }
    findings.push(multicast());
    findings.push(receive_buffer());
    findings
}

/// Judges the kernel's command line (kernel/audit.c `audit_enable`; the last `audit=` counts).
fn boot(command_line: Option<&str>) -> Finding {
    let subject = "audit at boot";
    let Some(command_line) = command_line else {
        return Finding::bad(
            subject,
            State::Limits,
            "not known",
            "/proc/cmdline cannot be read",
        );
    };
    let value = command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("audit="))
        .next_back();
    match value {
        Some("0" | "off") => Finding::bad(
            subject,
            State::Prevents,
            "switched off by audit=0",
            "the kernel writes no record until it is booted without",
        )
        .mend("take audit=0 from the kernel's command line and reboot"),
        Some(value) => Finding::good(
            subject,
            format!("audit={value}"),
            "the kernel keeps records while no daemon takes them",
        ),
        // kernel/audit.c `kauditd_hold_skb`
        None => Finding::bad(
            subject,
            State::Limits,
            "no audit=1",
            "processes older than auditing are not audited, and records no daemon takes in time are dropped uncounted",
        )
        .mend("boot with audit=1"),
    }
}

fn enabled(status: &KernelStatus) -> Finding {
    match status.enabled {
        0 => Finding::good("audit", "off", "run switches it on in mode daemon"),
        1 => Finding::good("audit", "on", "settings and rules can be changed"),
        _ => Finding::bad(
            "audit",
            State::Limits,
            "on and locked",
            "settings and rules are what they are; records can be collected",
        )
        .mend("reboot, without -e 2 in the audit rules"),
    }
}

fn holder(status: &KernelStatus) -> Finding {
    if status.pid == 0 {
        return Finding::good("audit daemon", "none", "run can be the daemon");
    }
    let name = process_name(status.pid).unwrap_or_else(|| "unknown".into());
    Finding::bad(
        "audit daemon",
        State::Limits,
        format!("process {} ({name})", status.pid),
        "run reads beside it, in mode multicast",
    )
    .mend("to be the daemon, stop the other one first")
}

fn unreachable(error: &ClientError) -> Finding {
    let finding = Finding::bad(
        "audit",
        State::Prevents,
        with_causes(error),
        "the kernel's audit subsystem cannot be used",
    );
    match error {
        ClientError::Socket(SocketError::NoAudit) => finding
            .mend("boot a kernel with CONFIG_AUDIT and CONFIG_AUDITSYSCALL, and without audit=0"),
        _ => finding,
    }
}

fn multicast() -> Finding {
    match EventSocket::multicast(None) {
        Ok(_) => Finding::good("multicast", "can be joined", "mode multicast can work"),
        Err(error) => Finding::bad(
            "multicast",
            State::Limits,
            with_causes(&error),
            "mode multicast cannot work",
        ),
    }
}

fn receive_buffer() -> Finding {
    let subject = "receive buffer";
    let maximum = fs::read_to_string("/proc/sys/net/core/rmem_max")
        .map_or_else(|_| "unknown".into(), |text| text.trim().to_owned());
    match EventSocket::unicast(Some(WANTED_RECEIVE_BUFFER)).map(|socket| socket.receive_buffer()) {
        Ok(buffer) if buffer.grant == Grant::Full => Finding::good(
            subject,
            format!("{} bytes got, net.core.rmem_max {maximum}", buffer.bytes),
            "bursts of records find room",
        ),
        Ok(buffer) => Finding::bad(
            subject,
            State::Limits,
            format!("{} bytes got, net.core.rmem_max {maximum}", buffer.bytes),
            "a burst of records overruns the socket sooner",
        )
        .mend(format!(
            "give CAP_NET_ADMIN, or sysctl net.core.rmem_max={WANTED_RECEIVE_BUFFER}"
        )),
        Err(error) => Finding::bad(
            subject,
            State::Limits,
            with_causes(&error),
            "its size cannot be told",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_the_command_line_counts() {
        let state = |line| boot(Some(line)).state;
        assert_eq!(state("quiet audit=1"), State::Good);
        assert_eq!(state("audit=1 audit=0 x"), State::Prevents);
        assert_eq!(state("audit=off"), State::Prevents);
        assert_eq!(state("quiet xaudit=1 audit_backlog_limit=9"), State::Limits);
        assert_eq!(boot(None).state, State::Limits);
    }

    #[test]
    fn a_daemon_and_a_lock_limit_but_do_not_prevent() {
        let status = KernelStatus {
            enabled: 2,
            pid: std::process::id(),
            ..KernelStatus::default()
        };
        assert_eq!(enabled(&status).state, State::Limits);
        let holder = holder(&status);
        assert_eq!(holder.state, State::Limits);
        assert!(holder.found.contains(&status.pid.to_string()));
    }
}
