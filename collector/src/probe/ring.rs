//! Reading the ring buffer.
