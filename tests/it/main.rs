//! What Doorward promises, tried from outside: one module per promise.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod config;
mod store_contract;
