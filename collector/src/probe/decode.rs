//! Bytes of a ring sample into an observation.
