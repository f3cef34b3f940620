//! Forward-auth: other proxies ask, and pass exactly the requests that the gateway itself would pass.

mod browser;
mod callers;
mod doctor;
mod grpc;
mod promises;
mod proxies;
mod questions;
