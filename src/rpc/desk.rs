//! Where operators' requests are answered: by the driver here, or by the leader's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

use super::passed;
use crate::config::reachable_address;
use crate::decide::cause::ASKED;
use crate::decide::{Answer, AskMode, Asker, Directive, Refusal, Roster, WhilePaused};
use crate::model::{Epoch, Member, Name, USUAL_PRIORITY, brief};
use crate::proto;
use crate::raft::{self, Group, Who};
use crate::refused::Refusals;
use crate::tls::Speaker;

/// What the driver is asked.
pub enum Query {
    Status(oneshot::Sender<proto::Status>),
    History(usize, oneshot::Sender<proto::History>),
    Transfer(Transfer, oneshot::Sender<Result<Answer, Refusal>>),
    Order(Wish, oneshot::Sender<Result<Answer, Refusal>>),
    Enlist(Plan, oneshot::Sender<Result<Answer, Refusal>>),
}

/// A change of the membership that somebody wants.
#[derive(Clone, Debug)]
pub struct Plan {
    pub what: Roster,
    pub while_paused: WhilePaused,
    pub wait: Duration,
}

/// A switchover that somebody wants.
#[derive(Clone, Debug)]
pub struct Transfer {
    pub to: Option<Name>,
    pub reason: String,
    pub mode: AskMode,
    pub while_paused: WhilePaused,
    pub by: Asker,
    pub wait: Duration,
}

/// An order that the group is to keep.
#[derive(Clone, Debug)]
pub struct Wish {
    pub what: Directive,
    pub while_paused: WhilePaused,
    pub wait: Duration,
}

/// An operator's request that failed.
#[derive(Clone, PartialEq, Debug)]
pub struct Failure(pub proto::Failure);

impl Failure {
    fn new(kind: &str, cause: impl Into<String>, next: impl Into<String>) -> Self {
        Self(proto::Failure { kind: kind.to_owned(), cause: cause.into(), next: next.into() })
    }

    /// `waits`: for what.
    fn starting(waits: Option<String>) -> Self {
        let waits = waits.map(|words| format!(": {words}")).unwrap_or_default();
        Self::new(
            "no-quorum",
            format!("this member belongs to no running group yet{waits}"),
            "start the other members with the same [[members]] list (a change of it: then systemctl restart vipd); vipctl doctor on this host examines this member",
        )
    }

    fn stopping() -> Self {
        Self::new("failed", "this member is stopping", "ask another member")
    }

    fn no_leader() -> Self {
        Self::new(
            "no-quorum",
            "no leader answers",
            "see which members run (vipctl status) and whether they reach each other; a majority is needed",
        )
    }
}

impl From<&Refusal> for Failure {
    fn from(refusal: &Refusal) -> Self {
        let kind = match refusal {
            Refusal::NoQuorum => "no-quorum",
            other if other.is_precondition() => "refused",
            _ => "failed",
        };
        Self::new(kind, refusal.to_string(), refusal.next())
    }
}

impl From<Failure> for tonic::Status {
    fn from(failure: Failure) -> Self {
        let code = match failure.0.kind.as_str() {
            "usage" => tonic::Code::InvalidArgument,
            "refused" => tonic::Code::FailedPrecondition,
            "no-quorum" => tonic::Code::Aborted,
            _ => tonic::Code::Internal,
        };
        tonic::Status::with_details(code, failure.0.cause.clone(), failure.0.encode_to_vec().into())
    }
}

/// How long the leader may take to answer for the group before this member answers alone.
const ASK_LEADER: Duration = Duration::from_millis(1000);

/// How long a member may take to examine itself: three rounds of calls to EC2 of a second each, and its files.
const EXAMINATION: Duration = Duration::from_millis(3500);

/// How long a switchover is waited for where the request does not say, and at most.
const USUAL_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

fn wait(wait_ms: u64) -> Duration {
    match wait_ms {
        0 => USUAL_WAIT,
        ms => Duration::from_millis(ms).min(LONGEST_WAIT),
    }
}

fn while_paused(force: bool) -> WhilePaused {
    if force { WhilePaused::Move } else { WhilePaused::Refuse }
}

fn member(text: &str) -> Result<Name, Failure> {
    text.parse().map_err(|e| {
        Failure::new("refused", format!("no member is named that: {e}"), "vipctl status lists the members")
    })
}

fn directive(request: &proto::OrderRequest) -> Result<Directive, Failure> {
    use proto::order_request::Order;
    match request.order() {
        Order::Drain => Ok(Directive::Drain(member(&request.member)?)),
        Order::Undrain => Ok(Directive::Undrain(member(&request.member)?)),
        Order::Pause => Ok(Directive::Pause),
        Order::Resume => Ok(Directive::Resume),
        Order::Unspecified => Err(Failure::new(
            "usage",
            "this vipd does not know that order",
            "compare vipctl --version with the version that vipctl status shows",
        )),
    }
}

/// What a member can find out about itself and its surroundings: the port behind which the doctor works.
pub trait Examiner: Send + Sync + 'static {
    /// The least AWS policies for this member's configuration. `status`: its own view.
    fn iam_policies(&self, status: proto::Status) -> BoxFuture<'_, proto::IamPolicies>;

    /// What would make the next failover onto this member fail. `status`: its own view.
    fn examine(&self, status: proto::Status) -> BoxFuture<'_, Vec<proto::Finding>>;

    /// What this member waits for while it belongs to no group.
    fn waits(&self) -> String;

    /// The same of a member that belongs to no group, and what it waits for.
    fn examine_alone(&self) -> BoxFuture<'_, proto::Diagnosis>;

    /// What would make the next failover fail, by the whole picture. `answered`: who examined itself.
    fn examine_group(&self, status: &proto::Status, answered: &BTreeSet<String>) -> Vec<proto::Finding>;
}

fn newcomer(newcomer: Option<&proto::Newcomer>) -> Result<Member, Failure> {
    let usage = |cause: String, next: &str| Failure::new("usage", cause, next);
    let next = "vipctl member add NAME --peer HOST:PORT";
    let n = newcomer.ok_or_else(|| usage("no new member is named".to_owned(), next))?;
    let address = |key: &str, text: &str| {
        let wrong =
            || usage(format!("{key} \"{}\" is no HOST:PORT that others can reach", brief(text)), next);
        reachable_address(text).ok_or_else(wrong)
    };
    Ok(Member {
        name: n.name.parse().map_err(|e: crate::model::ParseError| usage(e.to_string(), next))?,
        peer: address("peer", &n.peer)?,
        admin: n.admin.as_deref().map(|text| address("admin", text)).transpose()?,
        zone: None,
        priority: n.priority.unwrap_or(USUAL_PRIORITY),
        witness: n.witness,
    })
}

/// `None`: nothing is to change.
fn roster(request: &proto::MembersRequest) -> Result<Option<Roster>, Failure> {
    use proto::members_request::Change;
    Ok(Some(match request.change() {
        Change::List => return Ok(None),
        Change::Add => Roster::Add(newcomer(request.newcomer.as_ref())?),
        Change::Promote => Roster::Promote(member(&request.member)?),
        Change::Remove => Roster::Remove(member(&request.member)?),
        Change::Replace => {
            let (old, new) = (member(&request.member)?, newcomer(request.newcomer.as_ref())?);
            Roster::Replace { old, new }
        }
        Change::Unspecified => {
            return Err(Failure::new(
                "usage",
                "this vipd does not know that change of the members",
                "compare vipctl --version with the version that vipctl status shows",
            ));
        }
    }))
}

/// The way to the driver. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    queries: mpsc::Sender<Query>,
    group: tokio::sync::watch::Receiver<Option<Group>>,
    examiner: Arc<OnceLock<Arc<dyn Examiner>>>,
    /// Who asks.
    who: Arc<Who>,
    /// Of what other members pass on.
    refusals: Arc<Refusals>,
}

impl Desk {
    pub fn new(queries: mpsc::Sender<Query>, group: tokio::sync::watch::Receiver<Option<Group>>) -> Self {
        Self { queries, group, examiner: Arc::default(), who: Arc::default(), refusals: Arc::default() }
    }

    /// The same, for somebody: whoever answers in the end is told who asks.
    pub fn asked_by(&self, who: Option<&Speaker>) -> Self {
        Self { who: Arc::new(who.map(Who::from).unwrap_or_default()), ..self.clone() }
    }

    /// Who examines this member. Set once.
    pub fn set_examiner(&self, examiner: Arc<dyn Examiner>) {
        let _ = self.examiner.set(examiner);
    }

    fn examiner(&self) -> Result<&dyn Examiner, Failure> {
        self.examiner.get().map(AsRef::as_ref).ok_or_else(|| self.starting())
    }

    fn starting(&self) -> Failure {
        Failure::starting(self.examiner.get().map(|examiner| examiner.waits()))
    }

    /// Every member's examination of itself, and what the whole picture shows; of one without a group, its own.
    pub async fn doctor(&self) -> Result<proto::Diagnosis, Failure> {
        let group = self.group.borrow().clone();
        let Some(group) = group else { return Ok(self.examiner()?.examine_alone().await) };
        let others = group.others().into_iter().map(|name| {
            let group = group.clone();
            async move {
                let verb = raft::Verb::Examine(proto::ExamineRequest {});
                match group.ask(&name, verb, &self.who, EXAMINATION).await {
                    Some(raft::Answer::Findings(answer)) => Some(answer),
                    Some(_) | None => None,
                }
            }
        });
        let (mine, others) = tokio::join!(self.examine(), futures_util::future::join_all(others));
        let status = self.status(false).await?;
        let all = others.into_iter().flatten().chain([mine?]);
        let all: BTreeMap<_, _> = all.map(|answer| (answer.member, answer.findings)).collect();
        let answered = all.keys().cloned().collect();
        let group = self.examiner()?.examine_group(&status, &answered);
        let findings = group.into_iter().chain(all.into_values().flatten()).collect();
        Ok(proto::Diagnosis { cluster: status.cluster, findings })
    }

    async fn examine(&self) -> Result<proto::Findings, Failure> {
        let status = self.ask(Query::Status).await?;
        let examiner = self.examiner()?;
        Ok(proto::Findings { member: status.seen_by.clone(), findings: examiner.examine(status).await })
    }

    pub async fn iam_policies(&self) -> Result<proto::IamPolicies, Failure> {
        let status = self.ask(Query::Status).await?;
        Ok(self.examiner()?.iam_policies(status).await)
    }

    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, Failure> {
        if self.group.borrow().is_none() {
            return Err(self.starting());
        }
        let (tx, rx) = oneshot::channel();
        fault!(wait "rpc.query");
        self.queries.send(query(tx)).await.map_err(|_| Failure::stopping())?;
        rx.await.map_err(|_| Failure::stopping())
    }

    async fn forward(&self, verb: raft::Verb, deadline: Duration) -> Option<raft::Answer> {
        let group = self.group.borrow().clone()?;
        group.forward(verb, &self.who, deadline).await
    }

    /// The leader's picture where it answers, else this member's.
    pub async fn status(&self, local: bool) -> Result<proto::Status, Failure> {
        if !local {
            let verb = raft::Verb::Status(proto::StatusRequest { local: true });
            if let Some(raft::Answer::Status(status)) = self.forward(verb, ASK_LEADER).await {
                return Ok(status);
            }
        }
        self.ask(Query::Status).await
    }

    pub async fn history(&self, limit: u32) -> Result<proto::History, Failure> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.ask(|tx| Query::History(limit, tx)).await
    }

    /// A switchover, by the leader.
    pub async fn transfer(
        &self,
        request: proto::TransferLeaderRequest,
    ) -> Result<proto::TransferLeaderResponse, Failure> {
        match self.transfer_here(&request).await {
            Err(Undone::NotLeader) => {}
            Err(Undone::Failed(failure)) => return Err(failure),
            Ok(response) => return Ok(response),
        }
        let deadline = wait(request.wait_ms) + ASK_LEADER;
        match self.forward(raft::Verb::Transfer(request), deadline).await {
            Some(raft::Answer::Transfer(response)) => Ok(response),
            Some(raft::Answer::Failure(failure)) => Err(Failure(failure)),
            Some(
                raft::Answer::Status(_)
                | raft::Answer::Orders(_)
                | raft::Answer::Findings(_)
                | raft::Answer::Members(_),
            )
            | None => Err(Failure::no_leader()),
        }
    }

    /// An order, kept by the group once the leader has written it down.
    pub async fn order(&self, request: proto::OrderRequest) -> Result<proto::StandingOrders, Failure> {
        match self.order_here(&request).await {
            Err(Undone::NotLeader) => {}
            Err(Undone::Failed(failure)) => return Err(failure),
            Ok(response) => return Ok(response),
        }
        let deadline = wait(request.wait_ms) + ASK_LEADER;
        match self.forward(raft::Verb::Order(request), deadline).await {
            Some(raft::Answer::Orders(response)) => Ok(response),
            Some(raft::Answer::Failure(failure)) => Err(Failure(failure)),
            Some(
                raft::Answer::Status(_)
                | raft::Answer::Transfer(_)
                | raft::Answer::Findings(_)
                | raft::Answer::Members(_),
            )
            | None => Err(Failure::no_leader()),
        }
    }

    /// Who is in the group, after the change that is asked for.
    pub async fn members(&self, request: proto::MembersRequest) -> Result<proto::Members, Failure> {
        self.members_for(request, Asked::ByAnOperator).await
    }

    async fn members_for(
        &self,
        request: proto::MembersRequest,
        asked: Asked,
    ) -> Result<proto::Members, Failure> {
        let moved = match (self.members_here(&request).await, asked) {
            (Ok(Here::Done(members)), _) => return Ok(members),
            // This member was the owner and is to leave: the rest is its successor's.
            (Ok(Here::HandedOver(moved)), _) => moved,
            (Err(Undone::NotLeader), Asked::ByAnOperator) => None,
            (Err(Undone::NotLeader), Asked::ByAMember) => return Err(Failure::no_leader()),
            (Err(Undone::Failed(failure)), _) => return Err(failure),
        };
        let deadline = wait(request.wait_ms) + ASK_LEADER;
        match self.forward(raft::Verb::Members(request), deadline).await {
            Some(raft::Answer::Members(members)) => {
                Ok(proto::Members { last_move: moved.or(members.last_move.clone()), ..members })
            }
            Some(raft::Answer::Failure(failure)) => Err(Failure(failure)),
            Some(
                raft::Answer::Status(_)
                | raft::Answer::Transfer(_)
                | raft::Answer::Orders(_)
                | raft::Answer::Findings(_),
            )
            | None => Err(Failure::no_leader()),
        }
    }

    async fn members_here(&self, request: &proto::MembersRequest) -> Result<Here, Undone> {
        if let Some(what) = roster(request)? {
            let (while_paused, wait) = (while_paused(request.force), wait(request.wait_ms));
            match self.ask(|tx| Query::Enlist(Plan { what, while_paused, wait }, tx)).await? {
                Ok(Answer::Moved(epoch)) => return Ok(Here::HandedOver(self.made(epoch).await?)),
                Ok(Answer::Kept | Answer::Would { .. }) => {}
                Err(Refusal::NotLeader) => return Err(Undone::NotLeader),
                Err(refusal) => return Err(Undone::Failed(Failure::from(&refusal))),
            }
        }
        let status = self.status(request.change() != proto::members_request::Change::List).await?;
        Ok(Here::Done(proto::Members {
            members: status.members,
            changing: status.changing,
            warnings: status.warnings,
            last_move: None,
        }))
    }

    async fn order_here(&self, request: &proto::OrderRequest) -> Result<proto::StandingOrders, Undone> {
        let wish = Wish {
            what: directive(request)?,
            while_paused: while_paused(request.force),
            wait: wait(request.wait_ms),
        };
        let last_move = match self.ask(|tx| Query::Order(wish, tx)).await? {
            Ok(Answer::Moved(epoch)) => self.made(epoch).await?,
            Ok(Answer::Kept | Answer::Would { .. }) => None,
            Err(Refusal::NotLeader) => return Err(Undone::NotLeader),
            Err(refusal) => return Err(Undone::Failed(Failure::from(&refusal))),
        };
        let status = self.ask(Query::Status).await?;
        Ok(proto::StandingOrders {
            drained: status.members.into_iter().filter(|m| m.drained).map(|m| m.name).collect(),
            paused: status.paused,
            paused_since: status.paused_since,
            last_move,
        })
    }

    async fn made(&self, epoch: Epoch) -> Result<Option<proto::Move>, Failure> {
        Ok(self.history(0).await?.moves.into_iter().find(|m| m.epoch == epoch.0))
    }

    async fn transfer_here(
        &self,
        request: &proto::TransferLeaderRequest,
    ) -> Result<proto::TransferLeaderResponse, Undone> {
        let transfer = Transfer {
            to: request.to.as_deref().map(member).transpose()?,
            reason: ASKED.to_owned(),
            mode: if request.dry_run { AskMode::DryRun } else { AskMode::Do },
            while_paused: while_paused(request.force),
            by: Asker::Operator,
            wait: wait(request.wait_ms),
        };
        let answer = self.ask(|tx| Query::Transfer(transfer, tx)).await?;
        match answer {
            Ok(Answer::Moved(epoch)) => {
                let last_move = self.made(epoch).await?;
                Ok(proto::TransferLeaderResponse { last_move, ..Default::default() })
            }
            // No answer to an ask for a move.
            Ok(Answer::Kept) => Ok(proto::TransferLeaderResponse::default()),
            Ok(Answer::Would { from, to }) => {
                let would = proto::Move {
                    kind: "switchover".to_owned(),
                    from: from.map(|n| n.to_string()),
                    to: to.to_string(),
                    reason: ASKED.to_owned(),
                    ..proto::Move::default()
                };
                let (rights, not_asked) = self.rights(&to).await?;
                let last_move = Some(would);
                Ok(proto::TransferLeaderResponse { last_move, dry_run: true, rights, not_asked })
            }
            Err(Refusal::NotLeader) => Err(Undone::NotLeader),
            Err(refusal) => Err(Undone::Failed(Failure::from(&refusal))),
        }
    }

    /// What EC2 said last of a member's right to change each table, and the tables it was not asked about.
    async fn rights(&self, name: &Name) -> Result<(Vec<proto::Right>, Vec<String>), Failure> {
        let status = self.ask(Query::Status).await?;
        let member = status.members.into_iter().find(|m| m.name == name.as_str()).unwrap_or_default();
        let asked = |table: &String| member.rights.iter().any(|right| right.route_table == *table);
        let tables = status.vips.into_iter().next().map(|vip| vip.routes).unwrap_or_default();
        let not_asked = tables.into_iter().map(|r| r.route_table).filter(|table| !asked(table)).collect();
        Ok((member.rights, not_asked))
    }

    /// What another member passed on: answered here or not at all.
    pub async fn answer(&self, passed: raft::Passed) -> raft::Answer {
        if let Err(denied) = passed::admit(&passed, &self.refusals) {
            return raft::Answer::Failure(proto::Failure::from(&denied));
        }
        // What is left of it for the next leader goes on in the same name.
        Self { who: Arc::new(passed.who), ..self.clone() }.carry_out(passed.verb).await
    }

    async fn carry_out(&self, verb: raft::Verb) -> raft::Answer {
        match verb {
            raft::Verb::Status(_) => match self.status(true).await {
                Ok(status) => raft::Answer::Status(status),
                Err(Failure(failure)) => raft::Answer::Failure(failure),
            },
            raft::Verb::Examine(_) => match self.examine().await {
                Ok(findings) => raft::Answer::Findings(findings),
                Err(Failure(failure)) => raft::Answer::Failure(failure),
            },
            raft::Verb::Transfer(request) => match self.transfer_here(&request).await {
                Ok(response) => raft::Answer::Transfer(response),
                Err(Undone::NotLeader) => raft::Answer::Failure(Failure::no_leader().0),
                Err(Undone::Failed(Failure(failure))) => raft::Answer::Failure(failure),
            },
            raft::Verb::Order(request) => match self.order_here(&request).await {
                Ok(orders) => raft::Answer::Orders(orders),
                Err(Undone::NotLeader) => raft::Answer::Failure(Failure::no_leader().0),
                Err(Undone::Failed(Failure(failure))) => raft::Answer::Failure(failure),
            },
            raft::Verb::Members(request) => match self.members_for(request, Asked::ByAMember).await {
                Ok(members) => raft::Answer::Members(members),
                Err(Failure(failure)) => raft::Answer::Failure(failure),
            },
        }
    }
}

#[cfg(any(test, fuzzing))]
pub mod fuzz;
/// Who asks: what a member passed on is not passed on to another leader.
enum Asked {
    ByAnOperator,
    ByAMember,
}

enum Here {
    Done(proto::Members),
    HandedOver(Option<proto::Move>),
}

enum Undone {
    NotLeader,
    Failed(Failure),
}

impl From<Failure> for Undone {
    fn from(failure: Failure) -> Self {
        Undone::Failed(failure)
    }
}
