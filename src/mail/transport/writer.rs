//! A thread that writes messages, since writing must not block a worker thread.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tokio::sync::oneshot;
use zeroize::Zeroizing;

/// Capacity of the queue: a short burst of registrations fits, a flood does not.
const WAITING_MAX: usize = 256;

struct WriteJob {
    message: Zeroizing<Vec<u8>>,
    reply: oneshot::Sender<io::Result<()>>,
}

/// A bounded queue of messages, with one thread that writes them.
///
/// A queued message is written even if its caller stops waiting. When the writer is dropped, the thread writes the queued
/// messages and ends.
#[derive(Debug)]
pub(in crate::mail) struct MessageWriter {
    jobs: SyncSender<WriteJob>,
}

impl MessageWriter {
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

    /// Hands a message over, and returns when it is delivered.
    pub(in crate::mail) async fn deliver(&self, message: Zeroizing<Vec<u8>>) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        let job = WriteJob { message, reply };
        self.jobs
            .try_send(job)
            .map_err(|_| io::Error::new(io::ErrorKind::WouldBlock, "too many mails are waiting"))?;
        answer
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the mail thread has ended")))
    }
}

fn work(waiting: &Receiver<WriteJob>, mut deliver: impl FnMut(&[u8]) -> io::Result<()>) {
    while let Ok(job) = waiting.recv() {
        let outcome = deliver(&job.message);
        // The caller may have stopped waiting.
        let _ = job.reply.send(outcome);
    }
}
