//! The thread that writes messages: writing blocks, and must not block a worker.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tokio::sync::oneshot;
use zeroize::Zeroizing;

/// Capacity of the queue: enough for a short burst of registrations, too small for a flood.
const WAITING_MAX: usize = 256;

struct Job {
    message: Zeroizing<Vec<u8>>,
    reply: oneshot::Sender<io::Result<()>>,
}

/// A bounded queue of messages, written by one thread.
///
/// A queued message is written even if its caller stops waiting. When the writer is dropped, the thread ends after the
/// queued messages.
#[derive(Debug)]
pub(in crate::mail) struct Writer {
    jobs: SyncSender<Job>,
}

impl Writer {
    /// Starts the thread; `deliver` writes one whole message.
    pub(in crate::mail) fn start(
        deliver: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        thread::Builder::new()
            .name("mail".to_owned())
            .spawn(move || work(&waiting, deliver))?;
        Ok(Self { jobs })
    }

    /// Queues a message; returns once it is written.
    pub(in crate::mail) async fn deliver(&self, message: Zeroizing<Vec<u8>>) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        let job = Job { message, reply };
        self.jobs
            .try_send(job)
            .map_err(|_| io::Error::new(io::ErrorKind::WouldBlock, "too many mails are waiting"))?;
        answer
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the mail thread has ended")))
    }
}

fn work(waiting: &Receiver<Job>, mut deliver: impl FnMut(&[u8]) -> io::Result<()>) {
    while let Ok(job) = waiting.recv() {
        let outcome = deliver(&job.message);
        // The receiver may be gone.
        let _ = job.reply.send(outcome);
    }
}
