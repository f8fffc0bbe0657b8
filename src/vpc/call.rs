//! One request on its way through the SDK: an interceptor that belongs to this request alone.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use aws_sdk_ec2::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use http_body::Body;

use super::door::Door;
use super::errors;
use super::fenced_body::FencedBody;
use crate::clock;

/// How far into an answer its first element must stand, after XML's own first line.
const ROOT_WITHIN: usize = 512;

/// What goes with one request: its name, the end of its User-Agent and, where it changes a route,
/// its door.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) action: &'static str,
    tail: String,
    door: Option<Arc<Door>>,
    signed: Arc<AtomicBool>,
    clock: Arc<ClockOffset>,
}

/// By how many seconds EC2's clock is ahead of this machine's wall clock, as its newest answer's `Date` says.
#[derive(Debug)]
pub(super) struct ClockOffset(AtomicI64);

impl Default for ClockOffset {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl ClockOffset {
    /// `None`: EC2 has not answered yet, or without a date.
    pub(super) fn seconds(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|s| *s != i64::MIN)
    }

    fn note(&self, answer: &HttpResponse) {
        if let Some(theirs) = errors::date(answer) {
            let mine = i64::try_from(clock::wall().0 / 1000).unwrap_or(i64::MAX);
            self.0.store(theirs.saturating_sub(mine), Ordering::Relaxed);
        }
    }
}

/// Why the SDK was told to stop.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("a request without a body cannot be fenced")]
    NoBody,
    #[error("not a whole answer to {action}, it begins with {begin:?}")]
    NotTheAnswer { action: &'static str, begin: String },
}

impl Call {
    pub(super) fn new(
        action: &'static str,
        tail: String,
        door: Option<Arc<Door>>,
        clock: &Arc<ClockOffset>,
    ) -> Self {
        Self { action, tail, door, signed: Arc::default(), clock: Arc::clone(clock) }
    }

    /// Whether the request came as far as its signature, that is, had credentials.
    pub(super) fn signed(&self) -> bool {
        self.signed.load(Ordering::Acquire)
    }

    /// Ends the attempt. Says whether it is certain that nothing left, and nothing will.
    pub(super) fn shut(&self) -> bool {
        self.door.as_ref().is_some_and(|door| door.shut())
    }

    fn append_tail(&self, request: &mut HttpRequest, header: &'static str) -> Result<(), BoxError> {
        let agent = format!("{}{}", request.headers().get(header).unwrap_or_default(), self.tail);
        request.headers_mut().try_insert(header, agent)?;
        Ok(())
    }
}

#[dyn_dispatch_hint]
impl Intercept for Call {
    fn name(&self) -> &'static str {
        "vipd"
    }

    /// `x-amz-user-agent` is signed, so it is extended before; `user-agent` is not (aws-sigv4
    /// leaves it out). The SDK sends both.
    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        fault!("vpc.credentials", error(e) => return Err(e.into()));
        self.append_tail(context.request_mut(), "x-amz-user-agent")
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.signed.store(true, Ordering::Release);
        let request = context.request_mut();
        self.append_tail(request, "user-agent")?;
        if let Some(door) = &self.door {
            // hyper sends the head of an empty body without a poll.
            if request.body().is_end_stream() {
                return Err(Stop::NoBody.into());
            }
            let inner = mem::replace(request.body_mut(), SdkBody::taken());
            *request.body_mut() = SdkBody::from_body_1_x(FencedBody { inner, door: Arc::clone(door) });
        }
        Ok(())
    }

    /// The SDK does not look at the body of a successful ReplaceRoute, so that a proxy's HTML page
    /// with status 200 would pass for a yes; and it takes route tables that were cut off for none.
    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.clock.note(context.response());
        if context.output_or_error().is_err() {
            return Ok(());
        }
        let bytes = context.response().body().bytes().unwrap_or_default().trim_ascii();
        let begin = String::from_utf8_lossy(bytes.get(..ROOT_WITHIN).unwrap_or(bytes));
        let (root, end) = (format!("<{}Response", self.action), format!("</{}Response>", self.action));
        if begin.contains(&root) && bytes.ends_with(end.as_bytes()) {
            return Ok(());
        }
        let begin = begin.chars().take(60).collect();
        Err(Stop::NotTheAnswer { action: self.action, begin }.into())
    }
}
