//! Floor 6: the only place that binds, spawns and wires.

pub mod admin;
pub mod control;
pub mod echo;
pub mod execute;
pub mod explain;
pub mod listen;
pub mod plain;
pub mod services;
pub mod socket;
pub mod stream;
