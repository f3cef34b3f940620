//! The services of a snapshot, opened in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::auth::assertion;
use crate::config::{Config, MailSettings, MailTransport, StoreEngine};
use crate::crypto::key_file::KeyFileError;
use crate::crypto::password::{PasswordPool, WAIT_MAX};
use crate::crypto::ring::Signed;
use crate::crypto::signing::SigningKeys;
use crate::crypto::token::TokenKeys;
use crate::issuer::{IssuerParts, Issuers};
use crate::limit::CounterSets;
use crate::mail::MailError;
use crate::mail::post::Post;
use crate::model::algorithm::Algorithm;
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::role_source::RoleSources;
use crate::services::Services;
use crate::services::key_use::KeyUse;
use crate::snapshot::{SnapshotProblem, issuer_obstacle};
use crate::store::Store;
use crate::store::backup::Backups;
use crate::store::error::StoreError;
use crate::store::generations::Generations;
use crate::store::key_files::{KeyFiles, KeyFilesError};
use crate::store::memory::MemoryStore;
use crate::store::sled::{SledStore, make_private};
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::output::Output;

/// Time after its expiry for which another node's clock may still accept a token of this gateway.
const TOKEN_LEEWAY: Duration = Duration::from_secs(30);

/// A service that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store's directory could not be created, or is open to other users.
    #[error("cannot use directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The store could not be opened.
    #[error("cannot open the store in {path}")]
    Store {
        /// The store's directory.
        path: PathBuf,
        /// The engine's error.
        #[source]
        source: StoreError,
    },
    /// The check of the key files against the store failed.
    #[error(transparent)]
    KeyFiles(#[from] KeyFilesError),
    /// A key file is unusable.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The mail transport is unusable.
    #[error("cannot prepare the mail transport")]
    Mail(#[source] MailError),
    /// A foreign issuer is unusable.
    #[error(transparent)]
    Issuer(#[from] SnapshotProblem),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[from] std::io::Error),
}

/// The records that a process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreAccess {
    /// Those of the store; missing parts are created: the directory (0700), and at the first start the keys (0600).
    Made,
    /// Those of an existing store with its keys: nothing is created.
    Found,
    /// None: keys and records are in memory, and nothing is read.
    None,
}

/// Opens the store, the keys, the hashing pool and the mail transport, with metrics of the lines on `output`.
///
/// # Errors
/// [`OpenError`] for the first service that could not be opened.
pub async fn open(
    config: &Config,
    records: StoreAccess,
    output: Arc<Output>,
) -> Result<Arc<Services>, OpenError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    make_for_us_alone();
    let (store, key_files, backups) = open_store(config, records)?;
    if let Some(files) = &key_files {
        files.admit(records == StoreAccess::Made).await?;
    }
    output.require_audit(config.audit.required);
    let metrics = Arc::new(Metrics::counting(&output.counts));
    let keys = key_files.as_ref().map(|files| files.dir());
    let threads = config.account.hash_threads;
    let post = Post::open(
        keys,
        Arc::clone(&clock),
        Arc::clone(&metrics),
        Arc::clone(&output),
    )?;
    let mailer = post.mailer(&mail(config, records), &config.listen.public_url.text);
    let token_keys = Arc::new(TokenKeys::open(keys)?);
    let files = key_files.as_deref();
    let rings = (files, records, clock.now());
    let signing = ring(rings, Signed::AccessToken, config.tokens.algorithm, config).await?;
    let assertion_keys = ring(rings, Signed::Assertion, assertion::ALGORITHM, config).await?;
    if let Some(files) = files
        && records == StoreAccess::Made
    {
        settle(files, clock.now()).await?;
    }
    Ok(Arc::new(Services {
        store,
        token_keys,
        signing,
        assertion_keys,
        passwords: Arc::new(PasswordPool::start(threads, WAIT_MAX)?),
        mailer: mailer.map_err(OpenError::Mail)?,
        post,
        counters: Arc::new(CounterSets::new(&clock)),
        role_sources: role_sources(config, &clock, &metrics),
        issuers: issuers(
            config,
            (&clock, &metrics),
            records == StoreAccess::Made,
            None,
        )?,
        key_use: Arc::new(KeyUse::new()),
        backups,
        key_files,
        clock,
        session_uses: Arc::default(),
        access: Arc::new(if config.log.access {
            AccessLog::onto(Arc::clone(&output))
        } else {
            AccessLog::off()
        }),
        output,
        metrics,
    }))
}

/// Restricts everything that this process creates from now on to this user, files of the engine included.
pub(crate) fn make_for_us_alone() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// Returns a ring of keys that fits this configuration. Without [`StoreAccess::Made`], no file is changed for that.
async fn ring(
    (files, records, now): (Option<&KeyFiles>, StoreAccess, Timestamp),
    signed: Signed,
    algorithm: Algorithm,
    config: &Config,
) -> Result<Arc<SigningKeys>, OpenError> {
    let ring = SigningKeys::read(files.map(KeyFiles::dir), signed, life(signed, config))?;
    match (ring.due(algorithm, now)?, files) {
        (Some(next), Some(files)) if records == StoreAccess::Made => {
            match files.replace(&ring, next).await {
                // A disk that accepts no writes must not prevent a start: the next start removes them.
                Err(error) if ring.serves(algorithm) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "expired signing keys cannot be removed from their file"
                ),
                replaced => replaced?,
            }
        }
        (Some(next), _) => ring.hold(next),
        (None, _) => {}
    }
    Ok(Arc::new(ring))
}

/// Stores the marks of the key files. A store that has accounts is served without them if the disk accepts no writes;
/// the next start stores them.
async fn settle(files: &KeyFiles, now: Timestamp) -> Result<(), OpenError> {
    match files.settle(now).await {
        Err(error) if files.counted().accounts != 0 => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the fingerprints of the key files cannot be recorded yet"
        ),
        settled => settled.map_err(KeyFilesError::from)?,
    }
    Ok(())
}

/// Returns how long a signed token may still be presented.
fn life(signed: Signed, config: &Config) -> Duration {
    let life = match signed {
        Signed::AccessToken => config.tokens.access_ttl,
        Signed::Assertion => assertion::LIFE,
    };
    life + TOKEN_LEEWAY
}

/// Creates the role sources of a configuration, with an empty cache.
pub(crate) fn role_sources(
    config: &Config,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Arc<RoleSources> {
    Arc::new(RoleSources::new(
        &config.role_sources,
        &config.roles.ladder,
        config.store.cache_entries,
        Arc::clone(clock),
        Arc::clone(metrics),
    ))
}

/// Opens the issuers of a configuration. Those in `before` with the same settings are kept. `keeps`: fetched key sets
/// are stored on disk.
pub(crate) fn issuers(
    config: &Config,
    (clock, metrics): (&Arc<dyn Clock>, &Arc<Metrics>),
    keeps: bool,
    before: Option<&Issuers>,
) -> Result<Arc<Issuers>, SnapshotProblem> {
    let parts = IssuerParts {
        dir: &config.store.path.join("jwks"),
        keeps,
        clock,
        metrics,
    };
    let opened = Issuers::open(&config.issuers, parts, before);
    opened
        .map(Arc::new)
        .map_err(|(name, error)| issuer_obstacle(&name, &error))
}

/// The store, the key files and the backups; the last two on disk only.
type OpenStore = (Arc<dyn Store>, Option<Arc<KeyFiles>>, Option<Arc<Backups>>);

fn open_store(config: &Config, records: StoreAccess) -> Result<OpenStore, OpenError> {
    let directory = &config.store.path;
    let in_memory = || Arc::new(MemoryStore::new(Arc::new(Generations::new())));
    match (config.store.engine, records) {
        (_, StoreAccess::None) => Ok((in_memory(), None, None)),
        (StoreEngine::Memory, _) => {
            private_directory(directory)?;
            Ok((in_memory(), None, None))
        }
        (StoreEngine::Sled, _) => {
            let store = open_sled(config)?;
            let key_files = Arc::new(KeyFiles::new(Arc::clone(&store), directory));
            if records == StoreAccess::Made {
                private_directory(key_files.dir())?;
            }
            let backups = Backups::new(Arc::clone(&store), directory, config.store.backup_keep);
            Ok((store, Some(key_files), Some(Arc::new(backups))))
        }
    }
}

/// Opens the store on disk.
pub(crate) fn open_sled(config: &Config) -> Result<Arc<SledStore>, OpenError> {
    let directory = &config.store.path;
    let store = SledStore::open(directory, Arc::new(Generations::new()));
    let store = store.map_err(|source| OpenError::Store {
        path: directory.clone(),
        source,
    })?;
    Ok(Arc::new(
        store.with_write_timeout(config.store.write_timeout),
    ))
}

/// Returns the mail settings. A process that only reads sends no mail, and a transport to files would create its
/// directory.
fn mail(config: &Config, records: StoreAccess) -> MailSettings {
    let mut mail = config.mail.clone();
    if records != StoreAccess::Made {
        mail.transport = MailTransport::Stdout;
    }
    mail
}

fn private_directory(path: &Path) -> Result<(), OpenError> {
    make_private(path).map_err(|source| OpenError::Directory {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::EnvOverlay;

    #[tokio::test]
    async fn a_directory_that_all_share_is_refused_and_left_as_it_is() {
        for engine in ["memory", "sled"] {
            let outer = tempfile::tempdir().unwrap();
            let shared = outer.path().join("shared");
            std::fs::create_dir(&shared).unwrap();
            std::fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
            let text = format!(
                "[store]\nengine = '{engine}'\npath = '{}'\n",
                shared.display()
            );
            let (config, _) = Config::parse(&text, &EnvOverlay::default()).unwrap();
            let output = Output::to_nowhere();
            let opened = open(&config, StoreAccess::Made, output).await;
            assert!(opened.is_err(), "{engine}");
            let mode = shared.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o1777, "{engine}");
        }
    }
}
