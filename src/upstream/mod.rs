//! Floor 3: connections to upstreams: load balancing and ejection, the pool of idle connections, and one request with
//! its response on a connection. Outlives every snapshot.

pub mod balancer;
mod body;
pub mod connection;
pub mod ejection;
pub mod exchange;
pub mod failure;
pub mod pool;
mod stream;
