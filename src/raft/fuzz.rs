//! The fuzz targets' way in (`crate::fuzz`): what came over a wire, through the decoder and the
//! codec to values, and back.

#![allow(clippy::expect_used, reason = "a target is to panic where what was taken cannot be told on")]

use std::fmt::Debug;

use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};
use prost::Message;

use super::codec::{SnapshotPush, TransferAnswer, Wire};
use super::form::Founding;
use super::reports::Reports;
use super::types::TypeConfig;
use super::unpack;
use crate::ledger::Ledger;
use crate::model::{GroupId, Name};
use crate::proto;

/// What the rest of vipd has to understand of a peer's message.
pub enum Said {
    Report(proto::Member),
    Forward(proto::forward_request::Verb),
}

/// One message of the peer port, or one answer to it.
pub fn peer(data: &[u8]) -> Option<Said> {
    let (which, bytes) = data.split_first()?;
    match which % 18 {
        0 => drop(wire::<AppendEntriesRequest<TypeConfig>>(bytes)),
        1 => drop(wire::<AppendEntriesResponse<TypeConfig>>(bytes)),
        2 => drop(wire::<VoteRequest<TypeConfig>>(bytes)),
        3 => drop(wire::<VoteResponse<TypeConfig>>(bytes)),
        4 => drop(taken::<proto::SnapshotRequest>(bytes).map(SnapshotPush::from_leader)),
        5 => drop(wire::<SnapshotResponse<TypeConfig>>(bytes)),
        6 => drop(wire::<TransferLeaderRequest<TypeConfig>>(bytes)),
        7 => drop(wire::<TransferAnswer>(bytes)),
        8 => {
            let hello = taken::<proto::HelloRequest>(bytes)?;
            drop(hello.cluster.parse::<Name>());
        }
        9 => group(&taken::<proto::HelloResponse>(bytes)?.group),
        10 => group(&taken::<proto::FormRequest>(bytes)?.group),
        11 => group(&taken::<proto::JoinRequest>(bytes)?.group),
        12 => drop(taken::<proto::JoinResponse>(bytes)),
        13 => {
            let report = taken::<proto::ReportRequest>(bytes)?;
            group(&report.envelope?.group);
            let member = report.member?;
            let reports = Reports::default();
            reports.exchange(member.clone()).ok()?;
            return Some(Said::Report(member));
        }
        14 => return taken::<proto::ForwardRequest>(bytes)?.verb.map(Said::Forward),
        15 => {
            let greeting = taken::<proto::LifelineGreeting>(bytes)?;
            group(&greeting.envelope?.group);
        }
        16 => {
            let answer = taken::<proto::ReportResponse>(bytes)?;
            answer.members.iter().for_each(|name| drop(name.parse::<Name>()));
            return answer.member.map(Said::Report);
        }
        17 => drop(taken::<proto::ForwardResponse>(bytes)),
        _ => {}
    }
    None
}

/// As the port's codec takes it.
fn taken<M: Message + Default + 'static>(bytes: &[u8]) -> Option<M> {
    unpack::check::<M>(bytes).ok()?;
    M::decode(bytes).ok()
}

fn group(bytes: &[u8]) {
    if let Some(id) = GroupId::from_bytes(bytes) {
        assert_eq!(id.to_bytes(), bytes);
    }
}

/// What passes the codec can be told on, and is the same there.
fn wire<T>(bytes: &[u8]) -> Option<T>
where
    T: Wire + Debug,
    T::Message: Message + Default + 'static,
{
    let value = T::from_proto(taken(bytes)?).ok()?;
    let message = value.to_proto().expect("what was taken can be sent").encode_to_vec();
    let message = T::Message::decode(message.as_slice()).expect("what was sent can be decoded");
    let again = T::from_proto(message).expect("what was sent is taken");
    assert_eq!(format!("{again:?}"), format!("{value:?}"));
    Some(value)
}

/// The ledger after the entries of an append.
pub fn log(data: &[u8]) -> Ledger {
    let mut ledger = Ledger::default();
    let Some(append) = wire::<AppendEntriesRequest<TypeConfig>>(data) else { return ledger };
    for entry in append.entries {
        if let EntryPayload::Normal(command) = entry.payload {
            drop(command.to_string());
            ledger.apply(entry.log_id.index, entry.log_id.leader_id.term, &command);
        }
    }
    survives(&ledger);
    ledger
}

/// The ledger of a snapshot: the first byte says whether a leader sent it or the store kept it.
/// Other values: what a founder keeps.
pub fn snapshot(data: &[u8]) -> Ledger {
    let Some((which, bytes)) = data.split_first() else { return Ledger::default() };
    let push = match which % 3 {
        0 => {
            let message = proto::SnapshotRequest::decode(bytes).ok();
            message.and_then(|m| SnapshotPush::from_leader(m).ok()).map(|(_, push)| push)
        }
        1 => wire::<SnapshotPush>(bytes),
        _ => {
            drop(serde_json::from_slice::<Founding>(bytes));
            None
        }
    };
    let Some(push) = push else { return Ledger::default() };
    let ledger = serde_json::from_slice(&push.data).expect("from_proto has read it");
    survives(&ledger);
    ledger
}

fn survives(ledger: &Ledger) {
    let bytes = serde_json::to_vec(ledger).expect("a ledger can be written");
    assert_eq!(&serde_json::from_slice::<Ledger>(&bytes).expect("and read"), ledger);
}

#[cfg(test)]
pub(crate) use seeds::seeds;

#[cfg(test)]
mod seeds;
