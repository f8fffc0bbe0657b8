//! A connection that this end closes at an age, whatever the other end does with it.
//!
//! A member closes what it has called (`raft/links.rs`) as well as what has called it (`rpc/caller.rs`): the other end may not
//! be what it was, and one whose certificate was revoked would hold on to what it has.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A connection until it has grown too old: from then on it brings an error, also to whoever waits for it.
#[derive(Debug)]
pub struct Aged<W> {
    wire: W,
    until: Pin<Box<Sleep>>,
}

impl<W> Aged<W> {
    pub fn new(wire: W, age: Duration) -> Self {
        Self { wire, until: Box::pin(tokio::time::sleep(age)) }
    }

    /// From now on so long.
    pub fn lasts(&mut self, age: Duration) {
        self.until.set(tokio::time::sleep(age));
    }

    /// Asked whatever is done with the connection: one whose other end takes nothing is read no more, since HTTP/2
    /// writes what it has to say first, and would wait for ever. One task reads and writes, so that one timer wakes it.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.until.as_mut().poll(cx).is_ready() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl<W: AsyncRead + Unpin> AsyncRead for Aged<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.wire).poll_read(cx, into)
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Aged<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.wire).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn it_ends_for_whoever_waits_to_write_and_for_whoever_waits_to_read() {
        let (mine, _theirs) = tokio::io::duplex(8);
        let mut aged = Aged::new(mine, Duration::from_millis(50));
        let written = tokio::time::timeout(Duration::from_secs(10), aged.write_all(&[0; 9])).await.unwrap();
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(aged.flush().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(aged.shutdown().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mine, _theirs) = tokio::io::duplex(8);
        let mut aged = Aged::new(mine, Duration::from_secs(3600));
        aged.lasts(Duration::from_millis(50));
        let read = tokio::time::timeout(Duration::from_secs(10), aged.read(&mut [0])).await.unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
