//! A caller that writes given bytes, and reads its answer at the same time.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::differential::script::{Progress, Step, written};
use crate::differential::wire::{Answer, End, Framing, read_answer};

/// Maximum time for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Maximum time for which a caller waits for a part of its answer.
const AWAIT_MAX: Duration = Duration::from_millis(1500);

/// A connection of a caller.
#[derive(Debug)]
pub(super) struct Caller {
    reads: OwnedReadHalf,
    writes: OwnedWriteHalf,
}

impl Caller {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.set_nodelay(true);
        let (reads, writes) = stream.into_split();
        Self { reads, writes }
    }

    /// Sends a request and returns its answer; `None` if the caller resets the connection. `{t}` stands for `path`.
    pub(super) async fn ask(&mut self, path: &str, request: &[Step]) -> Option<Answer> {
        let to_head = written(request).starts_with(b"HEAD ");
        let Self { reads, writes } = self;
        let (tell, told) = watch::channel(Progress::Nothing);
        let mut filler = Filler(Some(path));
        let write = async {
            for step in request {
                match step {
                    Step::Write(bytes) => {
                        let bytes = filler.filled(bytes);
                        let _ = writes.write_all(&bytes).await;
                    }
                    Step::Pause(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
                    Step::Await(wanted) => {
                        let mut told = told.clone();
                        let there = told.wait_for(|progress| wanted <= progress);
                        let _ = timeout(AWAIT_MAX, there).await;
                    }
                    // The reader takes everything.
                    Step::Read(_) | Step::AwaitBody => {}
                    Step::Fin => drop(writes.shutdown().await),
                    Step::Reset => {
                        let _ = writes.as_ref().set_zero_linger();
                        return true;
                    }
                }
            }
            false
        };
        let read = answer(reads, to_head, &tell);
        tokio::pin!(read, write);
        tokio::select! {
            is_reset = &mut write => if is_reset { None } else { Some(read.await) },
            answer = &mut read => {
                // A proxy that has answered may read no more of a body.
                let is_reset = timeout(Duration::from_secs(1), write).await;
                (is_reset != Ok(true)).then_some(answer)
            }
        }
    }

    /// Reads what else comes within this time.
    pub(super) async fn excess(&mut self, time: Duration) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = timeout(time, self.reads.read_to_end(&mut bytes)).await;
        bytes
    }
}

/// Returns the progress of an answer that is not complete.
fn progress(bytes: &[u8]) -> Progress {
    let Some(answer) = read_answer(bytes, false, true) else {
        return Progress::Nothing;
    };
    match (&answer.head, answer.interim.as_slice()) {
        (Some(_), _) => Progress::Head,
        (None, [_, ..]) => Progress::Interim,
        (None, []) => Progress::Nothing,
    }
}

/// Replaces the first `{t}` of a request by a path.
struct Filler<'a>(Option<&'a str>);

impl Filler<'_> {
    fn filled(&mut self, bytes: &[u8]) -> Vec<u8> {
        let place = bytes.windows(3).position(|it| it == b"{t}");
        match place.and_then(|place| Some((place, self.0.take()?))) {
            Some((place, path)) => [&bytes[..place], path.as_bytes(), &bytes[place + 3..]].concat(),
            None => bytes.to_vec(),
        }
    }
}

async fn answer(
    stream: &mut OwnedReadHalf,
    to_head: bool,
    tell: &watch::Sender<Progress>,
) -> Answer {
    let mut bytes = Vec::new();
    let read = async {
        let mut piece = vec![0; 64 * 1024];
        loop {
            let count = stream.read(&mut piece).await.unwrap_or(0);
            bytes.extend_from_slice(&piece[..count]);
            if let Some(answer) = read_answer(&bytes, to_head, count == 0) {
                tell.send_replace(Progress::Whole);
                return answer;
            }
            tell.send_replace(progress(&bytes));
        }
    };
    if let Ok(answer) = timeout(PATIENCE, read).await {
        return answer;
    }
    let answer = read_answer(&bytes, to_head, true);
    let mut answer = answer.unwrap_or(Answer {
        interim: Vec::new(),
        head: None,
        framing: Framing::None,
        body: Vec::new(),
        end: End::Stalled,
        excess: Vec::new(),
    });
    answer.end = End::Stalled;
    answer
}
