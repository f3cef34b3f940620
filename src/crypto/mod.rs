//! Floor 1: the only place that hashes, signs, draws or compares.

pub mod jwks;
pub mod jwt;
pub mod password;
pub mod signing;
pub mod token;
