//! openraft's types to and from the messages of `peer.proto`. What came over a wire, or off a disk,
//! is checked here: whatever passes can be handed to openraft.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::ledger::{Command, Ledger, MOVES_KEPT, REMOVED_KEPT, REQUEST_IDS_KEPT};
use crate::proto;
use crate::raft::types::{Entry, LogId, Membership, Node, SnapshotMeta, StoredMembership, TypeConfig, Vote};

/// More than ten times what openraft packs into one append by default (`max_payload_entries`, 300).
pub const MAX_ENTRIES: usize = 4096;
/// A group has a handful of members; during replacements their old incarnations as well.
pub const MAX_NODES: usize = 64;
/// openraft makes joint configurations of two; the rest is slack.
pub const MAX_CONFIGS: usize = 7;
/// A command names a few members and routes. One this long is a mistake, and has to be refused
/// before it is proposed: a log that cannot store an entry ends its process.
pub const MAX_COMMAND_BYTES: usize = 32 * 1024;
/// Half of tonic's default limit for a message (4 MiB).
pub const MAX_SNAPSHOT_BYTES: usize = 2 * 1024 * 1024;
/// Values of a ledger's JSON: 256 past moves of 82 with their request ids are 21 000; what is left is more than eight thousand
/// unsettled routes. In memory each is 60 bytes at most beside its text.
const MAX_LEDGER_VALUES: usize = 64 * 1024;
/// Values of one append's commands, which are JSON too. A route has 60 bytes for three of them: 4 MiB are 210 000.
const MAX_COMMAND_VALUES: usize = 256 * 1024;
/// A DNS name is at most 253 bytes long; a colon and a port follow.
pub const MAX_TEXT_BYTES: usize = 260;
/// A zone's name is as long as a member's at most.
pub const MAX_ZONE_BYTES: usize = 64;
/// A term a millisecond takes 8900 years to get here, and openraft adds one without looking: above
/// it a number is forged or damaged.
pub const MAX_NUMBER: u64 = 1 << 48;

/// So far ahead of its own a member believes a term: more elections than fit into a day, each of 100 ms. One message
/// would else bring a whole group to [`MAX_NUMBER`], after which nobody is elected any more; in such steps it takes 2^28,
/// each of them saved to disk before the next.
pub const TERMS_AHEAD_MAX: u64 = 1 << 20;

/// Whether a member in term `own` believes that a group has come to `term`. One that is in none yet believes any.
pub(super) fn in_reach(own: u64, term: u64) -> bool {
    own == 0 || term <= own.saturating_add(TERMS_AHEAD_MAX)
}

/// Why a message cannot be an openraft value, or a value no message.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{what} are {found}, more than {max}")]
    TooMany { what: &'static str, found: usize, max: usize },
    #[error("{what} has {found} bytes, more than {max}")]
    TooLong { what: &'static str, found: usize, max: usize },
    #[error("{what} {found} is beyond what a group can reach")]
    TooGreat { what: &'static str, found: u64 },
    #[error("voter {0:016x} has no node")]
    VoterWithoutNode(u64),
    #[error("a configuration without voters")]
    NoVoters,
    #[error("a snapshot's membership and its place do not go together")]
    MembershipPlace,
    #[error("the entry at {found} follows {expected}")]
    NotConsecutive { found: LogId, expected: u64 },
    #[error("{what}'s vote is of the wrong kind: {found}")]
    VoteKind { what: &'static str, found: Vote },
    #[error("not a command: {0}")]
    Command(#[source] serde_json::Error),
    #[error("not a ledger: {0}")]
    Ledger(#[source] serde_json::Error),
}

/// A value that has a message. `to_proto` fails only where the value is beyond a bound of this
/// module; `from_proto` never panics, whatever the message holds.
pub trait Wire: Sized {
    /// Its message.
    type Message;
    fn to_proto(&self) -> Result<Self::Message, CodecError>;
    fn from_proto(message: Self::Message) -> Result<Self, CodecError>;
}

fn bounded(what: &'static str, found: u64) -> Result<u64, CodecError> {
    if found > MAX_NUMBER { Err(CodecError::TooGreat { what, found }) } else { Ok(found) }
}

fn at_most(what: &'static str, found: usize, max: usize) -> Result<(), CodecError> {
    if found > max { Err(CodecError::TooMany { what, found, max }) } else { Ok(()) }
}

fn short(what: &'static str, found: usize, max: usize) -> Result<(), CodecError> {
    if found > max { Err(CodecError::TooLong { what, found, max }) } else { Ok(()) }
}

fn required<T: Wire>(what: &'static str, message: Option<T::Message>) -> Result<T, CodecError> {
    T::from_proto(message.ok_or(CodecError::Missing(what))?)
}

fn optional<T: Wire>(message: Option<T::Message>) -> Result<Option<T>, CodecError> {
    message.map(T::from_proto).transpose()
}

fn optional_to<T: Wire>(value: &Option<T>) -> Result<Option<T::Message>, CodecError> {
    value.as_ref().map(T::to_proto).transpose()
}

/// `command` as JSON, if it is short enough for the log. Ask before proposing one.
pub fn command_bytes(command: &Command) -> Result<Vec<u8>, CodecError> {
    let bytes = serde_json::to_vec(command).map_err(CodecError::Command)?;
    short("a command", bytes.len(), MAX_COMMAND_BYTES)?;
    Ok(bytes)
}

impl Wire for LogId {
    type Message = proto::LogId;

    fn to_proto(&self) -> Result<proto::LogId, CodecError> {
        Ok(proto::LogId { term: self.leader_id.term, index: self.index })
    }

    fn from_proto(message: proto::LogId) -> Result<Self, CodecError> {
        let term = bounded("term", message.term)?;
        Ok(LogId::new_term_index(term, bounded("index", message.index)?))
    }
}

impl Wire for Vote {
    type Message = proto::RaftVote;

    fn to_proto(&self) -> Result<proto::RaftVote, CodecError> {
        Ok(proto::RaftVote {
            term: self.leader_id.term,
            voted_for: self.leader_id.voted_for,
            committed: self.committed,
        })
    }

    fn from_proto(message: proto::RaftVote) -> Result<Self, CodecError> {
        let term = bounded("term", message.term)?;
        Ok(if message.committed {
            Vote::new_committed(term, message.voted_for)
        } else {
            Vote::new(term, message.voted_for)
        })
    }
}

impl Wire for Membership {
    type Message = proto::Membership;

    fn to_proto(&self) -> Result<proto::Membership, CodecError> {
        let configs = self.get_joint_config();
        at_most("configurations", configs.len(), MAX_CONFIGS)?;
        at_most("nodes", self.nodes().count(), MAX_NODES)?;
        let voters = |ids: &BTreeSet<u64>| proto::Voters { ids: ids.iter().copied().collect() };
        let mut nodes = BTreeMap::new();
        for (id, node) in self.nodes() {
            nodes.insert(*id, node.to_proto()?);
        }
        Ok(proto::Membership { configs: configs.iter().map(voters).collect(), nodes })
    }

    fn from_proto(message: proto::Membership) -> Result<Self, CodecError> {
        at_most("configurations", message.configs.len(), MAX_CONFIGS)?;
        at_most("nodes", message.nodes.len(), MAX_NODES)?;
        let mut nodes = BTreeMap::new();
        for (id, node) in message.nodes {
            nodes.insert(id, Node::from_proto(node)?);
        }
        let mut configs = Vec::new();
        for config in message.configs {
            at_most("voters", config.ids.len(), MAX_NODES)?;
            let ids: BTreeSet<u64> = config.ids.into_iter().collect();
            if ids.is_empty() {
                return Err(CodecError::NoVoters);
            }
            if let Some(id) = ids.iter().find(|id| !nodes.contains_key(*id)) {
                return Err(CodecError::VoterWithoutNode(*id));
            }
            configs.push(ids);
        }
        Membership::new(configs, nodes).map_err(|_| CodecError::NoVoters)
    }
}

impl Wire for Node {
    type Message = proto::RaftNode;

    fn to_proto(&self) -> Result<proto::RaftNode, CodecError> {
        short("a name", self.name.len(), MAX_TEXT_BYTES)?;
        short("an address", self.peer.len(), MAX_TEXT_BYTES)?;
        short("an address", self.admin.as_ref().map_or(0, String::len), MAX_TEXT_BYTES)?;
        short("a zone", self.zone.as_ref().map_or(0, String::len), MAX_ZONE_BYTES)?;
        Ok(proto::RaftNode {
            name: self.name.clone(),
            peer: self.peer.clone(),
            admin: self.admin.clone(),
            zone: self.zone.clone(),
            priority: self.priority,
            witness: self.witness,
        })
    }

    fn from_proto(message: proto::RaftNode) -> Result<Self, CodecError> {
        short("a name", message.name.len(), MAX_TEXT_BYTES)?;
        short("an address", message.peer.len(), MAX_TEXT_BYTES)?;
        short("an address", message.admin.as_ref().map_or(0, String::len), MAX_TEXT_BYTES)?;
        short("a zone", message.zone.as_ref().map_or(0, String::len), MAX_ZONE_BYTES)?;
        Ok(Node {
            name: message.name,
            peer: message.peer,
            admin: message.admin,
            zone: message.zone,
            priority: message.priority,
            witness: message.witness,
        })
    }
}

impl Wire for Entry {
    type Message = proto::Entry;

    fn to_proto(&self) -> Result<proto::Entry, CodecError> {
        use proto::entry::Payload;
        let payload = match &self.payload {
            EntryPayload::Blank => Payload::Blank(proto::Blank {}),
            EntryPayload::Normal(command) => Payload::Command(command_bytes(command)?),
            EntryPayload::Membership(membership) => Payload::Membership(membership.to_proto()?),
        };
        Ok(proto::Entry { log_id: Some(self.log_id.to_proto()?), payload: Some(payload) })
    }

    fn from_proto(message: proto::Entry) -> Result<Self, CodecError> {
        use proto::entry::Payload;
        let log_id = required("an entry's place", message.log_id)?;
        let payload = match message.payload.ok_or(CodecError::Missing("an entry's payload"))? {
            Payload::Blank(proto::Blank {}) => EntryPayload::Blank,
            Payload::Command(bytes) => {
                short("a command", bytes.len(), MAX_COMMAND_BYTES)?;
                let command = serde_json::from_slice(&bytes).map_err(CodecError::Command)?;
                EntryPayload::Normal(command)
            }
            Payload::Membership(membership) => {
                let membership = Membership::from_proto(membership)?;
                // No configuration at all is worse than an empty one: every set is its quorum.
                if membership.get_joint_config().is_empty() {
                    return Err(CodecError::NoVoters);
                }
                EntryPayload::Membership(membership)
            }
        };
        Ok(Entry { log_id, payload })
    }
}

/// Only a leader sends it, so the vote has to be a leader's: openraft would take an uncommitted one
/// for an established leader.
fn leaders(what: &'static str, vote: Vote) -> Result<Vote, CodecError> {
    if vote.committed { Ok(vote) } else { Err(CodecError::VoteKind { what, found: vote }) }
}

impl Wire for AppendEntriesRequest<TypeConfig> {
    type Message = proto::AppendRequest;

    fn to_proto(&self) -> Result<proto::AppendRequest, CodecError> {
        at_most("entries", self.entries.len(), MAX_ENTRIES)?;
        Ok(proto::AppendRequest {
            envelope: None,
            vote: Some(self.vote.to_proto()?),
            prev_log_id: optional_to(&self.prev_log_id)?,
            entries: self.entries.iter().map(Wire::to_proto).collect::<Result<_, _>>()?,
            leader_commit: optional_to(&self.leader_commit)?,
        })
    }

    fn from_proto(message: proto::AppendRequest) -> Result<Self, CodecError> {
        at_most("entries", message.entries.len(), MAX_ENTRIES)?;
        let vote = leaders("an append", required("an append's vote", message.vote)?)?;
        let prev_log_id: Option<LogId> = optional(message.prev_log_id)?;
        let mut entries: Vec<Entry> = Vec::with_capacity(message.entries.len());
        let mut term = prev_log_id.map_or(0, |id| id.leader_id.term);
        let mut index = prev_log_id.map_or(0, |id| id.index + 1);
        at_most(
            "the commands' values",
            message.entries.iter().map(command_values).sum(),
            MAX_COMMAND_VALUES,
        )?;
        for entry in message.entries {
            let entry = Entry::from_proto(entry)?;
            let id = entry.log_id;
            // Raft paper, section 5.3: a leader's log has no holes and its terms never fall.
            if id.index != index || id.leader_id.term < term {
                return Err(CodecError::NotConsecutive { found: id, expected: index });
            }
            (term, index) = (id.leader_id.term, id.index + 1);
            entries.push(entry);
        }
        if term > vote.leader_id.term {
            return Err(CodecError::TooGreat { what: "term", found: term });
        }
        let leader_commit = optional(message.leader_commit)?;
        Ok(Self { vote, prev_log_id, entries, leader_commit })
    }
}

/// `granted_ms` belongs to the transport: zero on the way out, not looked at on the way in.
impl Wire for AppendEntriesResponse<TypeConfig> {
    type Message = proto::AppendResponse;

    fn to_proto(&self) -> Result<proto::AppendResponse, CodecError> {
        use proto::append_response::Result as Answer;
        let result = match self {
            Self::Success => Answer::Success(proto::Blank {}),
            Self::PartialSuccess(log_id) => {
                Answer::Partial(proto::PartialSuccess { log_id: optional_to(log_id)? })
            }
            Self::Conflict => Answer::Conflict(proto::Blank {}),
            Self::HigherVote(vote) => Answer::HigherVote(vote.to_proto()?),
        };
        Ok(proto::AppendResponse { result: Some(result), granted_ms: 0 })
    }

    fn from_proto(message: proto::AppendResponse) -> Result<Self, CodecError> {
        use proto::append_response::Result as Answer;
        Ok(match message.result.ok_or(CodecError::Missing("an append's result"))? {
            Answer::Success(proto::Blank {}) => Self::Success,
            Answer::Partial(partial) => Self::PartialSuccess(optional(partial.log_id)?),
            Answer::Conflict(proto::Blank {}) => Self::Conflict,
            Answer::HigherVote(vote) => Self::HigherVote(Vote::from_proto(vote)?),
        })
    }
}

/// `ended_term`, here and in the answer, belongs to the transport, as `granted_ms` does.
impl Wire for VoteRequest<TypeConfig> {
    type Message = proto::VoteRequest;

    fn to_proto(&self) -> Result<proto::VoteRequest, CodecError> {
        Ok(proto::VoteRequest {
            envelope: None,
            vote: Some(self.vote.to_proto()?),
            last_log_id: optional_to(&self.last_log_id)?,
            leadership_transfer: self.leadership_transfer,
            ended_term: 0,
        })
    }

    fn from_proto(message: proto::VoteRequest) -> Result<Self, CodecError> {
        let vote: Vote = required("a candidate's vote", message.vote)?;
        // A committed one would be stored as a leader that nobody elected.
        if vote.committed {
            return Err(CodecError::VoteKind { what: "a candidate", found: vote });
        }
        let last_log_id = optional(message.last_log_id)?;
        Ok(Self { vote, last_log_id, leadership_transfer: message.leadership_transfer })
    }
}

impl Wire for VoteResponse<TypeConfig> {
    type Message = proto::VoteResponse;

    fn to_proto(&self) -> Result<proto::VoteResponse, CodecError> {
        Ok(proto::VoteResponse {
            vote: Some(self.vote.to_proto()?),
            granted: self.vote_granted,
            last_log_id: optional_to(&self.last_log_id)?,
            ended_term: 0,
        })
    }

    fn from_proto(message: proto::VoteResponse) -> Result<Self, CodecError> {
        Ok(Self {
            vote: required("a voter's vote", message.vote)?,
            vote_granted: message.granted,
            last_log_id: optional(message.last_log_id)?,
        })
    }
}

/// At least as many as JSON has values: each but the first follows one of these. Counted in place, since three bytes of it
/// can be a text of sixty in memory.
fn values(json: &[u8]) -> usize {
    let (mut count, mut in_text, mut escaped) = (1, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => count += 1,
            _ => {}
        }
    }
    count
}

fn command_values(entry: &proto::Entry) -> usize {
    match &entry.payload {
        Some(proto::entry::Payload::Command(json)) => values(json),
        Some(proto::entry::Payload::Blank(_) | proto::entry::Payload::Membership(_)) | None => 0,
    }
}

/// No longer than applying entries leaves it.
fn kept(ledger: &Ledger) -> Result<(), CodecError> {
    at_most("past moves", ledger.moves.len(), MOVES_KEPT)?;
    at_most("removed members", ledger.removed.len(), REMOVED_KEPT)?;
    at_most("members", ledger.seated.len(), MAX_NODES)?;
    let ids = ledger.moves.iter().map(|m| m.request_ids.len()).max().unwrap_or_default();
    at_most("request ids", ids, REQUEST_IDS_KEPT)
}

/// A whole snapshot, as a leader sends it and as the store keeps it.
#[derive(Clone, PartialEq, Debug)]
pub struct SnapshotPush {
    /// The sender's. `None` where the store keeps it.
    pub vote: Option<Vote>,
    pub meta: SnapshotMeta,
    /// The ledger as JSON.
    pub data: Vec<u8>,
}

impl SnapshotPush {
    /// What a leader sent: it says who leads.
    pub fn from_leader(message: proto::SnapshotRequest) -> Result<(Vote, Self), CodecError> {
        // The store's own is not counted: whatever was applied has to be read again.
        at_most("a ledger's values", values(&message.data), MAX_LEDGER_VALUES)?;
        let push = Self::from_proto(message)?;
        let vote = push.vote.ok_or(CodecError::Missing("a snapshot's vote"))?;
        Ok((leaders("a snapshot", vote)?, push))
    }
}

impl Wire for SnapshotPush {
    type Message = proto::SnapshotRequest;

    fn to_proto(&self) -> Result<proto::SnapshotRequest, CodecError> {
        short("a snapshot", self.data.len(), MAX_SNAPSHOT_BYTES)?;
        let last = &self.meta.last_membership;
        Ok(proto::SnapshotRequest {
            envelope: None,
            vote: optional_to(&self.vote)?,
            last_log_id: optional_to(&self.meta.last_log_id)?,
            membership_log_id: optional_to(last.log_id())?,
            membership: Some(last.membership().to_proto()?),
            data: self.data.clone(),
        })
    }

    fn from_proto(message: proto::SnapshotRequest) -> Result<Self, CodecError> {
        short("a snapshot", message.data.len(), MAX_SNAPSHOT_BYTES)?;
        // Read here, since an install that fails would end the receiving process.
        let ledger: Ledger = serde_json::from_slice(&message.data).map_err(CodecError::Ledger)?;
        kept(&ledger)?;
        let last_log_id: Option<LogId> = optional(message.last_log_id)?;
        let place: Option<LogId> = optional(message.membership_log_id)?;
        let membership: Membership = required("a snapshot's membership", message.membership)?;
        if place.is_some() == membership.get_joint_config().is_empty() || place > last_log_id {
            return Err(CodecError::MembershipPlace);
        }
        let last_membership = StoredMembership::new(place, membership);
        Ok(Self {
            vote: optional(message.vote)?,
            meta: SnapshotMeta { last_log_id, last_membership },
            data: message.data,
        })
    }
}

impl Wire for SnapshotResponse<TypeConfig> {
    type Message = proto::SnapshotResponse;

    fn to_proto(&self) -> Result<proto::SnapshotResponse, CodecError> {
        Ok(proto::SnapshotResponse { vote: Some(self.vote.to_proto()?) })
    }

    fn from_proto(message: proto::SnapshotResponse) -> Result<Self, CodecError> {
        Ok(Self::new(required("a receiver's vote", message.vote)?))
    }
}

impl Wire for TransferLeaderRequest<TypeConfig> {
    type Message = proto::TransferRequest;

    fn to_proto(&self) -> Result<proto::TransferRequest, CodecError> {
        Ok(proto::TransferRequest {
            envelope: None,
            from_leader: Some(self.from_leader().to_proto()?),
            to: *self.to_node_id(),
            last_log_id: self.last_log_id().map(Wire::to_proto).transpose()?,
        })
    }

    fn from_proto(message: proto::TransferRequest) -> Result<Self, CodecError> {
        let from = leaders("a transfer", required("a transfer's vote", message.from_leader)?)?;
        Ok(Self::new(from, message.to, optional(message.last_log_id)?))
    }
}

/// What the target of a transfer answers: it begins, or why not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransferAnswer {
    Accepted,
    Refused(String),
}

impl From<TransferLeaderResponse<TypeConfig>> for TransferAnswer {
    fn from(response: TransferLeaderResponse<TypeConfig>) -> Self {
        match response {
            Ok(()) => Self::Accepted,
            Err(error) => Self::Refused(error.to_string()),
        }
    }
}

impl Wire for TransferAnswer {
    type Message = proto::TransferResponse;

    fn to_proto(&self) -> Result<proto::TransferResponse, CodecError> {
        let refused = match self {
            Self::Accepted => String::new(),
            Self::Refused(reason) => reason.clone(),
        };
        Ok(proto::TransferResponse { refused })
    }

    fn from_proto(message: proto::TransferResponse) -> Result<Self, CodecError> {
        // A reason for people: a line of it is enough.
        short("a reason", message.refused.len(), 4096)?;
        if message.refused.is_empty() {
            return Ok(Self::Accepted);
        }
        Ok(Self::Refused(message.refused))
    }
}

#[cfg(test)]
pub(in crate::raft) mod tests;
