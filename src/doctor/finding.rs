//! One line of a diagnosis.

use crate::proto;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Ok,
    /// It would hurt, but the next failover goes through.
    Warn,
    /// The next failover would fail, or the one onto this member would.
    Fail,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

/// What one check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub check: &'static str,
    pub level: Level,
    /// What is.
    pub finding: String,
    /// Why that matters; empty where all is well.
    pub why: String,
    /// The command or line that mends it; empty where all is well.
    pub mend: String,
}

impl Finding {
    pub fn ok(check: &'static str, finding: impl Into<String>) -> Self {
        let (why, mend) = (String::new(), String::new());
        Self { check, level: Level::Ok, finding: finding.into(), why, mend }
    }

    pub fn new(
        level: Level,
        check: &'static str,
        finding: impl Into<String>,
        why: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { check, level, finding: finding.into(), why: why.into(), mend: mend.into() }
    }

    pub fn of(self, member: &str) -> proto::Finding {
        proto::Finding {
            member: member.to_owned(),
            check: self.check.to_owned(),
            level: self.level.word().to_owned(),
            finding: self.finding,
            why: self.why,
            mend: self.mend,
        }
    }
}
