//! Who is at the other end of a call, and the connection that brings it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::keeper::Place;
use crate::aged::Aged;
use crate::tls::Speaker;

/// A connection is told to end after so long (HTTP/2 GOAWAY), so that whose certificate was revoked or ran
/// out does not stay. The other end opens a new one first (`raft/links.rs`).
const AGE_MAX: Duration = Duration::from_secs(3600);

/// Then what is under way may end: the longest is a switchover that is waited for (`desk.rs`, 300 s).
const GRACE: Duration = Duration::from_secs(360);

/// How old a connection gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Age {
    /// Then it is told to end.
    pub max: Duration,
    /// So much later it is closed, whatever is under way.
    pub grace: Duration,
}

impl Age {
    /// What vipd serves with.
    pub const USUAL: Self = Self { max: AGE_MAX, grace: GRACE };
}

/// How long a connection may be silent before its first byte: its preface follows at once.
const FIRST_BYTE: Duration = Duration::from_secs(5);

/// Who is at the other end of a call; a request's extensions hold it.
#[derive(Clone, Debug)]
pub struct Caller {
    pub from: Origin,
    pub speaker: Speaker,
    /// Free again when the connection and the last of its requests are gone.
    pub place: Arc<Place>,
}

/// Where a call comes from, for the log.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    Tcp(SocketAddr),
    /// The process at the other end of the unix socket, where the kernel knows one.
    Unix {
        pid: Option<i32>,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Tcp(address) => address.fmt(f),
            Origin::Unix { pid: Some(pid) } => write!(f, "process {pid}"),
            Origin::Unix { pid: None } => f.write_str("a process"),
        }
    }
}

/// A connection whose other end is known. It is closed at an age, whatever is under way.
#[derive(Debug)]
pub(super) struct Known<S> {
    stream: Aged<S>,
    caller: Caller,
    age: Age,
    /// It has said something.
    spoken: bool,
}

impl<S> Known<S> {
    pub(super) fn new(stream: S, caller: Caller, age: Age) -> Self {
        Self { stream: Aged::new(stream, FIRST_BYTE), caller, age, spoken: false }
    }
}

impl<S> Connected for Known<S> {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Known<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        if !self.spoken && into.filled().len() > before {
            self.spoken = true;
            let whole = self.age.max + self.age.grace;
            self.stream.lasts(whole);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Known<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
