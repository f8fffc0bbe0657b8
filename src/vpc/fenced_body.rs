//! The fence at the last place before the socket.
//!
//! An SDK interceptor runs before DNS, TCP and TLS, so what it finds may be over when the bytes
//! leave (FENCING.md, hole 5). hyper's HTTP/1 writes a request's head into its own buffer, polls
//! the body, and flushes only then (hyper 1, `proto/h1/dispatch.rs`, `poll_write`): where the first
//! poll fails, not even the head leaves. Over HTTP/2 the head could leave first; EC2 speaks
//! HTTP/1.1, and an EC2 request says everything, even its action, in its body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_sdk_ec2::error::BoxError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::door::Door;

/// A body that asks its door on each poll.
pub(super) struct FencedBody {
    pub(super) inner: SdkBody,
    pub(super) door: Arc<Door>,
}

impl Body for FencedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        fault!("vpc.body.unchecked");
        if let Err(barred) = self.door.pass() {
            return Poll::Ready(Some(Err(barred)));
        }
        fault!("vpc.body.checked");
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::super::door::Over;
    use super::*;
    use crate::clock;
    use crate::decide::{Fenced, Gate, Permit};
    use crate::model::{Epoch, Term};

    type Polled = Option<Result<Frame<Bytes>, BoxError>>;

    async fn poll(body: &mut FencedBody) -> Polled {
        poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    /// An open gate and a body of two frames behind it.
    fn body() -> (Arc<Gate>, FencedBody) {
        let deadline = clock::now() + Duration::from_secs(3600);
        let permit = Permit::for_tests(Term(7), Epoch(93), deadline);
        let gate = Arc::new(Gate::new(Duration::from_millis(5)));
        gate.set(Some(permit));
        let door = Arc::new(Door::new(permit, Arc::clone(&gate)));
        let inner = SdkBody::from_body_1_x(Two(vec!["second", "first"]));
        (gate, FencedBody { inner, door })
    }

    struct Two(Vec<&'static str>);

    impl Body for Two {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(self.0.pop().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))))
        }
    }

    #[tokio::test]
    async fn an_open_door_lets_all_pass() {
        let (_gate, mut body) = body();
        for expected in ["first", "second"] {
            let frame = poll(&mut body).await.expect("a frame").expect("no error");
            assert_eq!(frame.into_data().expect("data"), expected.as_bytes());
        }
        assert!(poll(&mut body).await.is_none());
        assert!(!body.door.shut(), "something left");
    }

    #[tokio::test]
    async fn each_frame_is_fenced() {
        let (gate, mut body) = body();
        assert!(matches!(poll(&mut body).await, Some(Ok(_))));
        gate.set(None);
        let error = poll(&mut body).await.expect("a frame").expect_err("fenced");
        assert_eq!(error.downcast_ref::<Fenced>(), Some(&Fenced::Closed));
        assert!(!body.door.shut(), "the first frame left");
    }

    #[tokio::test]
    async fn nothing_passes_after_the_attempt() {
        let (_gate, mut body) = body();
        assert!(body.door.shut());
        let error = poll(&mut body).await.expect("a frame").expect_err("over");
        assert!(error.is::<Over>());
        assert!(body.door.shut(), "still nothing left");
    }
}
