//! What the host knows about the numbers in an event. Each part is off unless asked for.

pub mod users;
