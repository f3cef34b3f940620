//! What Doorward promises, tried from outside: one module per promise, most of them against the real binary over real
//! sockets.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells what the gateway last said"
)]

mod apikeys;
mod config;
mod foreign;
mod framing;
mod harness;
mod keys;
mod password;
mod paths;
mod proxy;
mod registration;
mod rfc6750;
mod rfc7519;
mod role_source;
mod roles;
mod session;
mod spoofing;
mod store_contract;
