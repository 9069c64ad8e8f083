//! What this kernel allows the eBPF witness to do.
