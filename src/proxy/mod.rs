//! Floor 5: Pingora's phases.

pub mod guard;
