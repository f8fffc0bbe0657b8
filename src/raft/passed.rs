//! What one member asks another in an operator's name, or in its own.

use super::Verb;
use crate::tls::Speaker;

/// What another member passed on.
#[derive(Clone, Debug)]
pub struct Passed {
    pub verb: Verb,
    /// The member, by its certificate.
    pub by: Speaker,
    /// Who asked it, by its word.
    pub who: Who,
}

/// In whose name something is passed on; both empty: in the member's own.
#[derive(Clone, Default, Debug)]
pub struct Who {
    pub name: String,
    /// `tls::Role`'s label.
    pub role: String,
}

impl From<&Speaker> for Who {
    fn from(speaker: &Speaker) -> Self {
        let role = speaker.role().map(|role| role.label()).unwrap_or_default();
        Self { name: speaker.to_string(), role: role.to_owned() }
    }
}
