//! Failures of upstreams.

use std::io;

use rustix::io::Errno;

use crate::model::error_code::ErrorCode;

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The gateway itself could not open a connection, for example for want of descriptors or ports.
    Socket,
    /// The upstream refused the connection.
    ConnectRefused,
    /// The connection was not established in time.
    ConnectTimedout,
    /// There is no route to the address, or no address.
    ConnectNoRoute,
    /// The connection failed in another way.
    Connect,
    /// The connection closed before the end of the response.
    Closed,
    /// The connection broke.
    Read,
    /// The upstream sent nothing in time.
    ReadTimedout,
    /// The upstream accepted nothing in time.
    WriteTimedout,
    /// The response violates HTTP or the gateway's limits.
    Malformed,
}

impl FailureKind {
    /// Returns the kind of a failed connect.
    pub(super) fn of_connect(error: &io::Error) -> Self {
        let local = [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::ADDRNOTAVAIL,
            Errno::ADDRINUSE,
            Errno::PERM,
            Errno::ACCESS,
        ];
        if Errno::from_io_error(error).is_some_and(|errno| local.contains(&errno)) {
            return Self::Socket;
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectRefused,
            io::ErrorKind::TimedOut => Self::ConnectTimedout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                Self::ConnectNoRoute
            }
            _ => Self::Connect,
        }
    }

    /// Returns the name in log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "SocketError",
            Self::ConnectRefused => "ConnectRefused",
            Self::ConnectTimedout => "ConnectTimedout",
            Self::ConnectNoRoute => "ConnectNoRoute",
            Self::Connect => "ConnectError",
            Self::Closed => "ConnectionClosed",
            Self::Read => "ReadError",
            Self::ReadTimedout => "ReadTimedout",
            Self::WriteTimedout => "WriteTimedout",
            Self::Malformed => "MalformedResponse",
        }
    }

    /// Returns the code of the response that a caller gets.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Socket
            | Self::ConnectRefused
            | Self::ConnectTimedout
            | Self::ConnectNoRoute
            | Self::Connect => ErrorCode::UpstreamUnreachable,
            Self::ReadTimedout | Self::WriteTimedout => ErrorCode::UpstreamTimeout,
            Self::Closed | Self::Read | Self::Malformed => ErrorCode::UpstreamError,
        }
    }
}

/// A failed attempt to send a request to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamFailure {
    /// What failed.
    pub kind: FailureKind,
    /// No byte of the request was sent, so that it may be sent again whatever its method.
    pub is_unsent: bool,
    /// The connection broke before the first byte of the response.
    pub is_unanswered: bool,
}

impl UpstreamFailure {
    /// Creates the failure of a connect, or of a connection that was found closed before its use.
    #[must_use]
    pub const fn unsent(kind: FailureKind) -> Self {
        Self {
            kind,
            is_unsent: true,
            is_unanswered: true,
        }
    }

    /// Creates the failure of an exchange in which bytes went both ways.
    #[must_use]
    pub const fn partial(kind: FailureKind) -> Self {
        Self {
            kind,
            is_unsent: false,
            is_unanswered: false,
        }
    }
}
