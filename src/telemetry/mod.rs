//! Floor 1: what the gateway tells its operators.

pub mod access;
pub mod audit;
pub mod log;
pub mod metrics;
