//! Floor 1: which route a request means.

pub mod normalize;
pub mod table;
