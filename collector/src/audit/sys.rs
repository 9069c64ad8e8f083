//! System calls of the audit sockets; the only unsafe code of this module.
