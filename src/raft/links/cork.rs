//! One packet for a request: HTTP/2's head waits a turn of the runtime for the body that follows it.
//!
//! h2 may queue a body only once the head has gone to the connection, which is then flushed. So each call would leave
//! in two packets and wake its receiver twice, and most calls are heartbeats.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So many bytes are kept at most, a snapshot's frames for instance: then they go without a wait.
const KEPT_MAX: usize = 64 * 1024;

/// A connection whose first flush is put off by one turn.
#[derive(Debug)]
pub(super) struct Corked<W> {
    wire: W,
    kept: BytesMut,
    waited: bool,
}

impl<W: AsyncWrite + Unpin> Corked<W> {
    pub(super) fn new(wire: W) -> Self {
        Self { wire, kept: BytesMut::new(), waited: false }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            match ready!(Pin::new(&mut self.wire).poll_write(cx, &self.kept))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.kept.advance(sent),
            }
        }
        self.waited = false;
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncRead + Unpin> AsyncRead for Corked<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_read(cx, into)
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Corked<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.kept.len() >= KEPT_MAX {
            ready!(self.poll_send(cx))?;
        }
        self.kept.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.kept.is_empty() && !std::mem::replace(&mut self.waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// What was sent, write by write.
    #[derive(Default)]
    struct Packets(Vec<Vec<u8>>);

    impl AsyncWrite for Packets {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_queued_while_a_flush_waits_goes_with_it() {
        let mut corked = Corked::new(Packets::default());
        corked.write_all(b"head").await.unwrap();
        let mut body = Some(b"body");
        poll_fn(|cx| {
            let flushed = Pin::new(&mut corked).poll_flush(cx);
            if let Some(body) = body.take() {
                assert!(flushed.is_pending());
                assert!(Pin::new(&mut corked).poll_write(cx, body).is_ready());
            }
            flushed
        })
        .await
        .unwrap();
        corked.write_all(b"alone").await.unwrap();
        corked.flush().await.unwrap();
        assert_eq!(corked.wire.0, [b"headbody".to_vec(), b"alone".to_vec()]);
    }

    #[tokio::test]
    async fn no_more_is_kept_than_that() {
        let mut corked = Corked::new(Packets::default());
        for _ in 0..100 {
            corked.write_all(&[7; 16 * 1024]).await.unwrap();
            assert!(corked.kept.len() <= KEPT_MAX + 16 * 1024);
        }
        corked.shutdown().await.unwrap();
        assert_eq!(corked.wire.0.concat(), [7; 1_638_400]);
    }
}
