//! Floor 1: all hashing, signing, drawing of random values, and comparison of secrets.

mod api_key;
pub mod digest;
mod jwk;
pub mod jwks;
pub mod jwt;
pub mod key_file;
pub mod password;
pub(crate) mod random;
pub mod ring;
mod ring_file;
pub mod seal;
mod session_secret;
mod sha_crypt;
pub mod signing;
mod signing_key;
pub mod strict_json;
#[cfg(test)]
pub(crate) mod test_keys;
pub mod token;
