//! Floor 1: which route a request means.

pub mod head;
pub mod normalize;
pub mod table;
