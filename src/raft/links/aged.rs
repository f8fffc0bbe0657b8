//! A connection that this end closes at an age, whatever the other end does with it.
//!
//! The other end closes it too (`rpc/caller.rs`), unless it is not what it was: one whose certificate was revoked may
//! hold on to what it has, and this end would go on telling it things.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A connection until it has grown too old: from then on it brings an error, also to whoever waits for it.
#[derive(Debug)]
pub(super) struct Aged<W> {
    wire: W,
    until: Pin<Box<Sleep>>,
}

impl<W> Aged<W> {
    pub(super) fn new(wire: W, age: Duration) -> Self {
        Self { wire, until: Box::pin(tokio::time::sleep(age)) }
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.until.as_mut().poll(cx).is_ready()
    }
}

impl<W: AsyncRead + Unpin> AsyncRead for Aged<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP/2 always waits for what comes next, so that nothing else has to wake it.
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.wire).poll_read(cx, into)
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Aged<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
