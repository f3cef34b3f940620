//! The queue of the hashing threads, and the memory that they use.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argon2::Block;

/// Time for which the memory of a hash is kept for the next one.
const KEPT: Duration = Duration::from_secs(2);

/// The queue of the threads, and the memory that they use.
pub(super) struct JobQueue<J> {
    jobs: Mutex<Receiver<J>>,
    memory: Mutex<BlockPool>,
}

/// Memory blocks, which are reused while passwords come, since fresh ones cost 2 ms of page faults.
#[derive(Default)]
struct BlockPool {
    free: Vec<Vec<Block>>,
    lent: usize,
}

impl<J> JobQueue<J> {
    pub(super) fn new(jobs: Receiver<J>) -> Self {
        Self {
            jobs: Mutex::new(jobs),
            memory: Mutex::default(),
        }
    }

    /// The next job and blocks for it; `None`: the pool was dropped.
    pub(super) fn next(&self) -> Option<(J, Vec<Block>)> {
        // One thread waits for a job and the others for the lock, so each job wakes one.
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let job = if self.memory().is_given_up() {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(KEPT)
            };
            match job {
                Ok(job) => return Some((job, self.memory().take())),
                Err(RecvTimeoutError::Timeout) => self.memory().free.clear(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Takes back the blocks of a finished job.
    pub(super) fn give_back(&self, blocks: Vec<Block>) {
        let mut memory = self.memory();
        memory.lent -= 1;
        memory.free.push(blocks);
    }

    fn memory(&self) -> MutexGuard<'_, BlockPool> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockPool {
    const fn is_given_up(&self) -> bool {
        self.free.is_empty() && self.lent == 0
    }

    fn take(&mut self) -> Vec<Block> {
        self.lent += 1;
        self.free.pop().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_memory_of_hashes_is_given_back_when_no_password_comes() {
        let (jobs, waiting) = channel();
        let queue = JobQueue::new(waiting);
        jobs.send(()).unwrap();
        let ((), blocks) = queue.next().unwrap();
        assert!(blocks.is_empty() && !queue.memory().is_given_up());
        queue.give_back(vec![Block::new()]);
        jobs.send(()).unwrap();
        let ((), blocks) = queue.next().unwrap();
        assert_eq!(
            blocks.len(),
            1,
            "what follows soon has the memory of the one before"
        );
        queue.give_back(blocks);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| queue.next().map(|((), blocks)| blocks.len()));
            while !queue.memory().is_given_up() {
                std::thread::sleep(Duration::from_millis(20));
            }
            jobs.send(()).unwrap();
            assert_eq!(waits.join().unwrap(), Some(0));
        });
        drop(jobs);
        assert!(queue.next().is_none());
    }
}
