//! Against a member whose answers the test holds back.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http_body_util::Full;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use tonic::codegen::http;
use tower::util::BoxCloneSyncService;

use super::super::Shared;
use super::super::codec::TERMS_AHEAD_MAX;
use super::super::lifeline;
use super::super::links::{CallError, Dial};
use super::super::tests::starting;
use super::super::types::{Entry, LogId};
use super::*;
use crate::ledger::Command;

/// Where the answer to a request goes; dropped, the request was lost.
type Held = oneshot::Sender<proto::AppendResponse>;

/// A network in which nothing arrives before the test says so.
struct HeldBack(mpsc::UnboundedSender<Held>);

impl Dial for HeldBack {
    fn dial(&self, _: &str, _: &str) -> Result<Carrier, CallError> {
        let requests = self.0.clone();
        Ok(BoxCloneSyncService::new(tower::service_fn(move |_| {
            let (tx, rx) = oneshot::channel();
            requests.send(tx).unwrap();
            async move { rx.await.map(framed).map_err(|_| Status::unavailable("lost")) }
        })))
    }

    fn lifeline(
        &self,
        _: &str,
        address: &str,
        _: Vec<u8>,
    ) -> BoxFuture<'static, Result<lifeline::Held, CallError>> {
        let nobody = CallError::Address(address.to_owned());
        Box::pin(async { Err(nobody) })
    }
}

/// As gRPC frames an answer: a flag, a length, the message.
fn framed(answer: proto::AppendResponse) -> http::Response<tonic::body::Body> {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(answer.encoded_len()).unwrap());
    answer.encode(&mut frame).unwrap();
    let response =
        http::Response::builder().header("content-type", "application/grpc").header("grpc-status", "0");
    response.body(tonic::body::Body::new(Full::new(Bytes::from(frame)))).unwrap()
}

struct Leader {
    shared: Arc<Shared>,
    requests: mpsc::UnboundedReceiver<Held>,
    events: mpsc::Receiver<Event>,
    _dir: tempfile::TempDir,
}

const VOTER: Incarnation = Incarnation(7);
const GRANTED_MS: u64 = 300;

fn leader() -> Leader {
    let (requests_tx, requests) = mpsc::unbounded_channel();
    let (events_tx, events) = mpsc::channel(16);
    let (starting, dir) = starting(Arc::new(HeldBack(requests_tx)), events_tx);
    Leader { shared: starting.shared, requests, events, _dir: dir }
}

impl Leader {
    /// Sends an append, as one of openraft's tasks does; each has a network of its own.
    fn sends(&self, entries: Vec<Entry>) -> tokio::task::JoinHandle<bool> {
        let shared = Arc::clone(&self.shared);
        let node = Node { name: "az-b".to_owned(), peer: "10.0.2.10:7400".to_owned(), ..Node::default() };
        let mut network = Network { shared, to: VOTER, node };
        let rpc = AppendEntriesRequest {
            vote: Vote::new_committed(3, 1),
            prev_log_id: None,
            entries,
            leader_commit: None,
        };
        let option = RPCOption::new(Duration::from_secs(10));
        tokio::spawn(async move { network.append_entries(rpc, option).await.is_ok() })
    }
}

fn accepted() -> proto::AppendResponse {
    let result = Some(proto::append_response::Result::Success(proto::Blank {}));
    proto::AppendResponse { result, granted_ms: GRANTED_MS }
}

/// openraft credits the answer to every append in flight up to the same log id, the newest one's send
/// time included.
#[tokio::test]
async fn hole_4_an_old_append_is_acknowledged_while_a_newer_empty_one_is_lost() {
    let mut leader = leader();
    let entry = Entry {
        log_id: LogId::new_term_index(3, 1),
        payload: openraft::EntryPayload::Normal(Command::Resume),
    };
    let old = leader.sends(vec![entry]);
    let old_answer = leader.requests.recv().await.unwrap();
    let between = clock::now();
    while clock::now() <= between {}
    let newer = leader.sends(Vec::new());
    drop(leader.requests.recv().await.unwrap());
    assert!(!newer.await.unwrap(), "it is lost");
    assert!(leader.events.try_recv().is_err(), "what is lost promises nothing");

    old_answer.send(accepted()).unwrap();
    assert!(old.await.unwrap());
    let Ok(Event::Acknowledged { from, term, sent, granted }) = leader.events.try_recv() else {
        panic!("no acknowledgement");
    };
    assert_eq!((from, term, granted), (VOTER, Term(3), Duration::from_millis(GRANTED_MS)));
    assert!(sent <= between, "it counts from {sent:?}, after {between:?}");
    assert!(leader.events.try_recv().is_err(), "one answer, one promise");
}

/// Nobody is bound by an append that it refused.
#[tokio::test]
async fn hole_4_a_refused_append_promises_nothing() {
    let mut leader = leader();
    let higher = proto::RaftVote { term: 9, voted_for: 8, committed: false };
    let refusals = [
        proto::append_response::Result::Conflict(proto::Blank {}),
        proto::append_response::Result::HigherVote(higher),
    ];
    for refusal in refusals {
        let append = leader.sends(Vec::new());
        let answer = proto::AppendResponse { result: Some(refusal), granted_ms: GRANTED_MS };
        leader.requests.recv().await.unwrap().send(answer).unwrap();
        assert!(append.await.unwrap(), "an answer all the same");
        assert!(leader.events.try_recv().is_err());
    }
}

/// An answer of one member's raises the term of the leader, and that of the next one further.
#[tokio::test]
async fn fault_65_no_answer_brings_a_leader_to_a_term_beyond_reach() {
    let mut leader = leader();
    for (term, believed) in [(3 + TERMS_AHEAD_MAX, true), (4 + TERMS_AHEAD_MAX, false), (1 << 48, false)] {
        let append = leader.sends(Vec::new());
        let higher = proto::RaftVote { term, voted_for: 8, committed: false };
        let result = Some(proto::append_response::Result::HigherVote(higher));
        let answer = proto::AppendResponse { result, granted_ms: 0 };
        leader.requests.recv().await.unwrap().send(answer).unwrap();
        assert_eq!(append.await.unwrap(), believed, "term {term}");
    }
}
