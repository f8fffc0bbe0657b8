//! openraft's types, with ours in its holes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ledger::Command;
use crate::model::{Member, USUAL_PRIORITY};

openraft::declare_raft_types!(
    /// One leader a term: `leader_id_std`, where openraft's default would allow several, so that a
    /// term is enough to fence (FENCING.md, hole 1).
    pub TypeConfig:
        D = Command,
        R = (),
        NodeId = u64,
        Node = Node,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = crate::runtime::Runtime,
);

/// What the membership says of one incarnation. What follows the address came later than the first
/// groups: without it everything is as usual.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Node {
    /// The member's name.
    pub name: String,
    /// Where its Raft port is reached, `host:port`.
    pub peer: String,
    #[serde(default)]
    pub admin: Option<String>,
    #[serde(default)]
    pub zone: Option<String>,
    #[serde(default)]
    pub priority: Option<u32>,
    #[serde(default)]
    pub witness: bool,
}

impl Node {
    /// `None`, if its name is none.
    pub fn member(&self) -> Option<Member> {
        Some(Member {
            name: self.name.parse().ok()?,
            peer: self.peer.clone(),
            admin: self.admin.clone(),
            zone: self.zone.clone(),
            priority: self.priority.unwrap_or(USUAL_PRIORITY),
            witness: self.witness,
        })
    }
}

impl From<&Member> for Node {
    fn from(member: &Member) -> Self {
        Self {
            name: member.name.to_string(),
            peer: member.peer.clone(),
            admin: member.admin.clone(),
            zone: member.zone.clone(),
            priority: Some(member.priority),
            witness: member.witness,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.peer)
    }
}

/// An entry's place: term and index.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// What a member has voted, or whom it follows.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// Term and candidate, the inside of a [`Vote`].
pub type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
/// A log entry.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// Voters, learners and their nodes.
pub type Membership = openraft::Membership<u64, Node>;
/// A membership and the entry that brought it.
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// A snapshot's place and membership.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
/// A snapshot: its meta, and the ledger as JSON.
pub type Snapshot = openraft::alias::SnapshotOf<TypeConfig, Vec<u8>>;
/// What openraft says of itself, of its log and of its followers.
pub type RaftMetrics = openraft::RaftMetrics<TypeConfig>;
/// openraft itself.
pub type Raft = openraft::Raft<TypeConfig, super::store::Machine>;
