//! Floor 1: logs, audit events, access records and metrics for operators.

pub mod access;
pub mod audit;
mod causes;
pub mod edge;
mod fold;
mod histogram;
pub mod issuer;
pub mod log;
pub mod metrics;
pub mod output;
mod register;
#[cfg(test)]
mod test_kit;
pub mod upstream;
