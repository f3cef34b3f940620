//! Errors of the store.

use std::path::PathBuf;

/// The error of a component below the store.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Result of a store operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A store operation that failed. Callers answer 503: nothing was decided and nothing was half done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine could not read or write; the intent was not applied.
    #[error("cannot {action} the store")]
    Engine {
        /// `read`, `write to`, `open`, `copy`.
        action: &'static str,
        /// The engine's error.
        #[source]
        source: BoxError,
    },
    /// A record does not match its checksum or cannot be decoded.
    #[error("a record in {tree} is damaged")]
    Damaged {
        /// The kind of record.
        tree: &'static str,
    },
    /// A newer gateway wrote the record: stop rather than guess.
    #[error("record version {found} is newer than {known}")]
    Newer {
        /// Version found.
        found: u8,
        /// Newest version known here.
        known: u8,
    },
    /// The id of a new record is already in use, which never happens with random ids: nothing was written.
    #[error("a newly generated id in {tree} is already in use")]
    Collision {
        /// The kind of record.
        tree: &'static str,
    },
    /// A record exceeds the length limit: nothing was written.
    #[error("a record for {tree} is longer than {max} bytes")]
    TooLong {
        /// The kind of record.
        tree: &'static str,
        /// The limit.
        max: usize,
    },
    /// The intent was applied completely or not at all, and which of the two is not known yet: its batch could not be
    /// made durable, or was not in time. Until it is known, reads do not return what it would have changed.
    #[error("the outcome of the write is not known yet")]
    Unknown(#[source] BoxError),
    /// The queue is full, the store is being reopened, or its threads have ended.
    #[error("the store did not answer in time")]
    Busy,
    /// Another process has the store open.
    #[error("the store in {} is open in another process{}; only one may use it", dir.display(), pid(*holder))]
    Locked {
        /// The store's directory.
        dir: PathBuf,
        /// The process, if known.
        holder: Option<u32>,
    },
    /// The data on disk is not everything that was once acknowledged: the gateway refuses to start.
    #[error(
        "the store in {dir} is damaged: {found}; restore a backup with `doorward store restore FILE` (backups are in \
         {dir}/backup), or move {dir}/db and {dir}/census away to start with an empty store",
        dir = dir.display()
    )]
    Refused {
        /// The store's directory.
        dir: PathBuf,
        /// What is missing or wrong.
        found: String,
    },
}

impl StoreError {
    /// Creates the error of the engine, or of the system below it, for a failed attempt to `action` the store.
    pub(crate) fn cannot(action: &'static str, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        Self::Engine { action, source }
    }

    /// Creates the error of a failed read.
    pub(crate) fn cannot_read(source: impl Into<BoxError>) -> Self {
        Self::cannot("read", source)
    }

    /// Creates the error of a write rejected by the engine or the file system.
    pub(crate) fn cannot_write(source: impl Into<BoxError>) -> Self {
        Self::cannot("write to", source)
    }

    /// Creates the error of a store that the file system does not allow to be opened.
    pub(crate) fn cannot_open(source: std::io::Error) -> Self {
        Self::cannot("open", source)
    }
}

fn pid(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}
