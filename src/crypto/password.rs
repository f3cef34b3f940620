//! Argon2id on a bounded pool of threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use password_hash::phc;
use subtle::ConstantTimeEq as _;
use tokio::sync::oneshot;

use crate::crypto::random;
use crate::model::account::PasswordHash;
use crate::model::secret::Secret;

/// Longest password that is hashed. Argon2 takes more; a limit keeps its first step, which reads all of it, short.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Memory of one hash in KiB: 19 MiB. With 2 passes and 1 lane the least that the OWASP password storage sheet asks of
/// Argon2id.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const OUTPUT_BYTES: usize = 32;

/// Bounds of a hash that was made elsewhere, so that no record can ask for more than this machine has.
const MEMORY_KIB_MAX: u32 = 128 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

/// Threads that hash passwords, behind a short queue.
///
/// Each thread holds 19 MiB for as long as the pool lives. When the pool is dropped its threads end after what is
/// queued.
#[derive(Debug)]
pub struct PasswordPool {
    jobs: SyncSender<Job>,
}

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
    /// The password is empty or longer than [`PASSWORD_BYTES_MAX`]: the account's rules refuse such a one before.
    #[error("the password is empty or too long to be hashed")]
    Length,
}

enum Job {
    Hash {
        password: Secret,
        reply: oneshot::Sender<PasswordHash>,
    },
    Verify {
        password: Secret,
        hash: Option<PasswordHash>,
        reply: oneshot::Sender<Verdict>,
    },
}

impl PasswordPool {
    /// Starts `threads` threads (at least one) behind a queue of `queue` jobs.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(threads: usize, queue: usize) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel(queue);
        let waiting = Arc::new(Mutex::new(waiting));
        let decoy = Arc::new(draw_decoy());
        for number in 0..threads.max(1) {
            let (waiting, decoy) = (Arc::clone(&waiting), Arc::clone(&decoy));
            thread::Builder::new()
                .name(format!("hash-{number}"))
                .spawn(move || work(&waiting, &decoy))?;
        }
        Ok(Self { jobs })
    }

    /// Hashes a password with Argon2id.
    ///
    /// Takes 1 to [`PASSWORD_BYTES_MAX`] bytes and gives a PHC string of 97 ASCII characters. It takes about 14 ms once
    /// a thread is free. Whoever stops waiting takes the job out of the queue.
    ///
    /// # Errors
    /// [`HashError::Busy`] when the queue is full, [`HashError::Length`] for a password that no rule lets through.
    pub async fn hash(&self, password: Secret) -> Result<PasswordHash, HashError> {
        if !length_fits(&password) {
            return Err(HashError::Length);
        }
        let (reply, answer) = oneshot::channel();
        self.enqueue(Job::Hash { password, reply })?;
        answer.await.map_err(|_| HashError::Busy)
    }

    /// Compares a password with a hash; without one it does the same work on a decoy and never matches.
    ///
    /// A hash that is no Argon2 string, or asks for more than 128 MiB, 16 passes or 16 lanes, is treated as none, and
    /// so is a password of a length that [`Self::hash`] refuses.
    ///
    /// # Errors
    /// [`HashError::Busy`]
    pub async fn verify(
        &self,
        password: Secret,
        hash: Option<PasswordHash>,
    ) -> Result<Verdict, HashError> {
        let (password, hash) = if length_fits(&password) {
            (password, hash)
        } else {
            (Secret::new(String::new()), None)
        };
        let (reply, answer) = oneshot::channel();
        self.enqueue(Job::Verify {
            password,
            hash,
            reply,
        })?;
        answer.await.map_err(|_| HashError::Busy)
    }

    fn enqueue(&self, job: Job) -> Result<(), HashError> {
        self.jobs.try_send(job).map_err(|_| HashError::Busy)
    }
}

fn length_fits(password: &Secret) -> bool {
    (1..=PASSWORD_BYTES_MAX).contains(&password.expose().len())
}

/// One thread of the pool: takes jobs until the pool is dropped.
fn work(waiting: &Mutex<Receiver<Job>>, decoy: &PasswordHash) {
    let mut hasher = Hasher::new();
    loop {
        // One thread waits in `recv`, the others for the lock: each job wakes one.
        let job = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(job) = job else { return };
        // A panic in a foreign crate would cost this thread, and in the end all of them. Caught, it drops the reply,
        // and its caller reads that as busy.
        let outcome = catch_unwind(AssertUnwindSafe(|| hasher.run(job, decoy)));
        if outcome.is_err() {
            tracing::error!("a password could not be hashed: the hash function panicked");
            hasher = Hasher::new();
        }
    }
}

/// A PHC string that no password is known to have, with today's parameters.
fn draw_decoy() -> PasswordHash {
    let (mut salt, mut output) = ([0; SALT_BYTES], [0; OUTPUT_BYTES]);
    random::fill(&mut salt);
    random::fill(&mut output);
    phc_string(&salt, &output)
}

fn phc_string(salt: &[u8], output: &[u8]) -> PasswordHash {
    PasswordHash::new(format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(output)
    ))
}

/// What one thread keeps from hash to hash: the memory blocks, which cost 2 ms of page faults when they are fresh.
struct Hasher {
    blocks: Vec<Block>,
}

impl Hasher {
    fn new() -> Self {
        Self { blocks: Vec::new() }
    }

    fn run(&mut self, job: Job, decoy: &PasswordHash) {
        match job {
            // A caller who has gone away gets no work done: under pressure that is most of the queue.
            Job::Hash { reply, .. } if reply.is_closed() => {}
            Job::Verify { reply, .. } if reply.is_closed() => {}
            Job::Hash { password, reply } => {
                if let Some(hash) = self.hash(&password) {
                    let _ = reply.send(hash);
                }
            }
            Job::Verify {
                password,
                hash,
                reply,
            } => {
                let known = hash.as_ref().and_then(Stored::read);
                let has_hash = known.is_some();
                let Some(against) = known.or_else(|| Stored::read(decoy)) else {
                    return;
                };
                let is_equal = self.verify(&password, &against);
                let matches = has_hash && is_equal;
                let outdated = matches && !against.is_current();
                let _ = reply.send(Verdict { matches, outdated });
            }
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
        // What a foreign hash wanted above our own measure is given back.
        if MEMORY_KIB as usize <= needed {
            self.blocks.truncate(MEMORY_KIB as usize);
            self.blocks.shrink_to_fit();
        }
        filled.ok()
    }
}

/// A PHC string taken apart.
struct Stored {
    context: Argon2<'static>,
    algorithm: Algorithm,
    version: Version,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl Stored {
    /// Reads a PHC string of Argon2 within our bounds.
    fn read(hash: &PasswordHash) -> Option<Self> {
        let parsed = phc::PasswordHash::new(hash.as_str()).ok()?;
        let algorithm = Algorithm::try_from(parsed.algorithm.as_str()).ok()?;
        // A string without a version is of the version before 1.3 (RFC 9106; the PHC string format).
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

    /// Whether it is of the kind that [`PasswordPool::hash`] makes.
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
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    /// Verifies on this thread.
    fn verdict(password: &str, hash: Option<&str>) -> Verdict {
        let (reply, mut answer) = oneshot::channel();
        let job = Job::Verify {
            password: secret(password),
            hash: hash.map(|text| PasswordHash::new(text.to_owned())),
            reply,
        };
        Hasher::new().run(job, &draw_decoy());
        answer.try_recv().unwrap()
    }

    const NO: Verdict = Verdict {
        matches: false,
        outdated: false,
    };

    #[test]
    fn a_password_matches_its_own_hash_only() {
        runtime().block_on(async {
            let pool = PasswordPool::start(1, 4).unwrap();
            let hash = pool.hash(secret("correct horse")).await.unwrap();
            assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
            assert_eq!(hash.as_str().len(), 97);
            let again = pool.hash(secret("correct horse")).await.unwrap();
            assert_ne!(hash, again, "each hash has its own salt");

            let right = pool
                .verify(secret("correct horse"), Some(hash.clone()))
                .await;
            let expected = Verdict {
                matches: true,
                outdated: false,
            };
            assert_eq!(right, Ok(expected));
            for wrong in ["correct horsf", "", "correct horse ", &"x".repeat(1025)] {
                let verdict = pool.verify(secret(wrong), Some(hash.clone())).await;
                assert_eq!(verdict, Ok(NO), "{wrong}");
            }
            assert_eq!(pool.verify(secret("correct horse"), None).await, Ok(NO));
        });
    }

    #[test]
    fn passwords_of_1_to_1024_bytes_are_hashed_whole() {
        runtime().block_on(async {
            let pool = PasswordPool::start(1, 4).unwrap();
            let longest = "p".repeat(PASSWORD_BYTES_MAX);
            let hash = pool.hash(secret(&longest)).await.unwrap();
            let cut = "p".repeat(PASSWORD_BYTES_MAX - 1);
            assert_eq!(pool.verify(secret(&cut), Some(hash)).await, Ok(NO));
            for bad in ["", &"p".repeat(PASSWORD_BYTES_MAX + 1)] {
                assert_eq!(pool.hash(secret(bad)).await, Err(HashError::Length));
            }
        });
    }

    #[test]
    fn hashes_of_other_parameters_match_and_are_outdated() {
        // Of the password "password", from test.c of the reference implementation of Argon2.
        for hash in [
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
            "$argon2id$v=19$m=65536,t=1,p=1$c29tZXNhbHQ$9qWtwbpyPd3vm1rB1GThgPzZ3/ydHL92zKL+15XZypg",
            "$argon2i$v=19$m=256,t=2,p=2$c29tZXNhbHQ$T/XOJ2mh1/TIpJHfCdQan76Q5esCFVoT5MAeIM1Oq2E",
            "$argon2i$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
        ] {
            let expected = Verdict {
                matches: true,
                outdated: true,
            };
            assert_eq!(verdict("password", Some(hash)), expected, "{hash}");
            assert_eq!(verdict("Password", Some(hash)), NO, "{hash}");
        }
    }

    #[test]
    fn what_is_no_hash_within_bounds_never_matches() {
        for hash in [
            "",
            "$",
            "password",
            "$5$rounds=5000$salt$hash",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ",
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=4294967295,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=19456,t=2,p=0$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=20$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2x$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=1$YQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        ] {
            assert_eq!(verdict("password", Some(hash)), NO, "{hash}");
        }
    }

    #[test]
    fn the_decoy_never_matches_even_with_its_own_password() {
        let mut hasher = Hasher::new();
        let decoy = hasher.hash(&secret("password")).unwrap();
        let (reply, mut answer) = oneshot::channel();
        let job = Job::Verify {
            password: secret("password"),
            hash: None,
            reply,
        };
        hasher.run(job, &decoy);
        assert_eq!(answer.try_recv(), Ok(NO));
    }

    #[test]
    fn memory_of_a_larger_hash_is_given_back() {
        let params = Params::new(2 * MEMORY_KIB, 1, 1, None).unwrap();
        let context = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut hasher = Hasher::new();
        let filled = hasher.fill(&context, &secret("password"), b"somesalt", &mut [0; 32]);
        assert!(filled.is_some());
        assert_eq!(hasher.blocks.capacity(), MEMORY_KIB as usize);
    }

    #[test]
    fn a_full_queue_is_busy_and_nobody_works_for_who_has_gone() {
        // No thread takes from this queue.
        let (jobs, waiting) = sync_channel(1);
        let pool = PasswordPool { jobs };
        runtime().block_on(async {
            let first = pool.hash(secret("first"));
            let second = pool.hash(secret("second"));
            tokio::select! {
                biased;
                _ = first => panic!("nobody answers"),
                refused = second => assert_eq!(refused, Err(HashError::Busy)),
            }
        });
        // The select has dropped the first caller: its job is passed over without memory being taken.
        let mut hasher = Hasher::new();
        hasher.run(waiting.recv().unwrap(), &draw_decoy());
        assert!(hasher.blocks.is_empty());

        drop(waiting);
        let ended = runtime().block_on(pool.verify(secret("third"), None));
        assert_eq!(ended, Err(HashError::Busy));
    }
}
