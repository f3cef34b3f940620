//! Doorward: a reverse-proxy auth gateway. The modules stand in floor order: each names lower ones only.

// Floor 0
pub mod model;
// Floor 1
pub mod config;
pub mod crypto;
pub mod fetch;
pub mod limit;
pub mod route;
pub mod telemetry;
// Floor 2
pub mod issuer;
pub mod mail;
pub mod role_source;
pub mod store;
// Floor 3
pub mod account;
pub mod auth;
// Floor 4
pub mod snapshot;
// Floor 5
pub mod proxy;
pub mod web;
// Floor 6
pub mod app;
// Floor 7
pub mod cli;
