//! The loaded audit rules, compiled into what the BPF programs evaluate.
