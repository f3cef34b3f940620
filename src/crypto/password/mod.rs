//! Password hashing with Argon2id on a bounded pool of threads, and verification of older hashes.

mod forms;
mod load;
mod queue;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use password_hash::phc;
use subtle::ConstantTimeEq as _;
use tokio::sync::oneshot;

pub use crate::crypto::password::forms::composed;

use crate::crypto::password::forms::PasswordForms;
use crate::crypto::password::load::QueueLoad;
use crate::crypto::password::queue::JobQueue;
use crate::crypto::random;
use crate::crypto::sha_crypt::{self, ShaCrypt};
use crate::model::account::PasswordHash;
use crate::model::secret::Secret;

/// Maximum length of a password. It keeps the first step of Argon2 short, which reads the whole password.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Maximum time that a password waits for a hashing thread, so that a burst of logins waits and is not refused.
pub const WAIT_MAX: Duration = Duration::from_secs(2);

/// Memory of one hash in KiB: 19 MiB. With 2 passes and 1 lane it is the minimum of the OWASP password storage sheet for
/// Argon2id.
const MEMORY_KIB: u32 = 19_456;
/// Memory of one hash in bytes, which each hashing thread uses while there are passwords to hash.
pub const HASH_BYTES: usize = MEMORY_KIB as usize * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const OUTPUT_BYTES: usize = 32;

/// Limits of a hash that was computed elsewhere, so that no record can exhaust this machine.
const MEMORY_KIB_MAX: u32 = 128 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
/// The cost of one hash at the current parameters: the number of memory blocks filled in all passes.
const BLOCKS_WORK: u32 = MEMORY_KIB * PASSES;
/// Minimum number of blocks that Argon2 fills in a pass.
const BLOCKS_MIN: u32 = 8;

/// Threads that hash passwords, with a queue that is limited by the estimated time of its jobs.
///
/// Each thread uses 19 MiB while it hashes, which are freed after a while without passwords. When the pool is dropped, its
/// threads finish the queued jobs and end.
#[derive(Debug)]
pub struct PasswordPool {
    jobs: Sender<HashJob>,
    load: Arc<QueueLoad>,
}

/// The result of verifying a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verification {
    /// The password matches.
    pub matches: bool,
    /// The password matches, but the hash has other than the current parameters, so the password should be hashed again.
    pub outdated: bool,
}

/// The reason why a password was not hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The queue is full, or the pool has ended. The caller answers 503 with `Retry-After`.
    #[error("the hashing pool is busy")]
    Busy,
    /// The password is empty or longer than [`PASSWORD_BYTES_MAX`], which the rules of accounts refuse before.
    #[error("the password is empty or too long to hash")]
    Length,
}

/// The reason why a hash that was computed elsewhere is not imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnfitHash {
    /// It is neither SHA-256-crypt nor Argon2, or it is incomplete.
    Unknown,
    /// It is SHA-256-crypt with more than 1,000,000 rounds, with which each login would take too long.
    TooManyRounds,
    /// It is Argon2 and costs more than the current parameters, so the time of a failed login would reveal the account.
    TooCostly,
}

/// Checks that a hash that was computed elsewhere can be verified, and rewritten at the next login.
///
/// # Errors
/// [`UnfitHash`] gives the reason.
pub fn check_foreign(hash: &PasswordHash) -> Result<(), UnfitHash> {
    let rounds = hash.sha_crypt_rounds();
    if rounds.is_some_and(|rounds| sha_crypt::ROUNDS_MAX < rounds) {
        return Err(UnfitHash::TooManyRounds);
    }
    match VerifiableHash::read(hash) {
        Some(VerifiableHash::Argon2(stored)) if BLOCKS_WORK < stored.work() => {
            Err(UnfitHash::TooCostly)
        }
        Some(_) => Ok(()),
        None => Err(UnfitHash::Unknown),
    }
}

/// A job for a thread of the pool, which answers its caller itself.
type HashJob = Box<dyn FnOnce(&mut Hasher) + Send>;

impl PasswordPool {
    /// Starts `threads` threads, at least one. A job is refused if it would wait for longer than `wait_max`, by the times of
    /// recent hashes.
    ///
    /// # Errors
    /// An error if the system cannot start a thread.
    pub fn start(threads: usize, wait_max: Duration) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let (jobs, waiting) = channel();
        let queue = Arc::new(JobQueue::new(waiting));
        let load = Arc::new(QueueLoad::new(threads, wait_max));
        for number in 0..threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("hash-{number}"))
                .spawn(move || work(&queue))?;
        }
        Ok(Self { jobs, load })
    }

    /// Hashes a password with Argon2id, in its composed form (NFC).
    ///
    /// Takes 1 to [`PASSWORD_BYTES_MAX`] bytes and gives a PHC string of 97 ASCII characters. A caller that stops waiting
    /// cancels the job.
    ///
    /// # Errors
    /// [`HashError::Busy`] if the queue is full, [`HashError::Length`] for a password of a length that no rule allows.
    pub async fn hash(&self, password: Secret) -> Result<PasswordHash, HashError> {
        let password = composed(password);
        if !length_fits(&password) {
            return Err(HashError::Length);
        }
        let hash = self.run(1, move |hasher| hasher.hash(&password)).await?;
        hash.ok_or(HashError::Busy)
    }

    /// Compares a password with a hash, as typed and in its composed form. Without a hash it does the same work and never
    /// matches.
    ///
    /// `rounds`: the most rounds of any account's SHA-256-crypt hash. A password that does not match always costs one hash at
    /// the current parameters and `rounds` rounds, so the time reveals neither the kind of an account's hash nor whether there
    /// is one.
    ///
    /// Old hashes are of passwords as typed, and a letter with an accent is one character on some keyboards and two on others
    /// (NIST SP 800-63B-4 section 3.1.1.2 requires a normal form). Both forms are compared only if they differ, which depends
    /// on the typed text alone, so the time reveals nothing about the account.
    ///
    /// A hash that is neither Argon2 nor SHA-256-crypt, or that needs more than 128 MiB, 16 passes or 16 lanes, or
    /// more than 1,000,000 rounds, counts as no hash, and so does a password of a length that [`Self::hash`] refuses.
    ///
    /// # Errors
    /// [`HashError::Busy`] if the queue is full.
    pub async fn verify(
        &self,
        password: Secret,
        hash: Option<PasswordHash>,
        rounds: u32,
    ) -> Result<Verification, HashError> {
        let (password, hash) = if length_fits(&password) {
            (PasswordForms::of(password), hash)
        } else {
            (PasswordForms::of(Secret::new(String::new())), None)
        };
        self.run(password.count(), move |hasher| {
            hasher.verify_forms(&password, hash.as_ref(), rounds)
        })
        .await
    }

    /// Computes `hashes` hashes on a thread of the pool.
    async fn run<T: Send + 'static>(
        &self,
        hashes: u64,
        compute: impl FnOnce(&mut Hasher) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let place = self.load.enter(hashes).ok_or(HashError::Busy)?;
        let (reply, answer) = oneshot::channel();
        let job = move |hasher: &mut Hasher| {
            // The caller has stopped waiting, as those of most queued jobs have under load.
            if reply.is_closed() {
                return;
            }
            // A panic in a foreign crate would end this thread, and eventually all of them. Catching it drops the reply,
            // which the caller takes for a full queue.
            let outcome = place.measure(|| catch_unwind(AssertUnwindSafe(|| compute(hasher))));
            if let Ok(result) = outcome {
                drop(reply.send(result));
            } else {
                tracing::error!("a password could not be hashed: the hash function panicked");
                *hasher = Hasher::default();
            }
        };
        let queued = self.jobs.send(Box::new(job));
        queued.map_err(|_| HashError::Busy)?;
        answer.await.map_err(|_| HashError::Busy)
    }
}

fn length_fits(password: &Secret) -> bool {
    (1..=PASSWORD_BYTES_MAX).contains(&password.expose().len())
}

/// Runs one thread of the pool until the pool is dropped.
fn work(queue: &JobQueue<HashJob>) {
    while let Some((job, blocks)) = queue.next() {
        let mut hasher = Hasher { blocks };
        job(&mut hasher);
        queue.give_back(hasher.blocks);
    }
}

/// The hasher and its memory.
#[derive(Default)]
struct Hasher {
    blocks: Vec<Block>,
}

impl Hasher {
    /// Compares each form in turn, until one matches.
    fn verify_forms(
        &mut self,
        password: &PasswordForms,
        hash: Option<&PasswordHash>,
        rounds: u32,
    ) -> Verification {
        let typed = self.verify(&password.typed, hash, rounds);
        let Some(composed) = &password.composed else {
            return typed;
        };
        if typed.matches {
            // The hash is of a form that other keyboards do not produce.
            return Verification {
                matches: true,
                outdated: true,
            };
        }
        self.verify(composed, hash, rounds)
    }

    fn verify(
        &mut self,
        password: &Secret,
        hash: Option<&PasswordHash>,
        rounds: u32,
    ) -> Verification {
        let (matches, outdated, blocks_spent, rounds_spent) =
            match hash.and_then(VerifiableHash::read) {
                Some(VerifiableHash::Argon2(stored)) => {
                    let matches = self.matches_argon2(password, &stored);
                    (matches, !stored.is_current(), stored.work(), 0)
                }
                Some(VerifiableHash::ShaCrypt(old)) => (old.matches(password), true, 0, old.rounds),
                None => (false, false, 0, 0),
            };
        if !matches {
            self.spend(password, BLOCKS_WORK.saturating_sub(blocks_spent));
            sha_crypt::spend(password, rounds.saturating_sub(rounds_spent));
        }
        Verification {
            matches,
            outdated: matches && outdated,
        }
    }

    /// Fills this many blocks, in as many passes as the current parameters have, and discards the result.
    fn spend(&mut self, password: &Secret, blocks: u32) {
        let memory = blocks / PASSES;
        if memory < BLOCKS_MIN {
            return;
        }
        if let Ok(params) = Params::new(memory, PASSES, LANES, Some(OUTPUT_BYTES)) {
            let context = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            let mut output = [0; OUTPUT_BYTES];
            let filled = self.fill(&context, password, &[0; SALT_BYTES], &mut output);
            std::hint::black_box((filled, output));
        }
    }

    fn hash(&mut self, password: &Secret) -> Option<PasswordHash> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT_BYTES)).ok()?;
        let context = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut salt = [0; SALT_BYTES];
        random::fill(&mut salt);
        let mut output = [0; OUTPUT_BYTES];
        self.fill(&context, password, &salt, &mut output)?;
        Some(PasswordHash::new(format!(
            "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}",
            STANDARD_NO_PAD.encode(salt),
            STANDARD_NO_PAD.encode(output)
        )))
    }

    fn matches_argon2(&mut self, password: &Secret, stored: &ParsedArgon2) -> bool {
        let mut output = vec![0; stored.output.len()];
        let filled = self.fill(&stored.context, password, &stored.salt, &mut output);
        filled.is_some() && output.ct_eq(&stored.output).into()
    }

    fn fill(
        &mut self,
        context: &Argon2<'_>,
        password: &Secret,
        salt: &[u8],
        output: &mut [u8],
    ) -> Option<()> {
        let needed = context.params().block_count();
        if self.blocks.len() < needed {
            self.blocks.resize(needed, Block::new());
        }
        let password = password.expose().as_bytes();
        let filled =
            context.hash_password_into_with_memory(password, salt, output, &mut self.blocks);
        // Memory beyond that of the current parameters is freed.
        if MEMORY_KIB as usize <= needed {
            self.blocks.truncate(MEMORY_KIB as usize);
            self.blocks.shrink_to_fit();
        }
        filled.ok()
    }
}

/// A hash of a kind that can be verified.
enum VerifiableHash {
    Argon2(ParsedArgon2),
    ShaCrypt(ShaCrypt),
}

impl VerifiableHash {
    fn read(hash: &PasswordHash) -> Option<Self> {
        match ShaCrypt::read(hash) {
            Some(old) => Some(Self::ShaCrypt(old)),
            None => ParsedArgon2::read(hash).map(Self::Argon2),
        }
    }
}

/// A parsed PHC string.
struct ParsedArgon2 {
    context: Argon2<'static>,
    algorithm: Algorithm,
    version: Version,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl ParsedArgon2 {
    /// Parses a PHC string of Argon2 within the limits.
    fn read(hash: &PasswordHash) -> Option<Self> {
        let parsed = phc::PasswordHash::new(hash.as_str()).ok()?;
        let algorithm = Algorithm::try_from(parsed.algorithm.as_str()).ok()?;
        // A string without a version has the version before 1.3 (RFC 9106; the PHC string format).
        let version = Version::try_from(parsed.version.unwrap_or(0x10)).ok()?;
        let params = Params::try_from(&parsed).ok()?;
        let is_bounded = params.m_cost() <= MEMORY_KIB_MAX
            && params.t_cost() <= PASSES_MAX
            && params.p_cost() <= LANES_MAX;
        if !is_bounded {
            return None;
        }
        Some(Self {
            context: Argon2::new(algorithm, version, params),
            algorithm,
            version,
            salt: parsed.salt?.as_ref().to_vec(),
            output: parsed.hash?.as_bytes().to_vec(),
        })
    }

    /// The number of blocks filled in all passes.
    fn work(&self) -> u32 {
        let params = self.context.params();
        params.m_cost().saturating_mul(params.t_cost())
    }

    /// Whether it has the parameters of [`PasswordPool::hash`].
    fn is_current(&self) -> bool {
        let params = self.context.params();
        self.algorithm == Algorithm::Argon2id
            && self.version == Version::V0x13
            && (params.m_cost(), params.t_cost(), params.p_cost()) == (MEMORY_KIB, PASSES, LANES)
            && SALT_BYTES <= self.salt.len()
            && self.output.len() == OUTPUT_BYTES
    }
}

#[cfg(test)]
mod tests;
