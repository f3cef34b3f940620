//! Floor 3: upstreams as they are reached: whose turn it is, and which addresses are skipped. Outlives every snapshot.

pub mod balancer;
pub mod ejection;
