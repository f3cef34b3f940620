//! Floor 0: the types of the domain, each with its rule.
//!
//! Nothing here does I/O, waits, draws random bytes or reads the clock, except [`clock`], which is the only place that
//! may.

pub mod access;
pub mod account;
pub mod algorithm;
pub mod api_key;
pub mod bucket;
pub mod claim_path;
pub mod client_network;
pub mod clock;
pub mod credential;
pub mod deny;
pub mod email;
pub mod endpoint;
pub mod error_code;
pub mod field;
pub mod field_name;
pub mod field_value;
pub mod forwarding;
pub mod id;
pub mod identity;
pub mod key_file;
pub mod mail;
pub mod path;
pub mod printable;
pub mod problem;
pub mod refusal_fault;
pub mod role_source;
pub mod route;
pub mod secret;
mod table;
mod text;
pub mod token_fault;
