//! Floor 3: connections to upstreams: load balancing and ejection. Outlives every snapshot.

pub mod balancer;
pub mod ejection;
