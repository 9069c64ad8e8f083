//! The sockets that audit records arrive on.
