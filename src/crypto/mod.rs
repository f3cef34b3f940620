//! Floor 1: the only place that hashes, signs, draws or compares.

pub mod jwks;
pub mod jwt;
mod key_file;
pub mod password;
pub mod signing;
pub mod strict_json;
pub mod token;
