//! The judgement of one check, and of all of them together. Pure.

#[cfg(test)]
mod tests;

use crate::model::Health;

/// What one probe brought. The texts are for people and name the check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Probe {
    Passed,
    /// Wrong answer, or none in time: one of the `fall` that are needed.
    Failed(String),
    /// Nobody is there, and an immediate second look did not find anyone either. Of one who was
    /// seen alive this is proof of death; of one who never was, it says nothing.
    Absent(String),
    /// Nothing can be said: unreadable, or not HAProxy.
    Mute(String),
}

/// ```text
///               Passed                  Failed x fall, Absent
///   Unjudged -----------> Up --------------------------------> Down
///       |                  ^                                    | ^
///       |                  +----------- Passed x rise ----------+ |
///       +----------------------- Failed x fall -------------------+
/// ```
///
/// Absent leaves Unjudged as it is. Mute changes nothing, and says Unknown until the next other
/// probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Judge {
    rise: u32,
    fall: u32,
    standing: Standing,
    /// Passed while Down, Failed otherwise: how many in a row.
    run: u32,
    /// Whether any probe ever passed.
    seen_alive: bool,
    /// Why nothing can be said now.
    mute: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Standing {
    Unjudged,
    Up,
    Down(String),
}

impl Judge {
    /// `rise` and `fall` of 0 count as 1.
    pub(super) fn new(rise: u32, fall: u32) -> Self {
        Self {
            rise: rise.max(1),
            fall: fall.max(1),
            standing: Standing::Unjudged,
            run: 0,
            seen_alive: false,
            mute: None,
        }
    }

    pub(super) fn note(&mut self, probe: Probe) {
        self.mute = None;
        match probe {
            Probe::Passed => self.passed(),
            Probe::Failed(why) => self.failed(why),
            Probe::Absent(why) if self.seen_alive => self.down(why),
            Probe::Absent(why) => {
                // A fall that began is over: whoever failed has gone without having lived.
                self.run = 0;
                self.mute = Some(why);
            }
            Probe::Mute(why) => {
                self.run = 0;
                self.mute = Some(why);
            }
        }
    }

    pub(super) fn verdict(&self) -> Health {
        match (&self.mute, &self.standing) {
            (Some(why), _) => Health::Unknown(why.clone()),
            (None, Standing::Unjudged) => Health::Unknown("not checked yet".to_owned()),
            (None, Standing::Up) => Health::Healthy,
            (None, Standing::Down(why)) => Health::Unhealthy(why.clone()),
        }
    }

    /// Whether failures are being counted that are not a verdict yet.
    pub(super) fn is_falling(&self) -> bool {
        self.run > 0 && !matches!(self.standing, Standing::Down(_))
    }

    fn passed(&mut self) {
        self.seen_alive = true;
        match self.standing {
            Standing::Unjudged | Standing::Up => self.up(),
            Standing::Down(_) => {
                self.run = self.run.saturating_add(1);
                if self.run >= self.rise {
                    self.up();
                }
            }
        }
    }

    fn failed(&mut self, why: String) {
        match self.standing {
            Standing::Unjudged | Standing::Up => {
                self.run = self.run.saturating_add(1);
                if self.run >= self.fall {
                    self.down(why);
                } else if self.standing == Standing::Unjudged {
                    self.mute = Some(why);
                }
            }
            Standing::Down(_) => self.down(why),
        }
    }

    fn up(&mut self) {
        self.standing = Standing::Up;
        self.run = 0;
    }

    fn down(&mut self, why: String) {
        self.standing = Standing::Down(why);
        self.run = 0;
    }
}

/// All checks together: unhealthy if one says so, else healthy if one says so, else unknown.
pub(super) fn combine(verdicts: &[Health]) -> Health {
    let mut sick = Vec::new();
    let mut unknown = Vec::new();
    let mut healthy = false;
    for verdict in verdicts {
        match verdict {
            Health::Unhealthy(why) => sick.push(why.as_str()),
            Health::Unknown(why) => unknown.push(why.as_str()),
            Health::Healthy => healthy = true,
            Health::NotChecked => {}
        }
    }
    unknown.dedup();
    if !sick.is_empty() {
        Health::Unhealthy(sick.join("; "))
    } else if healthy {
        Health::Healthy
    } else if !unknown.is_empty() {
        Health::Unknown(unknown.join("; "))
    } else {
        Health::NotChecked
    }
}
