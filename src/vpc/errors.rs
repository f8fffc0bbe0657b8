//! From what the SDK says to what it means: what failed, and whether EC2 may have done it.

use std::error::Error;
use std::iter::successors;
use std::time::Duration;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

use super::CloudError;
use crate::clock;
use crate::decide::Fenced;

/// The longest text that is taken over from an answer: enough for EC2's sentence with two ARNs.
const TEXT_MAX: usize = 400;

/// EC2 refuses a signature whose time is more than five minutes off.
const SKEW_MAX: Duration = Duration::from_secs(300);

/// A failed call.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: CloudError,
    pub(super) effect: Effect,
}

/// What a failed call may have done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// The fence stopped it before a byte left.
    Fenced(Fenced),
    /// Nothing: EC2 said no, or nothing left.
    Nothing,
    /// EC2 may have done it, or may still.
    Unknown,
}

impl Failure {
    /// The label of `vipd_ec2_requests_total`.
    pub(super) fn label(&self) -> &'static str {
        match self.effect {
            Effect::Fenced(_) => "fenced",
            Effect::Nothing if self.is_dry_run_yes() => "ok",
            Effect::Nothing | Effect::Unknown => self.error.label(),
        }
    }

    /// EC2 says yes to a DryRun by an error.
    pub(super) fn is_dry_run_yes(&self) -> bool {
        matches!(&self.error, CloudError::Other { code, .. } if code == "DryRunOperation")
    }
}

/// What is known about the call that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    pub(super) action: &'static str,
    pub(super) endpoint: &'a str,
    pub(super) timeout: Duration,
    /// It had credentials.
    pub(super) signed: bool,
    /// Its door says so.
    pub(super) nothing_left: bool,
}

impl Attempt<'_> {
    pub(super) fn failure<E>(&self, error: &SdkError<E>) -> Failure
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        let effect = match find::<Fenced>(error) {
            Some(fenced) if self.nothing_left => Effect::Fenced(*fenced),
            None if self.nothing_left => Effect::Nothing,
            Some(_) | None => said_no(error),
        };
        Failure { error: self.meaning(error), effect }
    }

    fn meaning<E>(&self, error: &SdkError<E>) -> CloudError
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        let action = self.action;
        let ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        match error {
            SdkError::ServiceError(answer) => {
                let meta = answer.err().meta();
                self.answered(answer.raw(), meta.code(), meta.message().unwrap_or_default())
            }
            SdkError::ResponseError(_) => CloudError::Garbled { action, message: chain(error) },
            _ if !self.signed => CloudError::Credentials { message: chain(error) },
            SdkError::TimeoutError(_) => CloudError::Timeout { action, ms },
            SdkError::DispatchFailure(failure) if failure.is_timeout() => CloudError::Timeout { action, ms },
            SdkError::DispatchFailure(_) => {
                CloudError::Unreachable { action, endpoint: self.endpoint.to_owned(), message: chain(error) }
            }
            _ => CloudError::Other { action, code: "request".to_owned(), message: chain(error) },
        }
    }

    /// The codes are those of EC2's page "Error codes for the Amazon EC2 API".
    fn answered(&self, raw: &HttpResponse, code: Option<&str>, message: &str) -> CloudError {
        let action = self.action;
        let Some(code) = code else {
            let message = format!("HTTP status {} without an error code", raw.status().as_u16());
            return CloudError::Garbled { action, message };
        };
        // EC2 appends a long blob that only `aws sts decode-authorization-message` can read.
        let message = message.split("Encoded authorization failure").next().unwrap_or_default();
        let (code, message) = (short(code), short(message.trim_end()));
        match code.as_str() {
            _ if is_throttle(&code) => CloudError::Throttled { action },
            "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => {
                CloudError::Unauthorized { action, resource: resource(&message), message }
            }
            "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => {
                CloudError::Clock { action, code }
            }
            "AuthFailure" | "SignatureDoesNotMatch" | "InvalidSignatureException" if clock_is_off(raw) => {
                CloudError::Clock { action, code }
            }
            "AuthFailure"
            | "SignatureDoesNotMatch"
            | "InvalidSignatureException"
            | "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "MissingAuthenticationToken" => {
                CloudError::Credentials { message: format!("{action}: {code}: {message}") }
            }
            // So says ReplaceRoute where the table has no such entry.
            "InvalidParameterValue" if message.contains("no route defined") => {
                CloudError::NotFound { action, code, message }
            }
            _ if code.ends_with(".NotFound") => CloudError::NotFound { action, code, message },
            _ => CloudError::Other { action, code, message },
        }
    }
}

/// What IAM names in "... is not authorized to perform: ec2:ReplaceRoute on resource: ARN because ..."; reads know
/// no resource.
fn resource(message: &str) -> String {
    let arn = message.split("on resource: ").nth(1).and_then(|rest| rest.split_whitespace().next());
    arn.map_or("*", |arn| arn.trim_end_matches(['.', ','])).to_owned()
}

fn is_throttle(code: &str) -> bool {
    ["RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled", "SlowDown"]
        .contains(&code)
}

/// EC2 said no: an error code of EC2's with a 4xx status, or throttling (status 503). Any other
/// answer, an internal error above all, may come from a call that took effect.
fn said_no<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Effect {
    let SdkError::ServiceError(answer) = error else {
        return Effect::Unknown;
    };
    match answer.err().meta().code() {
        Some(code) if answer.raw().status().is_client_error() || is_throttle(code) => Effect::Nothing,
        Some(_) | None => Effect::Unknown,
    }
}

/// Whether the answer's `Date` and this machine's wall clock are further apart than EC2 allows.
fn clock_is_off(raw: &HttpResponse) -> bool {
    let theirs = date(raw).and_then(|seconds| u64::try_from(seconds).ok());
    theirs.is_some_and(|theirs| (clock::wall().0 / 1000).abs_diff(theirs) > SKEW_MAX.as_secs())
}

/// An answer's `Date`, in seconds since 1970.
pub(super) fn date(raw: &HttpResponse) -> Option<i64> {
    let date = DateTime::from_str(raw.headers().get("date")?, Format::HttpDate).ok()?;
    Some(date.secs())
}

fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    // A chain is finite; the bound is against one that is not.
    successors(Some(error), |&error| error.source()).take(32)
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    sources(error).find_map(|error| error.downcast_ref::<T>())
}

/// The error and its sources in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for part in sources(error).map(ToString::to_string) {
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
    }
    short(&text)
}

/// One line of bounded length.
fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX).collect()
}
