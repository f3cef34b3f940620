//! The promises of the gateway, one module each, held against the real binary over real sockets.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells what the gateway last said"
)]

mod harness;
mod framing;
mod paths;
mod proxy;
mod spoofing;
mod keys;
mod password;
mod registration;
mod session;
mod foreign;
mod rfc6750;
mod rfc7519;
mod roles;
