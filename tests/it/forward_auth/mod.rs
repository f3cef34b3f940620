//! Forward-auth: other proxies ask, and let through what the gateway itself would.

mod grpc;
mod promises;
mod proxies;
mod questions;
