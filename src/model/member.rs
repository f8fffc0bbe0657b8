//! A member as the group knows it. The file's `[[members]]` seeds it; then the Raft membership has it.

use super::Name;

/// The priority of a member whose file names none.
pub const USUAL_PRIORITY: u32 = 100;

/// What is agreed on one member, or what its own file says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub name: Name,
    /// `host:port`, as the others reach it.
    pub peer: String,
    pub admin: Option<String>,
    pub zone: Option<String>,
    pub priority: u32,
    pub witness: bool,
}

impl Member {
    /// The same member, but where it lies in the group: whatever a file may change by a restart. The
    /// address is not of these: another host could take a living member's place by it.
    pub fn described_as(&self, other: &Member) -> Member {
        Member {
            admin: other.admin.clone(),
            // A zone that is not known takes none away.
            zone: other.zone.clone().or_else(|| self.zone.clone()),
            priority: other.priority,
            witness: other.witness,
            ..self.clone()
        }
    }
}
