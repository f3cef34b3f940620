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

use crate::crypto::password::forms::Forms;
use crate::crypto::password::load::{Load, Place};
use crate::crypto::password::queue::Queue;
use crate::crypto::random;
use crate::crypto::sha_crypt::{self, ShaCrypt};
use crate::model::account::PasswordHash;
use crate::model::secret::Secret;

/// Maximum length of a password to be hashed, in bytes. Argon2 accepts more; a limit keeps its first step, which reads
/// the whole password, short.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Maximum wait for a hashing thread: callers who log in at the same time as many others wait, and are not refused.
pub const WAIT_MAX: Duration = Duration::from_secs(2);

/// Memory of one hash in KiB: 19 MiB. With 2 passes and 1 lane this is the minimum for Argon2id in the OWASP password
/// storage sheet.
const MEMORY_KIB: u32 = 19_456;
/// The same in bytes: the memory of each hashing thread while there are passwords to hash.
pub const HASH_BYTES: usize = MEMORY_KIB as usize * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const OUTPUT_BYTES: usize = 32;

/// Limits of a foreign hash, so that no record can demand more than this machine has.
const MEMORY_KIB_MAX: u32 = 128 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
/// Cost of one hash with current parameters: blocks of memory filled, over all passes.
const BLOCKS_WORK: u32 = MEMORY_KIB * PASSES;
/// Minimum number of blocks that Argon2 fills in a pass.
const BLOCKS_MIN: u32 = 8;

/// A pool of threads that hash passwords, behind a queue limited by the expected duration of its jobs.
///
/// Each thread uses 19 MiB while it hashes, which are freed after a while without passwords. When the pool is dropped,
/// its threads end after the queued jobs.
#[derive(Debug)]
pub struct PasswordPool {
    jobs: Sender<Queued>,
    load: Arc<Load>,
}

/// The result of verifying a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the password matches the hash.
    pub matches: bool,
    /// Whether it matches a hash with other parameters than today's, and should be rehashed.
    pub outdated: bool,
}

/// The reasons why a password was not hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The queue is full, or the pool has ended: the caller responds with 503 and `Retry-After`.
    #[error("the hashing pool is busy")]
    Busy,
    /// The password is empty or longer than [`PASSWORD_BYTES_MAX`], which the rules for accounts refuse earlier.
    #[error("the password is empty or too long to be hashed")]
    Length,
}

/// The reasons why a foreign hash is not imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Neither SHA-256-crypt nor Argon2, or incomplete.
    Unknown,
    /// SHA-256-crypt with more than 1,000,000 rounds: each login would take too long.
    TooManyRounds,
    /// Argon2 that costs more than the gateway's own hashes: the duration of a failed login would reveal the account.
    TooCostly,
}

/// Checks whether a foreign hash can be verified here, and rehashed at the next login.
///
/// # Errors
/// [`Unfit`] with the reason.
pub fn check_foreign(hash: &PasswordHash) -> Result<(), Unfit> {
    if hash
        .sha_crypt_rounds()
        .is_some_and(|rounds| sha_crypt::ROUNDS_MAX < rounds)
    {
        return Err(Unfit::TooManyRounds);
    }
    match Known::read(hash) {
        Some(Known::Argon2(stored)) if BLOCKS_WORK < stored.work() => Err(Unfit::TooCostly),
        Some(_) => Ok(()),
        None => Err(Unfit::Unknown),
    }
}

/// A job and its place in the queue, which is released with it.
#[derive(Debug)]
struct Queued {
    job: Job,
    place: Place,
}

#[derive(Debug)]
enum Job {
    Hash {
        password: Secret,
        reply: oneshot::Sender<PasswordHash>,
    },
    Verify {
        password: Forms,
        hash: Option<PasswordHash>,
        rounds: u32,
        reply: oneshot::Sender<Verdict>,
    },
}

impl PasswordPool {
    /// Starts `threads` threads (at least one); a job is refused if its wait, estimated from recent hashes, would
    /// exceed `wait_max`.
    ///
    /// # Errors
    /// The system's error if it cannot start a thread.
    pub fn start(threads: usize, wait_max: Duration) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let (jobs, waiting) = channel();
        let queue = Arc::new(Queue::new(waiting));
        let load = Arc::new(Load::new(threads, wait_max));
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
    /// Accepts 1 to [`PASSWORD_BYTES_MAX`] bytes and returns a PHC string of 97 ASCII characters. Dropping the future
    /// cancels a queued job.
    ///
    /// # Errors
    /// [`HashError::Busy`] if the queue is full, [`HashError::Length`] for a password that no rule accepts.
    pub async fn hash(&self, password: Secret) -> Result<PasswordHash, HashError> {
        let password = composed(password);
        if !length_fits(&password) {
            return Err(HashError::Length);
        }
        let (reply, answer) = oneshot::channel();
        self.enqueue(Job::Hash { password, reply }, 1)?;
        answer.await.map_err(|_| HashError::Busy)
    }

    /// Verifies a password against a hash, as typed and in its composed form; without a hash it does the same work and
    /// never matches.
    ///
    /// Older hashes were made of the password as typed, and an accented letter is one character on one keyboard and two
    /// on another (NIST SP 800-63B-4 section 3.1.1.2 requires a normal form). Both forms are tried only if they differ,
    /// which depends on the text alone: the duration reveals nothing about the account.
    ///
    /// A hash that is neither Argon2 nor SHA-256-crypt, or requires more than 128 MiB, 16 passes, 16 lanes or 1,000,000
    /// rounds, is treated as missing, and so is the hash for a password of a length that [`Self::hash`] refuses.
    ///
    /// # Errors
    /// [`HashError::Busy`] if the queue is full.
    pub async fn verify(
        &self,
        password: Secret,
        hash: Option<PasswordHash>,
    ) -> Result<Verdict, HashError> {
        self.verify_evenly(password, hash, 0).await
    }

    /// Verifies like [`Self::verify`], where some accounts have SHA-256-crypt hashes of up to `rounds` rounds.
    ///
    /// A mismatch always costs one hash with current parameters and `rounds` rounds, whatever the hash: the duration
    /// reveals neither the kind of an account's hash nor whether there is one.
    ///
    /// # Errors
    /// [`HashError::Busy`] if the queue is full.
    pub async fn verify_evenly(
        &self,
        password: Secret,
        hash: Option<PasswordHash>,
        rounds: u32,
    ) -> Result<Verdict, HashError> {
        let (password, hash) = if length_fits(&password) {
            (Forms::of(password), hash)
        } else {
            (Forms::of(Secret::new(String::new())), None)
        };
        let hashes = password.count();
        let (reply, answer) = oneshot::channel();
        let job = Job::Verify {
            password,
            hash,
            rounds,
            reply,
        };
        self.enqueue(job, hashes)?;
        answer.await.map_err(|_| HashError::Busy)
    }

    /// Queues a job that computes this many hashes.
    fn enqueue(&self, job: Job, hashes: u64) -> Result<(), HashError> {
        let place = self.load.enter(hashes).ok_or(HashError::Busy)?;
        let queued = self.jobs.send(Queued { job, place });
        queued.map_err(|_| HashError::Busy)
    }
}

fn length_fits(password: &Secret) -> bool {
    (1..=PASSWORD_BYTES_MAX).contains(&password.expose().len())
}

/// Runs one thread of the pool until the pool is dropped.
fn work(queue: &Queue<Queued>) {
    while let Some((Queued { job, place }, blocks)) = queue.next() {
        let mut hasher = Hasher { blocks };
        if !job.is_given_up() {
            let started = place.started();
            // A panic in a foreign crate would end this thread, and in time all of them. If caught, it drops the reply,
            // which the caller reads as busy.
            let outcome = catch_unwind(AssertUnwindSafe(|| hasher.run(job)));
            place.ended(started);
            if outcome.is_err() {
                tracing::error!("a password could not be hashed: the hash function panicked");
                hasher = Hasher::new();
            }
        }
        queue.give_back(hasher.blocks);
    }
}

impl Job {
    /// Whether the caller has gone away, so that the job is skipped: under load that is most of the queue.
    fn is_given_up(&self) -> bool {
        match self {
            Self::Hash { reply, .. } => reply.is_closed(),
            Self::Verify { reply, .. } => reply.is_closed(),
        }
    }
}

fn phc_string(salt: &[u8], output: &[u8]) -> PasswordHash {
    PasswordHash::new(format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(output)
    ))
}

/// A hasher with its memory.
struct Hasher {
    blocks: Vec<Block>,
}

impl Hasher {
    fn new() -> Self {
        Self { blocks: Vec::new() }
    }

    fn run(&mut self, job: Job) {
        match job {
            Job::Hash { password, reply } => {
                if let Some(hash) = self.hash(&password) {
                    let _ = reply.send(hash);
                }
            }
            Job::Verify {
                password,
                hash,
                rounds,
                reply,
            } => {
                let verdict = self.judge_forms(&password, hash.as_ref(), rounds);
                let _ = reply.send(verdict);
            }
        }
    }

    /// Verifies each form in turn, until one matches.
    fn judge_forms(
        &mut self,
        password: &Forms,
        hash: Option<&PasswordHash>,
        rounds: u32,
    ) -> Verdict {
        let typed = self.judge(&password.typed, hash, rounds);
        let Some(composed) = &password.composed else {
            return typed;
        };
        if typed.matches {
            // The hash is of a form that other keyboards do not produce.
            return Verdict {
                matches: true,
                outdated: true,
            };
        }
        self.judge(composed, hash, rounds)
    }

    fn judge(&mut self, password: &Secret, hash: Option<&PasswordHash>, rounds: u32) -> Verdict {
        let (matches, outdated, blocks_spent, rounds_spent) = match hash.and_then(Known::read) {
            Some(Known::Argon2(stored)) => {
                let matches = self.verify(password, &stored);
                (matches, !stored.is_current(), stored.work(), 0)
            }
            Some(Known::ShaCrypt(old)) => (old.matches(password), true, 0, old.rounds()),
            None => (false, false, 0, 0),
        };
        if !matches {
            self.spend(password, BLOCKS_WORK.saturating_sub(blocks_spent));
            sha_crypt::spend(password, rounds.saturating_sub(rounds_spent));
        }
        Verdict {
            matches,
            outdated: matches && outdated,
        }
    }

    /// Fills this many blocks, in as many passes as a real hash, and discards the result.
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
        Some(phc_string(&salt, &output))
    }

    fn verify(&mut self, password: &Secret, stored: &Stored) -> bool {
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
        // Memory that a foreign hash needed beyond the normal size is freed.
        if MEMORY_KIB as usize <= needed {
            self.blocks.truncate(MEMORY_KIB as usize);
            self.blocks.shrink_to_fit();
        }
        filled.ok()
    }
}

/// A hash of a verifiable kind.
enum Known {
    Argon2(Stored),
    ShaCrypt(ShaCrypt),
}

impl Known {
    fn read(hash: &PasswordHash) -> Option<Self> {
        match ShaCrypt::read(hash) {
            Some(old) => Some(Self::ShaCrypt(old)),
            None => Stored::read(hash).map(Self::Argon2),
        }
    }
}

/// A parsed PHC string.
struct Stored {
    context: Argon2<'static>,
    algorithm: Algorithm,
    version: Version,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl Stored {
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

    /// Returns the number of blocks filled, over all passes.
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
