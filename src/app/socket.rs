//! `admin.sock`: how the command line reaches the process that has the store.
//!
//! One line of JSON each way. The socket lies in our directory (0700), has mode 0600, and answers peers of this
//! process's own user or root only.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::app::control::{AccountCommand, Command, Reply};
use crate::app::execute::execute;
use crate::snapshot::Current;

/// Longest command, in bytes.
const COMMAND_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Longest answer, in bytes.
const REPLY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long a peer may take to say what it wants, and a command to be carried out.
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

/// Answers commands, one connection after another, until it is dropped.
///
/// `reloads`: who reads the configuration again and answers.
pub async fn serve(listener: UnixListener, current: Arc<Current>, reloads: Reloads) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot accept on admin.sock"
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if !is_own_or_root(&stream) {
            tracing::warn!("refused a peer of another user on admin.sock");
            continue;
        }
        match answer(stream, &current, &reloads).await {
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
}

fn is_own_or_root(stream: &UnixStream) -> bool {
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw())
}

async fn answer(stream: UnixStream, current: &Current, reloads: &Reloads) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = zeroize::Zeroizing::new(String::new());
    let mut reader = BufReader::new(reader.take(COMMAND_BYTES_MAX));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let reply = match serde_json::from_str::<Command>(&line) {
        Ok(Command::Reload) => {
            let (caller, told) = oneshot::channel();
            let wished = async {
                // A gateway that drains reads nothing again.
                let _ = reloads.send(caller).await;
                let ending = || Reply::Failed("the gateway is ending".to_owned());
                told.await.unwrap_or_else(|_| ending())
            };
            tokio::time::timeout(PATIENCE, wished).await?
        }
        Ok(command) => {
            let patience = match &command {
                Command::Account(AccountCommand::Import { .. }) | Command::Store(_) => {
                    LONG_PATIENCE
                }
                _ => PATIENCE,
            };
            tokio::time::timeout(patience, execute(command, &current.load())).await?
        }
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
    let mut line =
        zeroize::Zeroizing::new(serde_json::to_vec(command).map_err(|error| io(error.into()))?);
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
