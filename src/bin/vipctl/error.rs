//! What vipctl says when it could not do what it was asked, and what it exits with.

use std::fmt::Display;
use std::process::ExitCode;

use prost::Message as _;
use serde::Serialize;
use tonic::Code;
use vipd::proto::Failure;

use crate::Output;
use crate::render::{self, Tone, tone};

/// Why a verb ended, by the contract's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Failed,
    Usage,
    NoQuorum,
    Refused,
    Unreachable,
}

impl Kind {
    /// DESIGN.md section 6, exit codes.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NoQuorum => 3,
            Kind::Refused => 4,
            Kind::Unreachable => 5,
        })
    }

    // A newer vipd may know more kinds than this vipctl: they failed.
    fn parse(text: &str) -> Self {
        match text {
            "usage" => Kind::Usage,
            "no-quorum" => Kind::NoQuorum,
            "refused" => Kind::Refused,
            _ => Kind::Failed,
        }
    }
}

/// The contract's error: its kind, its cause and the next step.
#[derive(Clone, Debug, Serialize, thiserror::Error)]
#[error("{cause}")]
pub struct Error {
    pub kind: Kind,
    pub cause: String,
    pub next: String,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: &'a Error,
}

impl Error {
    pub fn new(kind: Kind, cause: impl Into<String>, next: impl Into<String>) -> Self {
        Self { kind, cause: cause.into(), next: next.into() }
    }

    /// What a member answered instead of a result: its `Failure`, or the bare status where it sent
    /// none.
    pub fn from_status(endpoint: impl Display, status: &tonic::Status) -> Self {
        if let Some(failure) = Failure::decode(status.details()).ok().filter(|f| !f.cause.is_empty()) {
            return Self::new(Kind::parse(&failure.kind), failure.cause, failure.next);
        }
        let said = match status.message() {
            "" => format!("{endpoint}: {}", status.code()),
            message => format!("{endpoint}: {message}"),
        };
        if status.code() == Code::Unavailable {
            return Self::new(Kind::Unreachable, said, "ask another member: --endpoint URL");
        }
        if status.code() == Code::DeadlineExceeded {
            return Self::new(Kind::NoQuorum, said, "see vipctl status, or allow more --timeout");
        }
        if status.code() == Code::Unimplemented {
            let next = "compare vipctl --version with the version that vipctl status shows";
            return Self::new(Kind::Failed, said, next);
        }
        Self::new(Kind::Failed, said, "see the member's log")
    }

    /// Tells it: to people on standard error, to programs on standard output.
    pub fn report(&self, output: Output) {
        match output {
            Output::Table => render::complain(&self.in_words()),
            Output::Json => render::say_last(&self.as_json()),
        }
    }

    /// The two lines that people read.
    pub fn in_words(&self) -> String {
        let next = render::clean(&self.next);
        let cause = render::clean(&self.cause);
        format!("{} {cause}\n{} {next}\n", tone(Tone::Bad, "error:"), tone(Tone::Bold, "next:"))
    }

    /// One line of JSON.
    pub fn as_json(&self) -> String {
        let json = serde_json::to_string(&Envelope { error: self }).unwrap_or_default();
        format!("{json}\n")
    }
}
