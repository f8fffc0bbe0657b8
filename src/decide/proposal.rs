//! A command that is proposed until the ledger shows it.

use std::time::Duration;

use super::{Effect, PROPOSAL_WAIT};
use crate::ledger::Command;
use crate::model::Time;

/// How long after one that failed. A new leader's log takes nothing before its first append is
/// acknowledged, which is a round trip ...
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// ... and a log that goes on refusing (there is no quorum) is asked ten times a second.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// When a command is proposed, and when again: after a second, or sooner if the log refused it, then
/// after a pause that doubles.
#[derive(Debug)]
pub(super) struct Proposal {
    /// The newest one, unless it has failed.
    newest: Option<Command>,
    not_before: Time,
    pause: Duration,
}

impl Proposal {
    pub(super) fn new(now: Time) -> Self {
        Self { newest: None, not_before: now, pause: FIRST_PAUSE }
    }

    pub(super) fn not_before(&self) -> Time {
        self.not_before
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        now >= self.not_before
    }

    pub(super) fn propose(&mut self, now: Time, command: Command) -> Effect {
        self.not_before = now + PROPOSAL_WAIT;
        self.newest = Some(command.clone());
        Effect::Propose(command)
    }

    /// The log refused `command`. Whether that is the newest one is seen here.
    pub(super) fn failed(&mut self, now: Time, command: &Command) {
        if self.newest.take_if(|c| c == command).is_some() {
            self.not_before = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }
}
