//! Services for tests: real ones with records in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::crypto::password::PasswordPool;
use crate::crypto::ring::Signed;
use crate::crypto::signing::SigningKeys;
use crate::crypto::token::TokenKeys;
use crate::issuer::{IssuerParts, Issuers};
use crate::limit::CounterSets;
use crate::mail::post::Post;
use crate::model::algorithm::Algorithm;
use crate::model::clock::Clock;
use crate::role_source::RoleSources;
use crate::services::Services;
use crate::store::generations::Generations;
use crate::store::memory::MemoryStore;
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::output::Output;

/// Returns the services of a configuration, without role sources and foreign issuers.
pub(crate) fn services(config: &Config, clock: Arc<dyn Clock>) -> Services {
    let (metrics, output) = (Arc::new(Metrics::new()), Output::to_nowhere());
    let post = Post::open(
        None,
        Arc::clone(&clock),
        Arc::clone(&metrics),
        Arc::clone(&output),
    )
    .unwrap();
    let mailer = post.mailer(&config.mail, &config.listen.public_url.text);
    let ring = |signed, algorithm, life| {
        let keys = SigningKeys::open(None, signed, algorithm, life, clock.now());
        Arc::new(keys.unwrap())
    };
    let tokens = &config.tokens;
    let issuers = IssuerParts {
        dir: Path::new("unused"),
        keeps: true,
        clock: &clock,
        metrics: &metrics,
    };
    Services {
        store: Arc::new(MemoryStore::new(Arc::new(Generations::new()))),
        passwords: Arc::new(PasswordPool::start(1, Duration::from_secs(2)).unwrap()),
        token_keys: Arc::new(TokenKeys::open(None).unwrap()),
        signing: ring(Signed::AccessToken, tokens.algorithm, tokens.access_ttl),
        assertion_keys: ring(Signed::Assertion, Algorithm::EdDSA, Duration::from_mins(1)),
        mailer: mailer.unwrap(),
        post,
        counters: Arc::new(CounterSets::new(&clock)),
        session_uses: Arc::default(),
        access: Arc::new(AccessLog::off()),
        output,
        key_use: Arc::default(),
        role_sources: Arc::new(RoleSources::new(
            &[],
            &config.roles.ladder,
            10,
            Arc::clone(&clock),
            Arc::clone(&metrics),
        )),
        issuers: Arc::new(Issuers::open(&[], issuers, None).unwrap()),
        backups: None,
        key_files: None,
        metrics,
        clock,
    }
}
