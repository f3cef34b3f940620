//! Floor 8: everything that reads bytes from callers. Accept loops, the caller's stream, and their limits.

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
