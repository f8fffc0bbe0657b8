//! What an answer says of a refusal, cut. Such words go into headers, percent-encoded, which no window of HTTP/2 holds back
//! and no meter counts: the sender's own text in them would be kept three times over while nobody takes the answer.

use futures_util::TryFutureExt as _;
use futures_util::future::MapOk;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};

use super::limits::HEADERS_MAX_BYTES;
use crate::model::{WORDS_MAX, brief};

const MESSAGE: &str = "grpc-message";
const DETAILS: &str = "grpc-status-details-bin";

/// Cuts the words of every answer of a port.
#[derive(Clone, Copy, Debug)]
pub(super) struct BriefLayer;

impl<S> tower::Layer<S> for BriefLayer {
    type Service = Brief<S>;

    fn layer(&self, inner: S) -> Brief<S> {
        Brief(inner)
    }
}

/// A service whose refusals are short.
#[derive(Clone, Debug)]
pub(super) struct Brief<S>(S);

impl<S, B> tower::Service<Request<B>> for Brief<S>
where
    S: tower::Service<Request<B>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = MapOk<S::Future, fn(Response<Body>) -> Response<Body>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.call(request).map_ok(shorten)
    }
}

/// A unary answer has its status in the headers, a stream in the trailers.
fn shorten(mut answer: Response<Body>) -> Response<Body> {
    cut(answer.headers_mut());
    answer.map(|body| {
        Body::new(body.map_frame(|mut frame: Frame<_>| {
            if let Some(trailers) = frame.trailers_mut() {
                cut(trailers);
            }
            frame
        }))
    })
}

fn cut(headers: &mut HeaderMap) {
    let is_over = |key: &str, max: usize| headers.get(key).is_some_and(|value| value.len() > max);
    let (long, heavy) = (is_over(MESSAGE, WORDS_MAX), is_over(DETAILS, HEADERS_MAX_BYTES as usize));
    if heavy {
        headers.remove(DETAILS);
    }
    if long && let Some(status) = Status::from_header_map(headers) {
        let short = Status::new(status.code(), brief(status.message())).into_http::<()>();
        if let Some(words) = short.headers().get(MESSAGE) {
            headers.insert(MESSAGE, words.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use tonic::codegen::http::HeaderValue;

    use super::*;

    fn with_details(bytes: usize) -> HeaderMap {
        let details = HeaderValue::from_bytes(&vec![b'x'; bytes]).unwrap();
        HeaderMap::from_iter(
            [("grpc-status", HeaderValue::from(3)), (DETAILS, details)]
                .map(|(key, value)| (tonic::codegen::http::HeaderName::from_static(key), value)),
        )
    }

    #[tokio::test]
    async fn fault_66_details_as_long_as_headers_are_left_out() {
        let most = HEADERS_MAX_BYTES as usize;
        for (bytes, stays) in [(most, true), (most + 1, false), (9 * 1024, false)] {
            let trailers = Frame::<bytes::Bytes>::trailers(with_details(bytes));
            let body = StreamBody::new(tokio_stream::once(Ok::<_, Status>(trailers)));
            let mut answer = Response::new(Body::new(body));
            *answer.headers_mut() = with_details(bytes);
            let mut short = shorten(answer);
            let trailers = short.body_mut().frame().await.unwrap().unwrap().into_trailers().unwrap();
            for headers in [short.headers(), &trailers] {
                assert_eq!(headers.contains_key(DETAILS), stays, "{bytes} bytes");
                assert_eq!(headers["grpc-status"], "3", "what it means stays");
            }
        }
    }
}
