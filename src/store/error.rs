//! What can go wrong with records at rest.

use std::path::PathBuf;

/// The error of something that the store is built on.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a store gives, or why it could not.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A store that could not do what it was asked. Callers answer 503: nothing was decided and nothing half done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine could not read or write, and the intent was not done.
    #[error("cannot {action} the store")]
    Engine {
        /// `read`, `write to`, `open`, `copy`.
        action: &'static str,
        /// The engine's own words.
        #[source]
        source: BoxError,
    },
    /// A record does not match its checksum or cannot be decoded.
    #[error("a record in {tree} is damaged")]
    Damaged {
        /// Where it stands.
        tree: &'static str,
    },
    /// Written by a newer gateway: stop rather than guess.
    #[error("record version {found} is newer than {known}")]
    Newer {
        /// Version found.
        found: u8,
        /// Newest version known here.
        known: u8,
    },
    /// A new record's id is in use already, which drawn ids never are: nothing was written.
    #[error("a new id in {tree} is already in use")]
    Collision {
        /// Where it stands.
        tree: &'static str,
    },
    /// A record is longer than the store keeps: nothing was written.
    #[error("a record for {tree} is longer than {max} bytes")]
    TooLong {
        /// Where it should have stood.
        tree: &'static str,
        /// The limit.
        max: usize,
    },
    /// The intent was done whole or not at all, and which of the two is not known yet: its batch could not be made durable, or
    /// has not been in time. Until it is known nobody reads what it would have changed.
    #[error("whether this was written is not known yet")]
    Unknown(#[source] BoxError),
    /// The queue is full, the store is being opened anew, or its threads have ended.
    #[error("the store does not answer")]
    Busy,
    /// Another process has the store open.
    #[error("the store in {} is open in another process{}", dir.display(), pid(*holder))]
    Locked {
        /// The store's directory.
        dir: PathBuf,
        /// The process, where it is known.
        holder: Option<u32>,
    },
    /// What stands on the disk is not all that was once acknowledged: the start is refused.
    #[error(
        "the store in {dir} is not whole: {found}; bring a backup back with `doorward store restore FILE` (they are in \
         {dir}/backup), or move {dir}/db and {dir}/census away to begin empty",
        dir = dir.display()
    )]
    Refused {
        /// The store's directory.
        dir: PathBuf,
        /// What was found.
        found: String,
    },
}

impl StoreError {
    /// The engine, or the system below it, refused to `action` the store.
    pub(crate) fn cannot(action: &'static str, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        Self::Engine { action, source }
    }

    /// The engine cannot read.
    pub(crate) fn cannot_read(source: impl Into<BoxError>) -> Self {
        Self::cannot("read", source)
    }

    /// The engine, or the file system, does not take a write.
    pub(crate) fn cannot_write(source: impl Into<BoxError>) -> Self {
        Self::cannot("write to", source)
    }

    /// The file system does not let the store be opened.
    pub(crate) fn cannot_open(source: std::io::Error) -> Self {
        Self::cannot("open", source)
    }
}

fn pid(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}
