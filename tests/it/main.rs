//! The promises of Doorward, tested from outside: one module per promise, most of them with the real binary over real
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

mod administration;
mod apikeys;
mod assertion;
mod backup;
mod bodies;
mod bounds;
mod browser;
mod carriers;
mod chromium;
mod cli;
mod config;
mod differential;
mod drain;
mod durability;
mod foreign;
mod forward_auth;
mod framing;
mod guesses;
mod harness;
mod http2;
mod import;
mod introspection;
mod issuers;
mod key_files;
mod key_scopes;
mod keys;
mod limits;
mod mail;
mod minted;
mod oidc_provider;
mod opaque;
mod openapi;
mod output;
mod password;
mod paths;
mod people;
mod providers;
mod proxy;
mod races;
mod readme;
mod recorded;
mod refresh;
mod registration;
mod reload;
mod rfc6750;
mod rfc7519;
mod rights;
mod role_source;
mod roles;
mod session;
mod spoofing;
mod store_contract;
mod store_place;
mod streaming;
mod telemetry;
mod terminal;
mod timing;
mod upstreams;
