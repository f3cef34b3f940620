//! Floor 6: the parts put together, and the listeners.

pub mod admin;
pub mod echo;
pub mod listen;
pub mod plain;
pub mod stream;
