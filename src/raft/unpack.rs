//! What a message may be when it is unpacked. Two bytes on the wire can be a field of a hundred in memory, so that a
//! message's length says little: it is looked at before anything is made of it, on every port and in every answer.

use std::any::TypeId;

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use super::codec::MAX_ENTRIES;
use crate::proto;

/// What no list of entries and no ledger is in: a hundred times what an honest one needs.
const SHORT_MAX_BYTES: usize = 64 * 1024;

/// Fields of a message with entries, with those of each entry and of each membership in them: three an entry, and as
/// much again for memberships. In memory each is 200 bytes at most, 5 MiB of them; of a leader's answer 700, 17 MiB.
const FIELDS_MAX: usize = 6 * MAX_ENTRIES;

/// The fields that are looked into, each with those in it.
struct Shape(&'static [(u32, Shape)]);

const MEMBERSHIP: Shape = FLAT;
const ENTRY: Shape = Shape(&[(4, MEMBERSHIP)]);
const APPEND: Shape = Shape(&[(4, ENTRY)]);
const SNAPSHOT: Shape = Shape(&[(5, MEMBERSHIP)]);

/// What a leader answers to an operator by way of a member, down to the last list in it: a picture with its members,
/// routes and move, what came of a transfer, the orders, findings, members.
const ANSWER: Shape = Shape(&[
    (1, Shape(&[(7, FLAT), (8, FLAT), (9, FLAT)])),
    (2, Shape(&[(1, FLAT)])),
    (4, Shape(&[(4, FLAT)])),
    (20, FLAT),
    (40, Shape(&[(1, FLAT), (4, FLAT)])),
]);
const FLAT: Shape = Shape(&[]);

/// Counts down by the fields of a message; `false`: it has more than that.
fn has_at_most(left: &mut usize, mut bytes: &[u8], shape: &Shape) -> Result<bool, DecodeError> {
    while bytes.has_remaining() {
        let Some(less) = left.checked_sub(1) else { return Ok(false) };
        *left = less;
        let (tag, kind) = decode_key(&mut bytes)?;
        let inner = shape.0.iter().find(|(looked_into, _)| *looked_into == tag);
        match inner.filter(|_| kind == WireType::LengthDelimited) {
            Some((_, inner)) => {
                let length = usize::try_from(decode_varint(&mut bytes)?).unwrap_or(usize::MAX);
                // One that is cut off cannot be decoded any further than here.
                let Some((field, rest)) = bytes.split_at_checked(length) else { return Ok(true) };
                if !has_at_most(left, field, inner)? {
                    return Ok(false);
                }
                bytes = rest;
            }
            None => skip_field(kind, tag, &mut bytes, DecodeContext::default())?,
        }
    }
    Ok(true)
}

/// Whether a message of that kind may be unpacked.
pub(super) fn check<T: 'static>(bytes: &[u8]) -> Result<(), Status> {
    let kind = TypeId::of::<T>();
    let shape = if kind == TypeId::of::<proto::AppendRequest>() {
        &APPEND
    } else if kind == TypeId::of::<proto::SnapshotRequest>() {
        &SNAPSHOT
    } else if kind == TypeId::of::<proto::ForwardResponse>() {
        &ANSWER
    } else if is_told_to_persons(kind) || bytes.len() <= SHORT_MAX_BYTES {
        return Ok(());
    } else {
        return Err(Status::out_of_range(format!(
            "a message of {} bytes: one of this kind has {SHORT_MAX_BYTES} at most",
            bytes.len()
        )));
    };
    match has_at_most(&mut FIELDS_MAX.clone(), bytes, shape) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Status::out_of_range(format!("a message of more than {FIELDS_MAX} fields"))),
        Err(error) => Err(Status::invalid_argument(format!("the message cannot be read: {error}"))),
    }
}

/// Answers to operators, in their own `vipctl`: pictures of the whole group, past moves. The operators' own requests have their bound in `rpc/admin.rs`.
fn is_told_to_persons(kind: TypeId) -> bool {
    [
        TypeId::of::<proto::Status>(),
        TypeId::of::<proto::TransferLeaderResponse>(),
        TypeId::of::<proto::StandingOrders>(),
        TypeId::of::<proto::Members>(),
        TypeId::of::<proto::History>(),
        TypeId::of::<proto::Diagnosis>(),
        TypeId::of::<proto::IamPolicies>(),
    ]
    .contains(&kind)
}

/// The codec of every service, by `build.rs`.
#[derive(Debug)]
pub struct Bounded<T, U>(ProstCodec<T, U>);

impl<T, U> Default for Bounded<T, U> {
    fn default() -> Self {
        Self(ProstCodec::default())
    }
}

impl<T: Message + 'static, U: Message + Default + 'static> Codec for Bounded<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        self.0.encoder()
    }

    fn decoder(&mut self) -> BoundedDecoder<U> {
        BoundedDecoder(self.0.decoder())
    }
}

/// Decodes what may be unpacked.
#[derive(Debug)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default + 'static> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // tonic hands over a message in one piece.
        if from.chunk().len() != from.remaining() {
            return Err(Status::internal("a message in pieces"));
        }
        check::<U>(from.chunk())?;
        self.0.decode(from)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost_types::field_descriptor_proto::{Label, Type};
    use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

    use super::*;

    fn told<T: Message + 'static>(message: &T) -> Result<(), Status> {
        check::<T>(&message.encode_to_vec())
    }

    #[test]
    fn fault_66_two_bytes_a_field_are_refused_before_they_are_unpacked() {
        for bytes in [[0x22, 0], [0x08, 0], [0x2a, 0]].map(|field| field.repeat(2 << 20)) {
            assert!(check::<proto::AppendRequest>(&bytes).is_err(), "{:x?}", &bytes[..2]);
            assert!(check::<proto::SnapshotRequest>(&bytes).is_err(), "{:x?}", &bytes[..2]);
            assert!(check::<proto::ForwardResponse>(&bytes).is_err(), "{:x?}", &bytes[..2]);
            assert!(check::<proto::ReportRequest>(&bytes).is_err(), "{:x?}", &bytes[..2]);
        }
        let configs =
            proto::Membership { configs: vec![proto::Voters::default(); 1 << 20], ..Default::default() };
        let payload = Some(proto::entry::Payload::Membership(configs.clone()));
        let entries = vec![proto::Entry { log_id: None, payload }];
        assert!(told(&proto::AppendRequest { entries, ..Default::default() }).is_err());
        assert!(told(&proto::SnapshotRequest { membership: Some(configs), ..Default::default() }).is_err());
        let status = proto::Status { members: vec![proto::Member::default(); 1 << 20], ..Default::default() };
        let member = proto::Member { rights: vec![proto::Right::default(); 1 << 20], ..Default::default() };
        let vip = proto::VipRoutes { routes: vec![proto::Route::default(); 1 << 20], ..Default::default() };
        let last_move = proto::Move { request_ids: vec![String::new(); 1 << 20], ..Default::default() };
        let of_members = proto::Status { members: vec![member.clone()], ..Default::default() };
        let of_vips = proto::Status { vips: vec![vip], ..Default::default() };
        let of_move = proto::Status { last_move: Some(last_move.clone()), ..Default::default() };
        let orders = proto::StandingOrders { last_move: Some(last_move.clone()), ..Default::default() };
        let transfer = proto::TransferLeaderResponse { last_move: Some(last_move), ..Default::default() };
        let findings = vec![proto::Finding::default(); 1 << 20];
        use proto::forward_response::Answer;
        let answers = [
            Answer::Status(status),
            Answer::Status(of_members),
            Answer::Status(of_vips),
            Answer::Status(of_move),
            Answer::Orders(orders),
            Answer::Transfer(transfer),
            Answer::Findings(proto::Findings { findings, ..Default::default() }),
            Answer::Members(proto::Members { members: vec![member], ..Default::default() }),
        ];
        for (n, answer) in answers.into_iter().enumerate() {
            assert!(told(&proto::ForwardResponse { answer: Some(answer) }).is_err(), "answer {n}");
        }
    }

    /// Every message, by its whole name.
    struct Kinds(BTreeMap<String, DescriptorProto>);

    impl Kinds {
        fn add(&mut self, within: &str, kind: DescriptorProto) {
            let name = format!("{within}.{}", kind.name());
            kind.nested_type.iter().for_each(|inner| self.add(&name, inner.clone()));
            self.0.insert(name, kind);
        }

        /// Whether a message has a list in it, or one that has. An id of eight bytes is as long in memory.
        fn has_list(&self, name: &str) -> bool {
            let is_one =
                |f: &FieldDescriptorProto| f.label() == Label::Repeated && f.r#type() != Type::Fixed64;
            self.0[name].field.iter().any(|f| is_one(f) || self.leads_to_list(f))
        }

        fn leads_to_list(&self, field: &FieldDescriptorProto) -> bool {
            field.r#type() == Type::Message && self.has_list(field.type_name())
        }

        fn is_held(&self, name: &str, shape: &Shape) {
            let fields = &self.0[name].field;
            for field in fields {
                let inner = shape.0.iter().find(|(tag, _)| i32::try_from(*tag) == Ok(field.number()));
                let has_list = self.leads_to_list(field);
                assert_eq!(
                    inner.is_some(),
                    has_list,
                    "{name}.{} is to be looked into: {has_list}",
                    field.name()
                );
                // Numbers are packed, into one field.
                let long =
                    [Type::Fixed64, Type::String, Type::Message, Type::Bytes].contains(&field.r#type());
                let counts = field.label() != Label::Repeated || long;
                assert!(counts, "{name}.{} may be a byte on the wire and eight in memory", field.name());
                inner.into_iter().for_each(|(_, inner)| self.is_held(field.type_name(), inner));
            }
            let known = |tag: &u32| fields.iter().any(|f| i32::try_from(*tag) == Ok(f.number()));
            assert!(shape.0.iter().all(|(tag, _)| known(tag)), "{name} has no such field");
        }
    }

    #[test]
    fn fault_66_every_list_of_a_long_message_is_looked_into() {
        let mut kinds = Kinds(BTreeMap::new());
        for file in FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap().file {
            let package = format!(".{}", file.package());
            file.message_type.into_iter().for_each(|kind| kinds.add(&package, kind));
        }
        let long = [("AppendRequest", &APPEND), ("SnapshotRequest", &SNAPSHOT), ("ForwardResponse", &ANSWER)];
        for (name, shape) in long {
            assert!(kinds.has_list(&format!(".vipd.v1.{name}")), "{name}");
            kinds.is_held(&format!(".vipd.v1.{name}"), shape);
        }
    }

    #[test]
    fn what_an_honest_one_says_at_most_passes() {
        let log_id = Some(proto::LogId { term: 1 << 40, index: 1 << 40 });
        let payload = Some(proto::entry::Payload::Command(vec![0x22; 200]));
        let entry = proto::Entry { log_id, payload };
        let mut entries = vec![entry; MAX_ENTRIES];
        let node = |id| (id, proto::RaftNode { name: format!("az-{id}"), ..Default::default() });
        let nodes = (0..64).map(node).collect();
        let configs = vec![proto::Voters { ids: (0..64).collect() }; 2];
        let membership = proto::Membership { configs, nodes };
        let payload = Some(proto::entry::Payload::Membership(membership.clone()));
        entries.truncate(MAX_ENTRIES - 100);
        entries.extend(vec![proto::Entry { log_id, payload }; 100]);
        told(&proto::AppendRequest { entries, leader_commit: log_id, ..Default::default() }).unwrap();
        let data = b"\"\"".repeat(1 << 20);
        told(&proto::SnapshotRequest { membership: Some(membership), data, ..Default::default() }).unwrap();
        let members = vec!["x".repeat(1000); 66];
        let long = proto::FormRequest { members: members.clone(), ..Default::default() };
        assert_eq!(told(&long).unwrap_err().code(), tonic::Code::OutOfRange);
        told(&proto::FormRequest { members: members[..64].to_vec(), ..Default::default() }).unwrap();
        assert!(check::<proto::AppendRequest>(&[0x22, 5, 0]).is_ok(), "prost says why it cannot be read");
    }
}
