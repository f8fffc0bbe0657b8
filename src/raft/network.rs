//! openraft's calls to the other members, by gRPC. Each append is stamped where it leaves, and its
//! own answer alone credits that moment (FENCING.md, hole 4).

use std::future::Future;
use std::sync::Arc;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::Shared;
use super::codec::{SnapshotPush, TransferAnswer, Wire, in_reach};
use super::links::Carrier;
use super::types::{Node, Snapshot, TypeConfig, Vote};
use crate::clock;
use crate::decide::Event;
use crate::model::{Incarnation, Term};
use crate::mutant::{self, Mutant};
use crate::proto;

/// Makes a [`Network`] for each member.
pub(super) struct Factory(pub(super) Arc<Shared>);

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &Node) -> Network {
        Network { shared: Arc::clone(&self.0), to: Incarnation(target), node: node.clone() }
    }
}

/// The way to one incarnation of one member.
pub(super) struct Network {
    shared: Arc<Shared>,
    to: Incarnation,
    node: Node,
}

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

fn unreachable(error: impl ToString) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(error))
}

/// The vote in an answer: openraft adopts a newer one, whoever says it.
fn believed(mine: &Vote, theirs: &Vote) -> Rpc<()> {
    let (own, term) = (mine.leader_id.term, theirs.leader_id.term);
    if in_reach(own, term) {
        Ok(())
    } else {
        Err(unreachable(format!("it answers with term {term} to {own}")))
    }
}

impl Network {
    fn envelope(&self) -> Option<proto::Envelope> {
        Some(self.shared.envelope(self.to))
    }

    /// A candidate votes for itself: while it is bound to a leader it asks for no vote, unless it has
    /// seen that leader's end or was asked by it.
    fn asks(&self, rpc: &VoteRequest<TypeConfig>, pre_vote: bool) -> Rpc<proto::VoteRequest> {
        let promise = self.shared.promise();
        let now = clock::now();
        if !rpc.leadership_transfer && !promise.may_ask(now) {
            return Err(unreachable("this member is bound to its leader"));
        }
        let ended_term = promise.end(now).0;
        drop(promise);
        self.shared.campaigned(pre_vote);
        let request = rpc.to_proto().map_err(unreachable)?;
        Ok(proto::VoteRequest { envelope: self.envelope(), ended_term, ..request })
    }

    /// A vote that is granted counts only if this member may vote for itself together with that voter.
    fn counts(&self, rpc: &VoteRequest<TypeConfig>, answer: &proto::VoteResponse) -> Rpc<()> {
        let may = self.shared.promise().may_vote(clock::now(), Term(answer.ended_term));
        if answer.granted && !rpc.leadership_transfer && !may {
            return Err(unreachable("the voter has not seen the leader's end"));
        }
        Ok(())
    }

    /// `openraft` gives each call a time; the answer is worth nothing after it.
    async fn call<T, F, Fut>(&self, option: &RPCOption, call: F) -> Rpc<T>
    where
        F: FnOnce(proto::peer_client::PeerClient<Carrier>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send,
    {
        let Node { name, peer, .. } = &self.node;
        self.shared.links.call(name, peer, option.hard_ttl(), call).await.map_err(unreachable)
    }
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let (vote, term) = (rpc.vote, Term(rpc.vote.leader_id.term));
        let mut request = rpc.to_proto().map_err(unreachable)?;
        request.envelope = self.envelope();
        let sent = clock::now();
        fault!(wait "peer.append.send", error(e) => return Err(unreachable(e)));
        let response = self.call(&option, |mut c| async move { c.append(request).await }).await?;
        fault!(wait "peer.append.answer", error(e) => return Err(unreachable(e)));
        let sent = if mutant::on(Mutant::SendTime) { clock::now() } else { sent };
        let granted = match response.granted_ms {
            0 => 0,
            _ if mutant::on(Mutant::GrantedLength) => self.shared.lease_ms,
            ms => ms,
        };
        let granted = std::time::Duration::from_millis(granted);
        let response = AppendEntriesResponse::from_proto(response).map_err(unreachable)?;
        if let AppendEntriesResponse::HigherVote(theirs) = &response {
            believed(&vote, theirs)?;
        }
        if matches!(response, AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_)) {
            self.shared.answered(self.to);
            // A full queue loses an acknowledgement: the lease only gets shorter by it.
            let _ = self.shared.events.try_send(Event::Acknowledged { from: self.to, term, sent, granted });
        }
        Ok(response)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        // Saved by now: what comes of an earlier leader is acknowledged no more.
        self.shared.promise().vote(Term(rpc.vote.leader_id.term));
        let request = self.asks(&rpc, false)?;
        fault!(wait "peer.vote.send", error(e) => return Err(unreachable(e)));
        let response = self.call(&option, |mut c| async move { c.vote(request).await }).await?;
        fault!(wait "peer.vote.answer", error(e) => return Err(unreachable(e)));
        self.counts(&rpc, &response)?;
        let response = VoteResponse::from_proto(response).map_err(unreachable)?;
        believed(&rpc.vote, &response.vote)?;
        Ok(response)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let request = self.asks(&rpc, true)?;
        fault!(wait "peer.pre-vote.send", error(e) => return Err(unreachable(e)));
        let response = self.call(&option, |mut c| async move { c.pre_vote(request).await }).await?;
        self.counts(&rpc, &response)?;
        let response = VoteResponse::from_proto(response).map_err(unreachable)?;
        believed(&rpc.vote, &response.vote)?;
        Ok(response)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let failed = |e: String| StreamingError::Unreachable(Unreachable::from_string(e));
        let push = SnapshotPush { vote: Some(vote), meta: snapshot.meta, data: snapshot.snapshot };
        let mut request = push.to_proto().map_err(|e| failed(e.to_string()))?;
        request.envelope = self.envelope();
        fault!(wait "peer.snapshot.send", error(e) => return Err(failed(e.to_string())));
        let call = self.call(&option, |mut c| async move { c.snapshot(request).await });
        let response = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            response = call => response.map_err(|e| failed(e.to_string()))?,
        };
        let response = SnapshotResponse::from_proto(response).map_err(|e| failed(e.to_string()))?;
        believed(&vote, &response.vote).map_err(|e| failed(e.to_string()))?;
        Ok(response)
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let mut request = rpc.to_proto().map_err(unreachable)?;
        request.envelope = self.envelope();
        fault!(wait "peer.transfer.send", error(e) => return Err(unreachable(e)));
        let response = self.call(&option, |mut c| async move { c.transfer(request).await }).await?;
        match TransferAnswer::from_proto(response).map_err(unreachable)? {
            TransferAnswer::Accepted => Ok(Ok(())),
            TransferAnswer::Refused(why) => Err(unreachable(why)),
        }
    }

    /// A member that does not answer is asked again after so long; heartbeats have their own clock.
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(std::time::Duration::from_millis(50))))
    }
}

#[cfg(test)]
mod tests;
