//! Floor 4: the services that the modules of higher floors share, as one value.

pub mod key_use;
#[cfg(test)]
pub(crate) mod test_kit;

use std::sync::Arc;

use crate::crypto::password::PasswordPool;
use crate::crypto::signing::SigningKeys;
use crate::crypto::token::TokenKeys;
use crate::issuer::Issuers;
use crate::limit::CounterSets;
use crate::mail::{Mailer, post::Post};
use crate::model::clock::Clock;
use crate::role_source::RoleSources;
use crate::services::key_use::KeyUse;
use crate::store::Store;
use crate::store::backup::Backups;
use crate::store::key_files::KeyFiles;
use crate::store::uses::SessionUses;
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::output::Output;

/// The services of a snapshot. A reload replaces the mailer, the issuers and, if changed, the role sources; it keeps
/// the others.
#[derive(Clone, Debug)]
pub struct Services {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The hashing pool.
    pub passwords: Arc<PasswordPool>,
    /// The keys of digests and refresh tokens.
    pub token_keys: Arc<TokenKeys>,
    /// The keys that sign access tokens.
    pub signing: Arc<SigningKeys>,
    /// The keys that sign assertions.
    pub assertion_keys: Arc<SigningKeys>,
    /// The mailer of this configuration.
    pub mailer: Arc<dyn Mailer>,
    /// The state that mail delivery keeps across reloads.
    pub post: Arc<Post>,
    /// The counters of limits.
    pub counters: Arc<CounterSets>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The queue of uses of session cookies for the store.
    pub session_uses: Arc<SessionUses>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The access log.
    pub access: Arc<AccessLog>,
    /// The output of everything on standard output and standard error.
    pub output: Arc<Output>,
    /// The rates and last uses of API keys.
    pub key_use: Arc<KeyUse>,
    /// The role sources.
    pub role_sources: Arc<RoleSources>,
    /// Backups of the store; `None` if it is in memory.
    pub backups: Option<Arc<Backups>>,
    /// The key files on disk; `None` if there are none.
    pub key_files: Option<Arc<KeyFiles>>,
    /// The foreign issuers of this configuration.
    pub issuers: Arc<Issuers>,
}
