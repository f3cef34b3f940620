//! Floor 1: what the gateway tells its operators.

pub mod access;
pub mod audit;
mod bearer;
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
