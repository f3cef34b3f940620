//! Floor 6: the only place that binds, spawns and wires.

pub mod control;
pub mod execute;
pub mod explain;
pub mod services;
pub mod socket;
