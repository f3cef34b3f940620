//! Floor 4: one configuration made ready.

use std::net::IpAddr;
use std::sync::Arc;

use crate::account::Accounts;
use crate::auth::Authorizer;
use crate::config::Config;
use crate::crypto::password::PasswordPool;
use crate::crypto::signing::SigningKeys;
use crate::crypto::token::TokenKeys;
use crate::mail::Mailer;
use crate::model::clock::Clock;
use crate::model::id::RequestId;
use crate::store::Store;
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;

/// What lives longer than one configuration.
#[derive(Clone, Debug)]
pub struct Services {
    /// Records at rest.
    pub store: Arc<dyn Store>,
    /// The hashing pool.
    pub passwords: Arc<PasswordPool>,
    /// Keys of digests and refresh tokens.
    pub token_keys: Arc<TokenKeys>,
    /// Signing keys.
    pub signing: Arc<SigningKeys>,
    /// Mail.
    pub mailer: Arc<dyn Mailer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Access records.
    pub access: Arc<AccessLog>,
}

/// One configuration made ready: a request sees exactly one.
#[derive(Debug)]
pub struct Snapshot {
    /// What it was built from.
    pub config: Arc<Config>,
    /// The decision.
    pub authorizer: Authorizer,
    /// The account's life.
    pub accounts: Accounts,
    /// What outlives it.
    pub services: Services,
}

/// What the gateway's own endpoints know about the request beside its HTTP: an extension of each request.
#[derive(Clone, Debug)]
pub struct RequestScope {
    /// The request's id.
    pub id: RequestId,
    /// The client's address, after trusted proxies.
    pub client: IpAddr,
    /// The configuration this request sees.
    pub snapshot: Arc<Snapshot>,
}
