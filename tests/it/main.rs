//! The promises of the gateway, each from outside of the module that keeps it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod config;
