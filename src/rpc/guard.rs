//! The check of `roles.rs`, in front of every service of a port.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use prost::Message as _;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::caller::Caller;
use super::roles::{self, Denied};
use crate::proto::Failure;
use crate::refused::Refusals;

/// Puts a [`Guard`] in front of a service.
#[derive(Clone, Default, Debug)]
pub struct GuardLayer(Arc<Refusals>);

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard(inner, Arc::clone(&self.0))
    }
}

/// Lets through what the speaker of the connection may call; refuses the rest unread.
#[derive(Clone, Debug)]
pub struct Guard<S>(S, Arc<Refusals>);

impl<S, B> Service<Request<B>> for Guard<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        match roles::check(caller.as_ref().map(|c| &c.speaker), request.uri().path()) {
            Ok(allowed) => {
                if let Some(Caller { speaker, from, .. }) = caller {
                    if roles::changes(allowed) {
                        let method = request.uri().path();
                        match self.1.order() {
                            Some(left_out) => {
                                tracing::info!(who = %speaker, %from, method, left_out, "an operator asks");
                            }
                            None => tracing::debug!(who = %speaker, %from, method, "an operator asks"),
                        }
                    }
                    request.extensions_mut().insert(speaker);
                }
                Either::Left(self.0.call(request))
            }
            Err(denied) => {
                let from = caller.map(|c| c.from.to_string()).unwrap_or_default();
                self.1.tell(&from, format_args!("refused: {denied}"));
                Either::Right(ready(Ok(refuse(&denied).into_http())))
            }
        }
    }
}

impl From<&Denied> for Failure {
    fn from(denied: &Denied) -> Self {
        let next = match denied {
            Denied::NoSuchMethod(_) => "compare vipctl --version with the version that vipctl status shows",
            Denied::Role { .. } => {
                "use an operator's certificate: vipctl certs issue operator NAME; on the unix socket be root or in admin.group"
            }
            Denied::Unknown => "connect with a certificate: --ca, --cert, --key",
        };
        Self { kind: "refused".to_owned(), cause: denied.to_string(), next: next.to_owned() }
    }
}

fn refuse(denied: &Denied) -> Status {
    let code = match denied {
        Denied::NoSuchMethod(_) => tonic::Code::Unimplemented,
        Denied::Role { .. } => tonic::Code::PermissionDenied,
        Denied::Unknown => tonic::Code::Unauthenticated,
    };
    let failure = Failure::from(denied);
    Status::with_details(code, denied.to_string(), failure.encode_to_vec().into())
}
