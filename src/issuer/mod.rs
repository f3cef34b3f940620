//! Floor 3: foreign issuers: their keys, from files or fetched periodically, and the introspection of their opaque tokens.
//!
//! No task is spawned here: `app` runs [`IssuerState::keep_fresh`] for the issuers that [`Issuers::adopt`] got last. A
//! decision reads the result of that task, and waits for it only if a token names an unknown key.

mod authorities;
mod introspection;
mod kept;
pub(crate) mod refresh;
mod remote;
mod schedule;
mod source;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::config::{Issuer, KeySource};
use crate::crypto::jwks::{DOCUMENT_BYTES_MAX, KeySet, KeySetError};
use crate::fetch::TrustError;
use crate::issuer::authorities::{Authorities, CaFile};
pub use crate::issuer::introspection::IntrospectedToken;

use crate::issuer::introspection::Introspector;
use crate::issuer::kept::KeySetFile;
use crate::issuer::remote::{RemoteKeys, RemoteKeysParts};
use crate::issuer::source::KeySetSource;
use crate::model::clock::{Clock, Timestamp};
use crate::model::token_fault::TokenFault;
use crate::telemetry::issuer::IssuerMetrics;
use crate::telemetry::metrics::Metrics;

/// The reason why an issuer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a usable key set.
    #[error("{path} cannot be used")]
    Keys {
        /// The file.
        path: String,
        /// The problem.
        #[source]
        source: KeySetError,
    },
    /// The file is not one of certificate authorities.
    #[error("{path} cannot be used")]
    Authorities {
        /// The file.
        path: String,
        /// The problem.
        #[source]
        source: TrustError,
    },
    /// TLS is needed, and the system has no certificate authorities.
    #[error(
        "the system has no CA certificates: install them (package ca-certificates), or set `ca_file`"
    )]
    NoAuthorities,
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] TrustError),
}

/// The error of a token that cannot be verified: the issuer does not answer, and its last known keys are too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an issuer cannot be reached")]
pub struct IssuerDown;

/// The current keys of an issuer, and their generation.
#[derive(Clone, Debug)]
pub struct KeysNow {
    /// The keys.
    pub keys: Arc<KeySet>,
    /// The generation for [`IssuerState::is_current`].
    pub generation: u64,
}

/// The state of one issuer. It outlives reloads that do not change the issuer's settings.
pub struct IssuerState {
    settings: Issuer,
    /// Digest of the file of authorities, if there is one.
    authorities: Option<[u8; 32]>,
    keys: Keys,
    introspector: Option<Introspector>,
    metrics: IssuerMetrics,
}

enum Keys {
    Fixed(Arc<KeySet>),
    Remote(Box<RemoteKeys>),
    None,
}

impl fmt::Debug for IssuerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerState")
            .field("name", &self.settings.name)
            .finish_non_exhaustive()
    }
}

impl IssuerState {
    /// Returns the configured name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether its tokens are verified with keys. Otherwise each is introspected.
    #[must_use]
    pub const fn has_keys(&self) -> bool {
        !matches!(self.keys, Keys::None)
    }

    /// Whether it introspects opaque tokens.
    #[must_use]
    pub const fn introspects(&self) -> bool {
        self.introspector.is_some()
    }

    /// The current keys. Waits only for the first fetch, if it is in progress.
    ///
    /// # Errors
    /// [`IssuerDown`] if there are none, or they were confirmed too long ago.
    pub async fn keys(&self) -> Result<KeysNow, IssuerDown> {
        match &self.keys {
            Keys::Fixed(keys) => Ok(KeysNow {
                keys: Arc::clone(keys),
                generation: 0,
            }),
            Keys::Remote(remote) => {
                let held = remote.held().await.ok_or(IssuerDown)?;
                Ok(KeysNow {
                    keys: Arc::clone(&held.keys),
                    generation: held.generation,
                })
            }
            Keys::None => Err(IssuerDown),
        }
    }

    /// Newer keys with one of this id, which [`IssuerState::keys`] did not have; `None`: no such key is found within 2 s. Causes
    /// at most one fetch in 30 s.
    pub async fn keys_with(&self, kid: &str) -> Option<KeysNow> {
        let Keys::Remote(remote) = &self.keys else {
            return None;
        };
        let held = remote.refetched(kid).await?;
        Some(KeysNow {
            keys: Arc::clone(&held.keys),
            generation: held.generation,
        })
    }

    /// Whether results that were verified with the keys of a generation are still valid: no key has been removed since, and
    /// the keys are not too old.
    #[must_use]
    pub fn is_current(&self, generation: u64, now: Timestamp) -> bool {
        match &self.keys {
            Keys::Remote(remote) => remote.is_current(generation, now),
            Keys::Fixed(_) | Keys::None => true,
        }
    }

    /// Introspects an opaque token, which a client at this address presents.
    ///
    /// # Errors
    /// [`IssuerDown`] if the issuer gives no valid answer.
    pub async fn introspect(
        &self,
        text: &str,
        client: IpAddr,
    ) -> Result<IntrospectedToken, IssuerDown> {
        let introspector = self.introspector.as_ref().ok_or(IssuerDown)?;
        introspector.ask(text, client).await
    }

    /// Caches the refusal of an opaque token for some seconds, whatever the issuer says of it.
    pub fn refuse(&self, text: &str, fault: &TokenFault) {
        if let Some(introspector) = &self.introspector {
            introspector.refuse(text, fault);
        }
    }

    /// Counters of the issuer.
    #[must_use]
    pub const fn metrics(&self) -> &IssuerMetrics {
        &self.metrics
    }

    /// Whether it is unreachable.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        let keys_are = matches!(&self.keys, Keys::Remote(remote) if remote.is_degraded());
        keys_are
            || self
                .introspector
                .as_ref()
                .is_some_and(Introspector::is_degraded)
    }

    /// Fetches its keys periodically, as long as it is polled, which one task at a time may do. Returns at once if there is
    /// nothing to fetch.
    pub async fn keep_fresh(&self) {
        if let Keys::Remote(remote) = &self.keys {
            remote.keep_fresh().await;
        }
    }
}

/// The issuers of one configuration, in its order.
#[derive(Debug)]
pub struct Issuers {
    all: Vec<Arc<IssuerState>>,
    /// The issuers whose keys are fetched, shared by all configurations.
    adopted: watch::Sender<Vec<Arc<IssuerState>>>,
    metrics: Arc<Metrics>,
}

/// Dependencies of issuers.
#[derive(Clone, Copy, Debug)]
pub struct IssuerParts<'a> {
    /// Directory of fetched key sets, which is created for the first of them.
    pub dir: &'a Path,
    /// Whether key sets may be written. A command that only reads writes none.
    pub keeps: bool,
    /// The clock.
    pub clock: &'a Arc<dyn Clock>,
    /// The metrics.
    pub metrics: &'a Arc<Metrics>,
}

impl Issuers {
    /// Builds the issuers of a configuration. Reads files, and fetches nothing. Issuers that `before` has with the same
    /// settings keep their state.
    ///
    /// # Errors
    /// The first issuer, by name, that cannot be used; [`check`] gives all.
    pub fn open(
        issuers: &[Issuer],
        parts: IssuerParts<'_>,
        before: Option<&Self>,
    ) -> Result<Self, (String, IssuerError)> {
        let mut authorities = Authorities::default();
        let open = |settings: &Issuer| {
            let made = state(settings, parts, before, &mut authorities);
            made.map_err(|error| (settings.name.clone(), error))
        };
        Ok(Self {
            all: issuers.iter().map(open).collect::<Result<_, _>>()?,
            adopted: before.map_or_else(
                || watch::Sender::new(Vec::new()),
                |before| before.adopted.clone(),
            ),
            metrics: Arc::clone(parts.metrics),
        })
    }

    /// Returns the issuers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<IssuerState>> {
        self.all.iter()
    }

    /// Makes these the issuers whose keys are fetched.
    pub fn adopt(&self) {
        let before = self.adopted.send_replace(self.all.clone());
        let is_gone = |old: &&Arc<IssuerState>| self.all.iter().all(|new| new.name() != old.name());
        for gone in before.iter().filter(is_gone) {
            self.metrics.issuers.forget(gone.name());
        }
    }

    /// The issuers that were adopted last.
    #[must_use]
    pub fn adopted(&self) -> watch::Receiver<Vec<Arc<IssuerState>>> {
        self.adopted.subscribe()
    }
}

/// The error of each issuer that cannot be used, with its name. Only reads files.
#[must_use]
pub fn check(issuers: &[Issuer]) -> Vec<(String, IssuerError)> {
    let mut authorities = Authorities::default();
    let check = |settings: &Issuer| {
        let files = keys_of_file(settings).map(drop);
        let checked = files.and_then(|()| {
            let file = CaFile::read(settings)?;
            authorities.of(settings, file.as_ref()).map(drop)
        });
        checked.err().map(|error| (settings.name.clone(), error))
    };
    issuers.iter().filter_map(check).collect()
}

fn state(
    settings: &Issuer,
    parts: IssuerParts<'_>,
    before: Option<&Issuers>,
    authorities: &mut Authorities,
) -> Result<Arc<IssuerState>, IssuerError> {
    let file = CaFile::read(settings)?;
    let mark = file.as_ref().map(|file| file.mark);
    let is_same = |old: &&Arc<IssuerState>| {
        let old = (&old.settings, old.authorities);
        settings.keys.is_remote() && comes_from(settings) == comes_from(old.0) && mark == old.1
    };
    if let Some(old) = before.and_then(|before| before.all.iter().find(is_same)) {
        return Ok(Arc::clone(old));
    }
    let metrics = parts.metrics.issuers.of(&settings.name);
    let source = KeySetSource::of(&settings.keys, &settings.issuer);
    let trust = authorities.of(settings, file.as_ref())?;
    let introspection = settings.introspection.as_ref().zip(trust.clone());
    let introspector = introspection.map(|(introspection, trust)| {
        let (clock, metrics) = (Arc::clone(parts.clock), metrics.clone());
        Introspector::new(&settings.name, introspection, trust, clock, metrics)
    });
    let keys = match (keys_of_file(settings)?, source.zip(trust)) {
        (Some(keys), _) => {
            metrics.keys(keys.keys().len());
            Keys::Fixed(Arc::new(keys))
        }
        (None, Some((source, trust))) => Keys::Remote(Box::new(RemoteKeys::new(RemoteKeysParts {
            name: settings.name.clone(),
            kept: KeySetFile::new(
                (parts.dir, parts.keeps),
                &settings.name,
                &settings.issuer,
                source.place().url(),
            ),
            source,
            algorithms: settings.algorithms.clone(),
            stale_max: settings.remote.stale_max,
            trust,
            clock: Arc::clone(parts.clock),
            metrics: metrics.clone(),
        }))),
        (None, None) => Keys::None,
    };
    Ok(Arc::new(IssuerState {
        settings: settings.clone(),
        authorities: mark,
        keys,
        introspector,
        metrics,
    }))
}

/// The settings that determine an issuer's state. Its claims are settings of each configuration.
fn comes_from(settings: &Issuer) -> impl PartialEq + '_ {
    (
        (&settings.name, &settings.issuer, &settings.keys),
        (&settings.remote, &settings.algorithms),
        &settings.introspection,
    )
}

/// The keys of the configured file, if there is one. Keys that cannot be used are logged.
fn keys_of_file(settings: &Issuer) -> Result<Option<KeySet>, IssuerError> {
    let (path, parse): (&PathBuf, fn(&str, &[_]) -> _) = match &settings.keys {
        KeySource::JwksFile(path) => (path, KeySet::from_jwks),
        KeySource::SecretJwkFile(path) => (path, KeySet::from_secret_jwk),
        KeySource::JwksUrl(_) | KeySource::Discovery { .. } | KeySource::Nowhere => {
            return Ok(None);
        }
    };
    let document = read(path)?;
    let keys = parse(&document, &settings.algorithms).map_err(|source| IssuerError::Keys {
        path: path.display().to_string(),
        source,
    })?;
    for left_out in keys.left_out() {
        tracing::warn!(
            issuer.name = settings.name,
            left_out,
            "a key of an issuer is ignored"
        );
    }
    Ok(Some(keys))
}

/// The text of a file, up to one byte more than a key set may have, so that a longer one is refused.
fn read(path: &Path) -> Result<Zeroizing<String>, IssuerError> {
    let mut text = Zeroizing::new(String::new());
    let outcome = File::open(path).and_then(|file| {
        file.take(DOCUMENT_BYTES_MAX as u64 + 1)
            .read_to_string(&mut text)
    });
    outcome.map_err(|source| IssuerError::Read {
        path: path.display().to_string(),
        source,
    })?;
    Ok(text)
}
