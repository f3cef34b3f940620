//! What lives longer than one configuration, opened in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::auth::assertion;
use crate::auth::key_use::KeyUse;
use crate::config::{Config, MailSettings, MailTransport, StoreEngine};
use crate::crypto::password::PasswordPool;
use crate::crypto::signing::{KeyFileError, Signed, SigningKeys};
use crate::crypto::token::TokenKeys;
use crate::issuer::{IssuerParts, Issuers};
use crate::limit::CounterSets;
use crate::mail::MailError;
use crate::mail::post::Post;
use crate::model::clock::{Clock, SystemClock};
use crate::role_source::RoleSources;
use crate::snapshot::{Obstacle, Services, issuer_obstacle};
use crate::store::Store;
use crate::store::backup::Backups;
use crate::store::error::StoreError;
use crate::store::generations::Generations;
use crate::store::memory::MemoryStore;
use crate::store::sled::{SledStore, make_private};
use crate::store::uses::SessionUses;
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::output::Output;

/// How long a password may wait for a hashing thread: whoever logs in with many others waits, and is not turned away.
const HASH_WAIT_MAX: Duration = Duration::from_secs(2);
/// What the key directory of a store has in it.
const KEY_FILES: [&str; 6] = [
    "apikey.key",
    "assertion.json",
    "count.key",
    "mail.key",
    "refresh.key",
    "signing.json",
];
/// How long after its expiry another node's clock may still take a token of ours for good.
const TOKEN_LEEWAY: Duration = Duration::from_secs(30);

/// A service that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Our directory could not be made or is open to others.
    #[error("cannot use directory {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The records.
    #[error("cannot open the store in {path}")]
    Store {
        /// Our directory.
        path: PathBuf,
        /// What the engine says.
        #[source]
        source: StoreError,
    },
    /// A key file is not there, and what was asked makes none.
    #[error(
        "key file {path} is missing: `doorward store restore FILE` brings it back; a gateway that starts makes another one"
    )]
    KeyFile {
        /// Which.
        path: PathBuf,
    },
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The mail transport.
    #[error("cannot ready the mail transport")]
    Mail(#[source] MailError),
    /// A foreign issuer.
    #[error(transparent)]
    Issuer(#[from] Obstacle),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[from] std::io::Error),
}

/// Which records a process works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// Those of the store; what is missing is made: our directory (0700), and keys (0600) at the first start.
    Made,
    /// Those of the store, which is there with its keys: nothing is made.
    Found,
    /// None: keys and records are in memory, and nothing is looked for.
    None,
}

/// Opens the store, the keys, the hashing pool and the mail transport, and counts what is written on `output`.
///
/// # Errors
/// [`OpenError`] names what could not be opened and why.
pub fn open(config: &Config, records: Records, output: Arc<Output>) -> Result<Services, OpenError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    // Whatever is made from here on is ours alone, what the engine makes by itself too.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let (store, keys, backups) = open_store(config, records)?;
    output.require_audit(config.audit.required);
    let metrics = Arc::new(Metrics::counting(output.counts()));
    let keys = keys.as_deref();
    let token_life = config.tokens.access_ttl + TOKEN_LEEWAY;
    let threads = config.account.hash_threads;
    let post = Post::open(
        keys,
        Arc::clone(&clock),
        Arc::clone(&metrics),
        Arc::clone(&output),
    )?;
    let mailer = post.mailer(&mail(config, records), &config.listen.public_url.text);
    Ok(Services {
        store,
        token_keys: Arc::new(TokenKeys::open(keys)?),
        signing: Arc::new(SigningKeys::open(
            keys,
            Signed::AccessToken,
            config.tokens.algorithm,
            token_life,
            clock.now(),
        )?),
        assertion_keys: Arc::new(SigningKeys::open(
            keys,
            Signed::Assertion,
            assertion::ALGORITHM,
            assertion::LIFE + TOKEN_LEEWAY,
            clock.now(),
        )?),
        passwords: Arc::new(PasswordPool::start(threads, HASH_WAIT_MAX)?),
        mailer: mailer.map_err(OpenError::Mail)?,
        post,
        counters: Arc::new(CounterSets::new(&clock)),
        role_sources: role_sources(config, &clock, &metrics),
        issuers: issuers(config, (&clock, &metrics), records == Records::Made, None)?,
        key_use: Arc::new(KeyUse::new()),
        backups,
        clock,
        session_uses: Arc::new(SessionUses::new()),
        access: Arc::new(if config.log.access {
            AccessLog::onto(Arc::clone(&output))
        } else {
            AccessLog::off()
        }),
        output,
        metrics,
    })
}

/// The sources of a configuration, which have said nothing yet.
pub(super) fn role_sources(
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

/// The issuers of a configuration. Those that are in `before` with the same settings go on as they are. `keeps`: key sets
/// that are fetched are kept on disk.
pub(super) fn issuers(
    config: &Config,
    (clock, metrics): (&Arc<dyn Clock>, &Arc<Metrics>),
    keeps: bool,
    before: Option<&Issuers>,
) -> Result<Arc<Issuers>, Obstacle> {
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

/// The records, the directory of the keys and what makes backups: the last two on disk only.
type OpenStore = (Arc<dyn Store>, Option<PathBuf>, Option<Arc<Backups>>);

fn open_store(config: &Config, records: Records) -> Result<OpenStore, OpenError> {
    let directory = &config.store.path;
    let generations = Arc::new(Generations::new());
    match (config.store.engine, records) {
        (_, Records::None) => Ok((Arc::new(MemoryStore::new(generations)), None, None)),
        (StoreEngine::Memory, _) => {
            private_directory(directory)?;
            Ok((Arc::new(MemoryStore::new(generations)), None, None))
        }
        (StoreEngine::Sled, _) => {
            let keys = directory.join("keys");
            let store =
                SledStore::open(directory, generations).map_err(|source| OpenError::Store {
                    path: directory.clone(),
                    source,
                })?;
            let store = store.with_write_timeout(config.store.write_timeout);
            if records == Records::Found {
                all_keys_there(&keys)?;
            }
            private_directory(&keys)?;
            let store = Arc::new(store);
            let backups = Backups::new(Arc::clone(&store), directory, config.store.backup_keep);
            Ok((store, Some(keys), Some(Arc::new(backups))))
        }
    }
}

/// How mails leave. What only reads sends none, and a transport to files would make its directory.
fn mail(config: &Config, records: Records) -> MailSettings {
    let mut mail = config.mail.clone();
    if records != Records::Made {
        mail.transport = MailTransport::Stdout;
    }
    mail
}

/// Sees that nothing would have to be made where nothing may be.
fn all_keys_there(keys: &Path) -> Result<(), OpenError> {
    let mut missing = KEY_FILES.iter().map(|name| keys.join(name));
    match missing.find(|path| !path.exists()) {
        Some(path) => Err(OpenError::KeyFile { path }),
        None => Ok(()),
    }
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

    #[test]
    fn a_directory_that_all_share_is_refused_and_left_as_it_is() {
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
            assert!(open(&config, Records::Made, output).is_err(), "{engine}");
            let mode = shared.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o1777, "{engine}");
        }
    }
}
