//! `admin.sock`: how the command line reaches the process that has the store.
//!
//! One line of JSON each way. The socket lies in our directory (0700), has mode 0600, and answers peers of this
//! process's own user or root only. Several peers are served at once, so none that is silent or slow keeps the others
//! waiting.

use std::collections::VecDeque;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use zeroize::Zeroizing;

use crate::operator::control::{AccountCommand, Command, Reply};
use crate::operator::execute::execute;
use crate::snapshot::Current;

/// Longest command, in bytes.
const COMMAND_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Longest answer, in bytes.
const REPLY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How many commands are carried out at once, and how many peers may be about to send theirs. One more that connects takes
/// the place of the one that has been silent for the longest time.
const PEERS_MAX: usize = 16;
/// How long a peer may take to send its command.
const LINE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a command may take to be carried out, and its answer to be read.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long something about very many records may take to be carried out.
const LONG_PATIENCE: Duration = Duration::from_mins(10);

/// Wishes to have the configuration read again, each with the place for its answer.
pub type Reloads = mpsc::Sender<oneshot::Sender<Reply>>;

/// The server's side could not be set up, or the client's side got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers there.
    #[error("another gateway answers on {path}")]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot use {path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The peer sent what is no reply.
    #[error(
        "the gateway on {path} gave no answer that is understood here; is it of another version?"
    )]
    Reply {
        /// The socket.
        path: PathBuf,
    },
}

impl SocketError {
    /// Another process answers there.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Taken { .. })
    }

    /// The disk takes no writes.
    #[must_use]
    pub fn is_of_the_disk(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let Self::Io { source, .. } = self else {
            return false;
        };
        matches!(
            source.kind(),
            QuotaExceeded | ReadOnlyFilesystem | StorageFull
        )
    }
}

/// Where the socket of a store's directory is.
#[must_use]
pub fn path_in(directory: &Path) -> PathBuf {
    directory.join("admin.sock")
}

/// Takes the socket of our directory. A socket that nobody answers on is left over from a crash and replaced.
///
/// # Errors
/// [`SocketError`]
pub async fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let io = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    if UnixStream::connect(path).await.is_ok() {
        return Err(SocketError::Taken {
            path: path.to_owned(),
        });
    }
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(io(source)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(io)?;
    Ok(listener)
}

/// Answers commands until it is dropped.
///
/// `reloads`: who reads the configuration again and answers.
pub async fn serve(listener: UnixListener, current: Arc<Current>, reloads: Reloads) {
    let server = Arc::new(Server {
        current,
        reloads,
        long: Semaphore::new(1),
    });
    let mut silent = PendingPeers::default();
    let mut answered = JoinSet::new();
    loop {
        let has_room = answered.len() < PEERS_MAX;
        tokio::select! {
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, _)) if is_own_or_root(&stream) => silent.hear(stream),
                Ok(_) => tracing::warn!("refused a peer of another user on admin.sock"),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot accept on admin.sock"
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(heard) = silent.peers.join_next(), if has_room => match heard {
                Ok(Ok((line, writer))) => {
                    let server = Arc::clone(&server);
                    answered.spawn(async move { log_end(server.answer(&line, writer).await) });
                }
                Ok(Err(error)) => log_end(Err(error)),
                // It gave its place up.
                Err(_) => {}
            },
            Some(_) = answered.join_next() => {}
        }
    }
}

/// Peers that have not sent their command yet.
#[derive(Default)]
struct PendingPeers {
    peers: JoinSet<std::io::Result<(CommandLine, OwnedWriteHalf)>>,
    /// The oldest first.
    order: VecDeque<AbortHandle>,
}

impl PendingPeers {
    fn hear(&mut self, stream: UnixStream) {
        self.order.retain(|peer| !peer.is_finished());
        if PEERS_MAX <= self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
        }
        self.order.push_back(self.peers.spawn(hear(stream)));
    }
}

/// A command, which may hold a password.
type CommandLine = Zeroizing<String>;

async fn hear(stream: UnixStream) -> std::io::Result<(CommandLine, OwnedWriteHalf)> {
    let (reader, writer) = stream.into_split();
    let mut line = Zeroizing::new(String::new());
    let mut reader = BufReader::new(reader.take(COMMAND_BYTES_MAX));
    tokio::time::timeout(LINE_PATIENCE, reader.read_line(&mut line)).await??;
    Ok((line, writer))
}

fn log_end(end: std::io::Result<()>) {
    match end {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            tracing::warn!("a peer on admin.sock took too long");
        }
        Err(error) => tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a peer on admin.sock went away"
        ),
    }
}

fn is_own_or_root(stream: &UnixStream) -> bool {
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw())
}

/// What carries commands out.
struct Server {
    current: Arc<Current>,
    reloads: Reloads,
    /// What is about very many records takes much memory, and is done one by one.
    long: Semaphore,
}

impl Server {
    async fn answer(&self, line: &str, mut writer: OwnedWriteHalf) -> std::io::Result<()> {
        let reply = match serde_json::from_str::<Command>(line) {
            Ok(Command::Reload) => tokio::time::timeout(PATIENCE, self.reload()).await?,
            Ok(command) => self.execute(command).await?,
            Err(_) => Reply::Refused(
                "the command is not understood: is the gateway of another version?".to_owned(),
            ),
        };
        let mut text = serde_json::to_vec(&reply)?;
        text.push(b'\n');
        let told = async {
            writer.write_all(&text).await?;
            writer.shutdown().await
        };
        tokio::time::timeout(PATIENCE, told).await?
    }

    async fn reload(&self) -> Reply {
        let (caller, told) = oneshot::channel();
        // A gateway that drains reads nothing again.
        let _ = self.reloads.send(caller).await;
        let ending = || Reply::Failed("the gateway is ending".to_owned());
        told.await.unwrap_or_else(|_| ending())
    }

    async fn execute(&self, command: Command) -> std::io::Result<Reply> {
        let is_long = matches!(
            &command,
            Command::Account(AccountCommand::Import { .. }) | Command::Store(_)
        );
        let patience = if is_long { LONG_PATIENCE } else { PATIENCE };
        let executed = async {
            let _turn = if is_long {
                self.long.acquire().await.ok()
            } else {
                None
            };
            execute(command, &self.current.load()).await
        };
        Ok(tokio::time::timeout(patience, executed).await?)
    }
}

/// Asks the server that has this directory; `None`: no server runs there.
///
/// # Errors
/// [`SocketError`] when a server is there but gives no answer.
pub async fn ask(path: &Path, command: &Command) -> Result<Option<Reply>, SocketError> {
    let io = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(source) => return Err(io(source)),
    };
    let (reader, mut writer) = stream.into_split();
    let mut line = Zeroizing::new(serde_json::to_vec(command).map_err(|error| io(error.into()))?);
    line.push(b'\n');
    writer.write_all(&line).await.map_err(io)?;
    let mut reply = Vec::new();
    reader
        .take(REPLY_BYTES_MAX)
        .read_to_end(&mut reply)
        .await
        .map_err(io)?;
    serde_json::from_slice(&reply)
        .map(Some)
        .map_err(|_| SocketError::Reply {
            path: path.to_owned(),
        })
}
