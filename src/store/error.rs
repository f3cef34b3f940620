//! What can go wrong with records at rest.

/// A store that could not do what it was asked. Callers answer 503: nothing was decided and nothing half done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine could not read or write.
    #[error("cannot {action} the store")]
    Engine {
        /// `read`, `write to`, `open`.
        action: &'static str,
        /// The engine's own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
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
    /// The queue of writes is full, or the writer has ended.
    #[error("the store's writer does not answer")]
    Busy,
}
