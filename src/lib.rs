//! Doorward: a reverse-proxy auth gateway. Modules are listed in floor order: each one uses only modules of lower
//! floors.

// Floor 0
pub mod model;
// Floor 1
pub mod crypto;
pub mod fetch;
pub mod limit;
pub mod route;
pub mod telemetry;
// Floor 2
pub mod config;
// Floor 3
pub mod issuer;
pub mod mail;
pub mod process;
pub mod role_source;
pub mod store;
pub mod upstream;
// Floor 4
pub mod account;
pub mod auth;
// Floor 5
pub mod snapshot;
// Floor 6
pub mod proxy;
pub mod web;
// Floor 7
pub mod edge;
// Floor 8
pub mod doctor;
pub mod operator;
// Floor 9
pub mod app;
// Floor 10
pub mod cli;
