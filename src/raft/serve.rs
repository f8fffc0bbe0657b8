//! The peer port: what other members may ask. Who speaks to whom is checked before Raft sees
//! anything (FENCING.md, hole 9); a member in quarantine lends its vote to nobody (hole 2).

use std::sync::Arc;

use tonic::{Request, Response, Status};

use openraft::async_runtime::WatchReceiver as _;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use super::codec::{SnapshotPush, TransferAnswer, Wire, in_reach};
use super::types::{Raft, Snapshot, Vote};
use super::{Passed, Shared, Who};
use crate::clock;
use crate::decide::Hearing;
use crate::model::{GroupId, Incarnation, Name, Term};
use crate::mutant::{self, Mutant};
use crate::proto;
use crate::proto::peer_server::Peer;
use crate::tls::{Role, Speaker};

type Answer<T> = Result<Response<T>, Status>;

/// The longest name of who asks that is taken over: a URI with two names of 63 letters is shorter.
const WHO_MAX: usize = 200;

/// Serves the peer port of one member.
#[derive(Clone)]
pub struct PeerService(pub(super) Arc<Shared>);

fn refused(why: impl Into<String>) -> Status {
    Status::failed_precondition(why)
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

fn garbled(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("the message cannot be read: {error}"))
}

/// A request, and who speaks, as the port's guard found out. Without a guard nobody does.
fn open<T>(request: Request<T>) -> Result<(Speaker, T), Status> {
    let speaker = request.extensions().get::<Speaker>().cloned();
    let speaker = speaker.ok_or_else(|| Status::unauthenticated("who speaks is not known"))?;
    Ok((speaker, request.into_inner()))
}

impl Shared {
    /// The name in a message must be the one in the certificate. What is no name is not repeated to anybody.
    fn is_named(&self, speaker: &Speaker, name: &str) -> Result<(), Status> {
        match (speaker, name.parse::<Name>()) {
            (Speaker::Unproven, _) => Ok(()),
            (Speaker::Proven(identity), Ok(name))
                if identity.role == Role::Member && identity.name == name =>
            {
                Ok(())
            }
            (Speaker::Proven(_) | Speaker::Local { .. }, Ok(name)) => {
                self.refusals.tell(speaker, format_args!("a message says that it is of {name}: refused"));
                Err(Status::permission_denied(format!(
                    "the message says that it is of {name}, and comes from {speaker}"
                )))
            }
            (Speaker::Proven(_) | Speaker::Local { .. }, Err(_)) => {
                let words = "that it is of what is no name";
                self.refusals.tell(speaker, format_args!("a message says {words}: refused"));
                Err(Status::invalid_argument(format!("the message says {words}")))
            }
        }
    }

    /// The cluster that a message means must be this member's.
    fn is_ours(&self, cluster: &str) -> Result<(), Status> {
        match cluster.parse::<Name>() {
            Ok(meant) if meant == self.cluster => Ok(()),
            Ok(meant) => Err(refused(format!("this member is of cluster {}, not {meant}", self.cluster))),
            Err(_) => Err(refused(format!(
                "this member is of cluster {}, and the message names none",
                self.cluster
            ))),
        }
    }

    /// Whether the sender of a message is whom the certificate names. An incarnation that this member does
    /// not know yet, since it is new or this member behind, must be of a member that it knows.
    pub(super) fn is_sender(&self, speaker: &Speaker, from: Incarnation) -> Result<(), Status> {
        match (self.name_of(from), speaker) {
            (Some(name), _) => self.is_named(speaker, &name),
            (None, Speaker::Proven(identity)) if self.knows(&identity.name) => {
                self.is_named(speaker, identity.name.as_str())
            }
            (None, Speaker::Unproven) => Ok(()),
            (None, Speaker::Proven(_) | Speaker::Local { .. }) => {
                Err(Status::permission_denied(format!("{speaker} is no member of this group")))
            }
        }
    }

    /// The cluster, the group and this incarnation must be those that the sender means. Gives the sender's.
    fn is_meant(&self, envelope: Option<&proto::Envelope>) -> Result<Incarnation, Status> {
        let envelope = envelope.ok_or_else(|| refused("the message has no envelope"))?;
        let s = self;
        s.is_ours(&envelope.cluster)?;
        let group = GroupId::from_bytes(&envelope.group);
        if group.is_none() || group != s.store.group() {
            return Err(refused("this member is of another group, or of none yet"));
        }
        if Incarnation(envelope.to) != s.me && !mutant::on(Mutant::TargetIncarnation) {
            return Err(refused(format!("this data directory is {}, not {:016x}", s.me, envelope.to)));
        }
        Ok(Incarnation(envelope.from))
    }

    /// Both incarnations must fit, and the sender be who it says; then Raft, once it runs.
    pub(super) fn admit(
        &self,
        speaker: &Speaker,
        envelope: Option<&proto::Envelope>,
    ) -> Result<&Raft, Status> {
        let from = self.is_meant(envelope)?;
        self.is_sender(speaker, from)?;
        self.raft.get().ok_or_else(|| Status::unavailable("this member has not started its Raft yet"))
    }
}

impl PeerService {
    fn admit(&self, speaker: &Speaker, envelope: Option<&proto::Envelope>) -> Result<&Raft, Status> {
        self.0.admit(speaker, envelope)
    }

    /// As [`admit`](Self::admit), and the leader or candidate in whose name it is must be its sender.
    fn admit_from(
        &self,
        speaker: &Speaker,
        envelope: Option<&proto::Envelope>,
        vote: Option<&proto::RaftVote>,
    ) -> Result<&Raft, Status> {
        let raft = self.admit(speaker, envelope)?;
        if let (Some(envelope), Some(vote)) = (envelope, vote)
            && envelope.from != vote.voted_for
        {
            let (from, named) = (Incarnation(envelope.from), Incarnation(vote.voted_for));
            return Err(refused(format!("{from} speaks in the name of {named}")));
        }
        let own = raft.server_metrics().borrow_watched().vote.leader_id.term;
        if let Some(vote) = vote.filter(|vote| !in_reach(own, vote.term)) {
            let words =
                format!("no group in term {own} comes to term {} from one message to the next", vote.term);
            return Err(Status::invalid_argument(words));
        }
        Ok(raft)
    }

    /// Whether a vote may be asked of this member at all: not in quarantine, and not while its own
    /// permit is open. Before a transfer the permit is closed.
    fn may_vote(&self) -> Result<(), Status> {
        let now = clock::now();
        if now < self.0.quarantine_until() && !mutant::on(Mutant::QuarantineVote) {
            return Err(Status::unavailable("in quarantine after a start: no vote yet"));
        }
        if self.0.removed_at().is_some() {
            return Err(Status::failed_precondition("the group has removed this member: no vote"));
        }
        let leads = !mutant::on(Mutant::VoteWhileLeading)
            && self.0.gate.current().is_some_and(|p| now < p.deadline());
        if leads {
            return Err(Status::unavailable("this member leads and its lease is valid"));
        }
        Ok(())
    }

    /// Not while it is bound to a leader; that leader's own word, which comes with the request, sets free.
    fn is_free(&self, ended_term: u64, leadership_transfer: bool) -> bool {
        leadership_transfer || self.0.promise().may_vote(clock::now(), Term(ended_term))
    }

    fn with_end(&self, answer: proto::VoteResponse) -> proto::VoteResponse {
        proto::VoteResponse { ended_term: self.0.promise().end(clock::now()).0, ..answer }
    }

    /// Whether anything of that leader is heard: not for a while after its lifeline has ended.
    fn hears(&self, vote: &Vote) -> Result<(), Status> {
        let term = Term(vote.leader_id.term);
        let hearing = self.0.promise().hear(term, clock::now());
        match hearing {
            Hearing::Heard => Ok(()),
            Hearing::Ended => Err(Status::unavailable(format!("the leader of term {term} has ended"))),
            Hearing::Lives => {
                self.0.was_wrong(term);
                Ok(())
            }
        }
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn hello(&self, request: Request<proto::HelloRequest>) -> Answer<proto::HelloResponse> {
        let (speaker, hello) = open(request)?;
        self.0.is_ours(&hello.cluster)?;
        self.0.is_named(&speaker, &hello.member)?;
        Ok(Response::new(self.0.hello()))
    }

    async fn form(&self, request: Request<proto::FormRequest>) -> Answer<proto::FormResponse> {
        let (speaker, request) = open(request)?;
        self.0.is_named(&speaker, &request.from)?;
        fault!(wait "serve.form", error(e) => return Err(internal(e)));
        self.0.form(&request).await.map_err(|e| refused(e.to_string()))?;
        Ok(Response::new(proto::FormResponse {}))
    }

    async fn join(&self, request: Request<proto::JoinRequest>) -> Answer<proto::JoinResponse> {
        let (speaker, request) = open(request)?;
        self.0.is_named(&speaker, &request.member)?;
        fault!(wait "serve.join", error(e) => return Err(internal(e)));
        let answer = super::join::admit(&self.0, request).await;
        let (taken_in, reason) = match answer {
            Ok(()) => (true, String::new()),
            Err(e) => (false, e.to_string()),
        };
        Ok(Response::new(proto::JoinResponse { taken_in, reason }))
    }

    async fn append(&self, request: Request<proto::AppendRequest>) -> Answer<proto::AppendResponse> {
        let (speaker, request) = open(request)?;
        let raft = self.admit_from(&speaker, request.envelope.as_ref(), request.vote.as_ref())?;
        let rpc = AppendEntriesRequest::from_proto(request).map_err(garbled)?;
        self.hears(&rpc.vote)?;
        // What is granted counts from when the append left, which was before.
        let (came, term) = (clock::now(), Term(rpc.vote.leader_id.term));
        fault!(wait "serve.append", error(e) => return Err(internal(e)));
        let response = raft.append_entries(rpc).await.map_err(internal)?;
        fault!(wait "serve.append.answer", error(e) => return Err(internal(e)));
        let accepted =
            matches!(response, AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_));
        if accepted {
            let until = came + std::time::Duration::from_millis(self.0.lease_ms);
            if !self.0.promise().acknowledge(term, until) {
                return Err(Status::unavailable(format!("no longer bound to the leader of term {term}")));
            }
            self.0.heard();
        }
        let mut answer = response.to_proto().map_err(internal)?;
        answer.granted_ms = if accepted { self.0.lease_ms } else { 0 };
        Ok(Response::new(answer))
    }

    async fn vote(&self, request: Request<proto::VoteRequest>) -> Answer<proto::VoteResponse> {
        let (speaker, request) = open(request)?;
        let raft = self.admit_from(&speaker, request.envelope.as_ref(), request.vote.as_ref())?;
        self.may_vote()?;
        let ended = request.ended_term;
        let rpc = VoteRequest::from_proto(request).map_err(garbled)?;
        let transfer = rpc.leadership_transfer;
        fault!(wait "serve.vote", error(e) => return Err(internal(e)));
        let mut response = if self.is_free(ended, transfer) {
            raft.vote(rpc).await.map_err(internal)?
        } else {
            // openraft's own lease may be off (docs/decisions/0020): it is not asked.
            let last = raft.data_metrics().borrow_watched().last_log;
            VoteResponse::new(raft.server_metrics().borrow_watched().vote, last, false)
        };
        fault!(wait "serve.voted", error(e) => return Err(internal(e)));
        if response.vote_granted {
            let term = Term(response.vote.leader_id.term);
            self.0.gate.voted(term);
            self.0.promise().vote(term);
            // An append may have been acknowledged while the vote was on its way through openraft.
            response.vote_granted = self.is_free(ended, transfer);
        }
        Ok(Response::new(self.with_end(response.to_proto().map_err(internal)?)))
    }

    async fn pre_vote(&self, request: Request<proto::VoteRequest>) -> Answer<proto::VoteResponse> {
        let (speaker, request) = open(request)?;
        let raft = self.admit_from(&speaker, request.envelope.as_ref(), request.vote.as_ref())?;
        self.may_vote()?;
        let ended = request.ended_term;
        let rpc = VoteRequest::from_proto(request).map_err(garbled)?;
        let transfer = rpc.leadership_transfer;
        fault!(wait "serve.pre-vote", error(e) => return Err(internal(e)));
        let mut response = raft.pre_vote(rpc).await.map_err(internal)?;
        response.vote_granted &= self.is_free(ended, transfer);
        response.vote_granted |= mutant::on(Mutant::PreVote);
        Ok(Response::new(self.with_end(response.to_proto().map_err(internal)?)))
    }

    async fn snapshot(&self, request: Request<proto::SnapshotRequest>) -> Answer<proto::SnapshotResponse> {
        let (speaker, request) = open(request)?;
        let raft = self.admit_from(&speaker, request.envelope.as_ref(), request.vote.as_ref())?;
        let (vote, push) = SnapshotPush::from_leader(request).map_err(garbled)?;
        self.hears(&vote)?;
        let snapshot = Snapshot { meta: push.meta, snapshot: push.data };
        fault!(wait "serve.snapshot", error(e) => return Err(internal(e)));
        let response = raft.install_full_snapshot(vote, snapshot).await.map_err(internal)?;
        Ok(Response::new(response.to_proto().map_err(internal)?))
    }

    async fn transfer(&self, request: Request<proto::TransferRequest>) -> Answer<proto::TransferResponse> {
        let (speaker, request) = open(request)?;
        let raft = self.admit_from(&speaker, request.envelope.as_ref(), request.from_leader.as_ref())?;
        if clock::now() < self.0.quarantine_until() {
            return Err(Status::unavailable("in quarantine after a start: no transfer yet"));
        }
        if self.0.removed_at().is_some() {
            return Err(Status::failed_precondition("the group has removed this member: no transfer"));
        }
        let rpc = TransferLeaderRequest::from_proto(request).map_err(garbled)?;
        fault!(wait "serve.transfer", error(e) => return Err(internal(e)));
        self.0.promise().free(Term(rpc.from_leader().leader_id.term));
        let answer = raft.handle_transfer_leader(rpc).await.map_err(internal)?;
        Ok(Response::new(TransferAnswer::from(answer).to_proto().map_err(internal)?))
    }

    async fn report(&self, request: Request<proto::ReportRequest>) -> Answer<proto::ReportResponse> {
        let (speaker, request) = open(request)?;
        let from = self.0.is_meant(request.envelope.as_ref())?;
        let member = request.member.ok_or_else(|| garbled("no report in it"))?;
        self.0.is_named(&speaker, &member.name)?;
        // Whoever was removed may be in no file and no membership any more: it is told that, and nothing else.
        if let Some(at) = self.0.is_without(from, request.membership) {
            let told = proto::ReportResponse { removed_at: Some(at), ..Default::default() };
            return Ok(Response::new(told));
        }
        self.admit(&speaker, request.envelope.as_ref())?;
        if self.0.nodes().get(&from).is_none_or(|node| node.name != member.name) {
            return Err(refused(format!("{from} is not {} in this group", member.name)));
        }
        fault!(wait "serve.report", error(e) => return Err(internal(e)));
        let mine = self.0.reports.exchange(member).map_err(|error| {
            self.0.refusals.tell(&speaker, format_args!("refused: {error}"));
            Status::invalid_argument(error.to_string())
        })?;
        let (membership, members) = self.0.roster();
        let answer = proto::ReportResponse { member: Some(mine), removed_at: None, membership, members };
        Ok(Response::new(answer))
    }

    async fn forward(&self, request: Request<proto::ForwardRequest>) -> Answer<proto::ForwardResponse> {
        let (speaker, request) = open(request)?;
        self.admit(&speaker, request.envelope.as_ref())?;
        let verb = request.verb.ok_or_else(|| garbled("no verb in it"))?;
        fault!(wait "serve.forward", error(e) => return Err(internal(e)));
        let desk = self.0.desk.get().ok_or_else(|| Status::unavailable("this member is starting"))?;
        let who = Who { name: request.who.chars().take(WHO_MAX).collect(), role: request.role };
        let passed = Passed { verb, by: speaker, who };
        Ok(Response::new(proto::ForwardResponse { answer: Some(desk(passed).await) }))
    }
}
