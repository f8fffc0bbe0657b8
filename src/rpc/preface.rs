//! What a connection of the peer port is: its first bytes tell calls from lifelines.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::raft::lifeline::PREFACE;
use crate::tls::Wire;

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4).
const HTTP2: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection may take to say what it is. A member says it at once; a lost packet is sent again
/// within one second (RFC 6298).
const DEADLINE: Duration = Duration::from_secs(2);

/// What it is.
pub(super) enum First {
    Calls(Rewound),
    Lifeline(Wire),
}

/// Reads the first 24 bytes. `None`: it is neither, or says nothing; it is told nothing.
pub(super) async fn first(mut wire: Wire) -> Option<First> {
    let mut preface = [0; 24];
    tokio::time::timeout(DEADLINE, wire.read_exact(&mut preface)).await.ok()?.ok()?;
    match preface {
        HTTP2 => Some(First::Calls(Rewound { preface, given: 0, wire })),
        PREFACE => Some(First::Lifeline(wire)),
        _ => None,
    }
}

/// A connection as if nothing of it had been read.
#[derive(Debug)]
pub(super) struct Rewound {
    preface: [u8; 24],
    /// So many bytes of it were given back.
    given: usize,
    wire: Wire,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match this.preface.get(this.given..) {
            None | Some([]) => Pin::new(&mut this.wire).poll_read(cx, into),
            Some(left) => {
                let some = left.get(..into.remaining()).unwrap_or(left);
                into.put_slice(some);
                this.given += some.len();
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }
}
