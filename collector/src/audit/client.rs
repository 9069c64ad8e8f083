//! Requests to the kernel over a netlink socket of their own: status, settings, rules.
