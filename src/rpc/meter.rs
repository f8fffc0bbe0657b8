//! What requests may bring along: bytes that are being received at a time, and how long one may take.
//!
//! A message is bounded by itself, but a connection has many streams and a port many connections. What
//! counts is the sum, and that is what is metered: a request's bytes are on the meter from the moment
//! they are read off its connection until it has been decoded or dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::Request;

use super::caller::Caller;
use super::limits::{BODY_DEADLINE, Bounds, MESSAGE_MAX_BYTES};

/// Meters the requests of one port: those from members' addresses by themselves, so that strangers'
/// cannot crowd them out.
#[derive(Clone, Debug)]
pub(super) struct MeterLayer {
    members: Meter,
    strangers: Meter,
}

/// What is being received, and how much it may be.
#[derive(Clone, Debug)]
struct Meter {
    received: Arc<AtomicUsize>,
    max_bytes: usize,
}

impl MeterLayer {
    pub(super) fn new(bounds: &Bounds) -> Self {
        let meter = |max_bytes| Meter { received: Arc::default(), max_bytes };
        Self { members: meter(bounds.members_bytes), strangers: meter(bounds.strangers_bytes) }
    }
}

impl<S> tower::Layer<S> for MeterLayer {
    type Service = Metered<S>;

    fn layer(&self, inner: S) -> Metered<S> {
        Metered { inner, meters: self.clone() }
    }
}

/// A service whose requests are metered.
#[derive(Clone, Debug)]
pub(super) struct Metered<S> {
    inner: S,
    meters: MeterLayer,
}

impl<S: tower::Service<Request<Body>>> tower::Service<Request<Body>> for Metered<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        let place = request.extensions().get::<Caller>().map(|caller| &caller.place);
        let is_members = place.is_some_and(|place| place.is_members());
        let meter = if is_members { &self.meters.members } else { &self.meters.strangers };
        let (meter, deadline) = (meter.clone(), Box::pin(sleep(BODY_DEADLINE)));
        self.inner.call(
            request.map(|inner| {
                Body::new(Incoming { inner, meter, head: Vec::new(), read: 0, held: 0, deadline })
            }),
        )
    }
}

/// A request's body on the meter.
struct Incoming {
    inner: Body,
    meter: Meter,
    /// The message's head as gRPC sends it, a byte and its length, as far as it is known.
    head: Vec<u8>,
    read: usize,
    held: usize,
    deadline: Pin<Box<Sleep>>,
}

/// In front of a gRPC message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

impl Incoming {
    /// Puts what came onto the meter, and what it announces: the decoder makes room for all of it at once.
    /// Whether it is within the bound.
    fn count(&mut self, data: &Bytes) -> bool {
        self.read = self.read.saturating_add(data.len());
        let missing = HEAD_BYTES.saturating_sub(self.head.len());
        self.head.extend(data.iter().take(missing));
        let announced = match self.head.as_slice() {
            [_, length @ ..] if length.len() == 4 => {
                length.iter().fold(0_usize, |all, byte| all << 8 | usize::from(*byte))
            }
            _ => 0,
        };
        // What no decoder takes makes no room: it is refused by its length.
        let announced = if announced > MESSAGE_MAX_BYTES { 0 } else { announced };
        let more = self.read.max(announced).saturating_sub(self.held);
        self.held += more;
        self.meter.received.fetch_add(more, Ordering::Relaxed) + more <= self.meter.max_bytes
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.deadline.as_mut().poll(cx).is_ready() {
            let words = format!("the request was not whole within {BODY_DEADLINE:?}");
            return Poll::Ready(Some(Err(Status::deadline_exceeded(words))));
        }
        let frame = std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()).and_then(Frame::data_ref)
            && !this.count(data)
        {
            let words = "too many requests are being received; try again";
            return Poll::Ready(Some(Err(Status::resource_exhausted(words))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.meter.received.fetch_sub(self.held, Ordering::Relaxed);
    }
}
