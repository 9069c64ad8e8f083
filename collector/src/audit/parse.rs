//! Bytes from a socket or a log line into a record.
