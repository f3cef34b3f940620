//! Argon2id on a bounded pool of threads.

use crate::model::account::PasswordHash;
use crate::model::secret::Secret;

/// Threads that hash passwords, behind a short queue.
#[derive(Debug)]
pub struct PasswordPool {}

/// What verifying a password showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The password is the one that was hashed.
    pub matches: bool,
    /// It matches, but the hash has other parameters than today's: hash it again.
    pub outdated: bool,
}

/// Why a password was not hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The queue is full, or the pool has ended: the caller answers 503 with `Retry-After`.
    #[error("the hashing pool is busy")]
    Busy,
}

impl PasswordPool {
    /// Starts `threads` threads behind a queue of `queue` jobs.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(_threads: usize, _queue: usize) -> std::io::Result<Self> {
        todo!()
    }

    /// Hashes a password with Argon2id.
    ///
    /// # Errors
    /// [`HashError::Busy`]
    pub async fn hash(&self, _password: Secret) -> Result<PasswordHash, HashError> {
        todo!()
    }

    /// Compares a password with a hash; without one it does the same work on a decoy and never matches.
    ///
    /// # Errors
    /// [`HashError::Busy`]
    pub async fn verify(
        &self,
        _password: Secret,
        _hash: Option<PasswordHash>,
    ) -> Result<Verdict, HashError> {
        todo!()
    }
}
