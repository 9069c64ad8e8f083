//! Memory over many requests.

use std::fs;

use audit_collector_tests::again;
use collector::audit::client::Client;

use crate::{rule, take};

/// How often a rule is added and deleted; the kernel takes some 12 ms for each deletion (`synchronize_rcu`).
const CYCLES: &str = "AUDIT_COLLECTOR_CYCLES";

/// Cycles that are not counted, in which buffers find their size.
const WARM_UP: u32 = 50;

/// What memory may grow by in all, in bytes: noise of the allocator. With 500 cycles, a rule lost in each would be more.
const NOISE: u64 = 256 * 1024;

#[test]
fn memory_stays_flat_while_rules_come_and_go() {
    if again::is_child() {
        return cycle();
    }
    let Some(_guard) = take() else {
        return;
    };
    // In a process of its own, where no other test takes memory.
    let said = again::beside("cycles::memory_stays_flat_while_rules_come_and_go").unwrap();
    let figures = said.lines().find(|line| line.contains("resident"));
    println!("{}", figures.unwrap());
}

fn cycle() {
    let cycles: u32 = std::env::var(CYCLES).map_or(500, |cycles| cycles.parse().unwrap());
    let mut client = Client::connect().unwrap();
    let mut before = 0;
    for cycle in 0..WARM_UP + cycles {
        if cycle == WARM_UP {
            before = resident();
        }
        client.add_rule(&rule()).unwrap();
        // A refusal takes another way through the client.
        client.add_rule(&rule()).unwrap_err();
        assert!(client.rules().unwrap().contains(&rule()));
        client.delete_rule(&rule()).unwrap();
    }
    let after = resident();
    println!("{cycles} cycles: {before} bytes resident before, {after} after");
    assert!(after <= before + NOISE, "{before} bytes grew to {after}");
    assert_eq!(client.take_unrelated().count(), 0);
}

/// Memory of this process in use, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    let kib: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    kib * 1024
}
