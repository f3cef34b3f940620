//! Forward-auth: other proxies ask, and let through what the gateway itself would.

mod browser;
mod callers;
mod doctor;
mod grpc;
mod promises;
mod proxies;
mod questions;
