//! Floor 7: whatever takes bytes from callers. Accept loops, the caller's stream, and what bounds them.

pub mod admin;
pub(crate) mod budget;
pub(crate) mod connections;
pub(crate) mod drain;
pub mod echo;
pub(crate) mod grpc;
pub mod listen;
pub(crate) mod memory;
mod plain;
pub mod stream;
